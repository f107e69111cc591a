"""Configurations of a guest's translation, as a comparison lists them: an Mmu and the pages of each dimension.

Written ``4K/2M``: pages of the guest's tables, then pages of what backs the guest. Native has no second dimension, so
pairs that differ in it alone are one native configuration. Fails with MisuseError for what Quire cannot run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quire.arch import PAGES
from quire.errors import MisuseError, did_you_mean
from quire.guest.run_spec import RunSpec
from quire.machine import MMUS

__all__ = ["Configuration", "configurations", "parse_mmus", "parse_pages"]

_HOST_PAGES = tuple(PAGES)
_GUEST_PAGES = _HOST_PAGES[:2]
_NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One Mmu with pages by name; `host_page` is None under native."""

    mmu: str
    guest_page: str
    host_page: str | None

    @property
    def name(self) -> str:
        """The name in reports: ``ept 4K/2M``, ``native 4K``."""
        pages = self.guest_page if self.host_page is None else f"{self.guest_page}/{self.host_page}"
        return f"{self.mmu} {pages}"

    def apply(self, spec: RunSpec) -> RunSpec:
        """Return the run that `spec` describes under this Mmu with these pages. Raises MisuseError if it cannot be."""
        guest_page, host_page = PAGES[self.guest_page], PAGES[self.host_page or self.guest_page]
        config = replace(spec.config, mmu=self.mmu, guest_page=guest_page, host_page=host_page)
        return replace(spec, config=config)


def parse_pages(text: str) -> list[tuple[str, str]]:
    """Return the pairs of a list such as ``4K/4K,2M/1G``. Raises MisuseError that names the wrong one."""
    pairs = []
    for part in text.split(","):
        guest, slash, host = part.strip().upper().partition("/")
        if not slash or guest not in _GUEST_PAGES or host not in _HOST_PAGES:
            raise MisuseError(
                f"{part.strip()!r} is no pair of pages: give GUEST/HOST with a guest page of "
                f"{' or '.join(_GUEST_PAGES)} and a host page of {', '.join(_HOST_PAGES)}, for instance 4K/2M"
            )
        if (guest, host) not in pairs:
            pairs.append((guest, host))
    return pairs


def parse_mmus(text: str) -> list[str]:
    """Return the Mmus of a list such as ``native,ept``, in the order in which Quire lists them."""
    asked = [part.strip() for part in text.split(",")]
    for mmu in asked:
        if mmu not in MMUS:
            raise MisuseError(
                f"No Mmu is called {mmu!r}{did_you_mean(mmu, MMUS)}: there is {', '.join(MMUS)}"
            )
    return [mmu for mmu in MMUS if mmu in asked]


def configurations(mmus: Sequence[str], pages: Sequence[tuple[str, str]]) -> list[Configuration]:
    """Return every Mmu with every pair of pages, each once: the native ones first, then pair by pair."""
    native = [Configuration(_NATIVE, guest, None) for guest, _ in pages if _NATIVE in mmus]
    others = [Configuration(mmu, guest, host) for guest, host in pages for mmu in mmus if mmu != _NATIVE]
    return [*dict.fromkeys(native), *others]
