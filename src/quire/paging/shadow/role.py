"""What a shadow page stands for besides its guest frame: the role, without which an entry cannot be right.

A guest table that is reached in two ways, or under two settings of the control registers, has two shadows. Roles hold
what the entries of a page depend on, and nothing that they do not, so that pages are shared where they can be.
"""

from typing import NamedTuple

from quire.arch import PTE

__all__ = ["ALL_ACCESS", "Role", "combine"]

_RW, _US, _XD = PTE.mask("RW"), PTE.mask("US"), PTE.mask("XD")
_GRANTED = _RW | _US

#: Access of a page that nothing above restricts.
ALL_ACCESS = _GRANTED


class Role(NamedTuple):
    """`level` is 1 for a page of leaves, `mode` the guest's :class:`quire.arch.PagingMode`.

    `access` is what all guest entries above allow: RW and US granted, XD denied, by the bits of an entry. `smep` and
    `smap` count only without CR0.WP: then a supervisor's write makes an entry that depends on them. A `direct` page
    shadows no table: its entries map consecutive guest frames, the parts of a large guest page, or all of memory
    without paging. `quadrant` says which part of a table of 1,024 entries the 512 of the page are;
    `pse` whether a directory of those may map pages of 4 MiB.
    """

    mode: int
    level: int
    access: int
    wp: bool
    nxe: bool
    smep: bool
    smap: bool
    direct: bool = False
    quadrant: int = 0
    pse: bool = False


def combine(access: int, entry: int, *, nxe: bool) -> int:
    """Return the access that is left below guest `entry`, of what `access` allowed above it (SDM 3A §4.6)."""
    denied = (access | entry) & _XD if nxe else 0
    return access & entry & _GRANTED | denied
