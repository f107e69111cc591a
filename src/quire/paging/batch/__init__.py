"""Many walks at once: a batch keeps sixty-four in flight, so that their memory accesses overlap.

Contract: the same answers and the same flags in memory as one walk after another in the order of the addresses, but for
the references, which a batch does not list. :func:`walk_many` is the call; it compiles on first use.
"""

from quire.paging.batch.walk_many import walk_many

__all__ = ["walk_many"]
