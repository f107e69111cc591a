"""Quire: a virtual-memory hypervisor in Python. The rooms are the packages below; see docs/architecture.md."""

__version__ = "0.1.0"
