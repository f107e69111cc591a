"""The buddy system compiled: free blocks found, split and joined in the bitmaps that `layout` describes."""

__all__: list[str] = []
