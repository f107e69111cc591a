"""Host-physical memory: its frames, who owns them, and what they contain.

The room's contract. ``HostMemory`` is the one array that is the host: a host-physical address is an offset in
it. A ``Pool`` gives its frames to owners and takes them back; every frame has exactly one owner at any time,
and ``Pool.audit`` proves it. A ``Claim`` sets frames aside, a ``FrameCache`` keeps some at hand. Numbers from
guests are checked here before they index anything.

Exceptions: MisuseError (a wrong argument), BackendError (the kernel refuses), OutOfFrames (nothing left: the
environment), UseAfterFree and InternalError (a bug; a frame or a record is not what it must be). After any of
them the memory and the pool are as before the call. Nothing depends on time or on the order of a dict. Not
thread-safe.
"""

from quire.memory.cache import FrameCache
from quire.memory.claim import Claim
from quire.memory.contents import Fill, UseAfterFree
from quire.memory.exhaustion import OutOfFrames
from quire.memory.host import FRAME_SHIFT, FRAME_SIZE, WORDS_PER_FRAME, HostMemory
from quire.memory.layout import MAX_ORDER
from quire.memory.owner import FREE_OWNER, Owner, OwnerKind, OwnerTable
from quire.memory.pool import Pool
from quire.memory.statistics import PoolStatistics

__all__ = (
    "FRAME_SHIFT",
    "FRAME_SIZE",
    "FREE_OWNER",
    "MAX_ORDER",
    "WORDS_PER_FRAME",
    "Claim",
    "Fill",
    "FrameCache",
    "HostMemory",
    "OutOfFrames",
    "Owner",
    "OwnerKind",
    "OwnerTable",
    "Pool",
    "PoolStatistics",
    "UseAfterFree",
)
