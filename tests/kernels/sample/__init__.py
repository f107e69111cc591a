"""Kernels that no room has, for tests of how code is stored."""
