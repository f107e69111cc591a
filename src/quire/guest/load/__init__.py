"""How a program is found, read and laid out before its first instruction."""
