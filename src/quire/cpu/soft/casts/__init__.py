"""What hooks do with the pointer array: each of its void pointers becomes a pointer to what it points to."""
