"""Random code of loops whose bodies access memory in every way that an engine may count on its own."""

import random
import struct
from dataclasses import dataclass

__all__ = ["DATA", "RandomCode"]

#: Where the code's data lies: 2 MiB of 4 KiB pages, then 8 MiB of 2 MiB pages, by the guest's tables.
DATA = 0x400000
_SMALL, _LARGE = 2 << 20, 8 << 20

#: Of [rbx + disp8], what comes before the displacement: loads, stores, both; lengths of 1 to 16 bytes.
_LOADS = ("488b43", "8b43", "668b43", "8a43", "0fb743", "480fbe43", "480f4443", "48f763", "483b43")
_VECTORS = ("0f1043", "f20f1043", "0f1143", "f20f1143", "dd43", "dd5b")
_STORES = ("48894b", "894b", "66894b", "884b", "0f9443")
_BOTH = ("48014b", "ff43", "48874b", "f0480fc14b", "480fb14b", "48d163", "0fab4b", "48f75b")
#: Of [r13], which is a multiple of 16: FXSAVE, LOCK CMPXCHG16B, MOVAPS.
_ALIGNED = ("410fae4500", "f0490fc74d00", "410f284500", "410f294500")
#: Behind MOV RDI, RBX and MOV RSI, RBX: strings of RCX elements, forwards.
_STRINGS = ("f348ab", "f3a4", "f348a5", "f2ae", "f3a6", "48ad", "aa")
_WITHOUT = ("48ffc1", "4801c8", "480fafc1", "d1e8", "99", "90")


@dataclass(frozen=True, slots=True)
class RandomCode:
    """The code of one seed, ended by HLT."""

    seed: int

    def image(self, segments: int = 12) -> bytes:
        """Return the machine code: so many loops, one behind the other."""
        chosen = random.Random(self.seed)
        return b"".join(self._segment(chosen) for _ in range(segments)) + b"\xf4"

    def _segment(self, chosen: random.Random) -> bytes:
        """Return a loop over a window of pages, with a stride of its own."""
        window = 1 << chosen.choice((12, 14, 17, 20, 21))
        large = chosen.random() < 0.4
        begin, size = (DATA + _SMALL, _LARGE - _SMALL) if large else (DATA, _SMALL)
        base = begin + chosen.randrange(0, size - window + 1, window)
        stride = chosen.choice((8, 24, 64, 4096, 4096 + 8, 3 * 4096 + 4, 16 * 4096, 17 * 4096 + 60))
        body = b"".join(self._instruction(chosen) for _ in range(chosen.randint(2, 14)))
        head = b"\x48\xc7\xc3" + struct.pack("<i", base + chosen.randrange(64))  # mov rbx, base + some
        # add rbx, stride; and rbx, window - 1; or rbx, base: what is added to a window's end begins it anew
        turn = b"\x48\x81\xc3" + struct.pack("<i", stride)
        turn += b"\x48\x81\xe3" + struct.pack("<i", window - 1)
        turn += b"\x48\x81\xcb" + struct.pack("<i", base)
        aligned = bytes.fromhex("4989dd 4983e5f0")  # mov r13, rbx; and r13, -16
        count = b"\x41\xbe" + struct.pack("<i", chosen.choice((1, 3, 40, 150)))  # mov r14d, passes
        inside = aligned + body + turn + bytes.fromhex("41ffce")  # dec r14d
        return head + count + inside + b"\x0f\x85" + struct.pack("<i", -len(inside) - 6)

    def _instruction(self, chosen: random.Random) -> bytes:
        kind = chosen.randrange(11)
        displacement = bytes([chosen.randrange(0x80)])
        if kind < 4:
            return bytes.fromhex(chosen.choice(_LOADS + _STORES + _BOTH)) + displacement
        if kind == 4:
            return bytes.fromhex(chosen.choice(_VECTORS)) + displacement
        if kind == 5:
            return bytes.fromhex(chosen.choice(_ALIGNED))
        if kind == 6:
            count = b"\xb9" + struct.pack("<i", chosen.randrange(20))  # mov ecx, elements
            return bytes.fromhex("4889df 4889de") + count + bytes.fromhex(chosen.choice(_STRINGS))
        if kind == 7:
            return bytes.fromhex(
                chosen.choice(("5058", "508f4308", "9c9d", "c8100000c9", "e8000000004883c408"))
            )
        if kind == 8:  # cmp al, cl; jcc over a store
            return bytes.fromhex("38c8") + bytes([0x70 + chosen.randrange(16), 4]) + bytes.fromhex("48894b08")
        return bytes.fromhex(chosen.choice(_WITHOUT))
