"""A machine's state outside of it: memory images, written and read."""
