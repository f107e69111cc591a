"""Quire as the kernel of process guests: the process, its signals, and the machine below it."""
