"""Quire's own conformance suites, one module an oracle; each offers ``SUITES``."""

__all__: list[str] = []
