"""Walks by node for callers that have arrays; only the outermost kernel takes arrays (see the paging room)."""
