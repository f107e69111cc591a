"""Batches compiled: many blocks taken and given back at once, frames moved into caches and out of them."""

__all__: list[str] = []
