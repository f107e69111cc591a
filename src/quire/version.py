"""The version of Quire: lowest of all rooms, for every record names it."""

__all__ = ["__version__"]

__version__ = "0.1.0"
