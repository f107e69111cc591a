"""Secure memory: regions of host frames for secrets, closed while nobody uses them.

The sub-room's contract. A ``SecurePool`` gives ``SecureRegion``s of consecutive frames of a ``Pool`` (owner kind
SECURE), one guard frame before and behind each. A region that is not open is PROT_NONE: a stray access ends the
process with SIGSEGV. It is locked against swapping, left out of core dumps, filled with random bytes or zeros when
it is made, overwritten when it is freed, and its pages are authenticated: a change behind its back is ``Tampered`` at
the next use. ``seal`` and ``unseal`` keep a region in a file, encrypted.

What a model in Python cannot promise. Code in the same process can undo the protection, reads and writes the memfd
past it, and can find the keys among Python's objects. Bytes that were taken out of a view are Python's, and are copied
at will. Hibernation writes locked memory to disk, and so may a region whose lock was refused be swapped. The kernel,
root and a debugger see everything. Nothing here protects from side channels of the processor. A Cpu that maps the
whole of host memory (Unicorn, KVM) reads the same mapping: while a region is open, so could a guest that its tables
let there; while it is closed, Unicorn's access ends the process.

Exceptions: MisuseError, OutOfFrames, FormatError (a sealed file), BackendError (the kernel refuses, a package is
missing), Tampered. Whatever is raised, memory and pool are as before the call. Not thread-safe.
"""

from quire.memory.secure.integrity import Tampered
from quire.memory.secure.pool import SecurePool
from quire.memory.secure.region import Initial, SecureRegion
from quire.memory.secure.rights import Rights
from quire.memory.secure.sealing import seal, unseal

__all__ = ("Initial", "Rights", "SecurePool", "SecureRegion", "Tampered", "seal", "unseal")
