"""What a guest's processor does with the freedom that the manual gives it to cache translations."""

from enum import StrEnum

__all__ = ["CachingMode"]


class CachingMode(StrEnum):
    """How translations are cached. A correct guest under a correct hypervisor computes the same in each mode."""

    MODELLED = "modelled"  #: the TLBs of the profile are counted, what the guest gets is what its tables say
    RETAIN = "retain"  #: whatever may be kept is kept, and used, until an operation drops it
    EVICT = "evict"  #: an adversary, seeded, drops anything at any time
