"""Configurations of a guest's translation, as a comparison lists them: an Mmu and the pages of each dimension.

Written ``4K/2M``: pages of the guest's tables, then pages of what backs the guest. Native has no second dimension, so
pairs that differ in it alone are one native configuration. Fails with MisuseError for what Quire cannot run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quire.arch import CpuProfile
from quire.errors import MisuseError, did_you_mean
from quire.machine import MMUS, GuestConfig
from quire.mmu import NumaConfig

__all__ = ["PAGES", "Configuration", "check_configurations", "configurations", "parse_mmus", "parse_pages"]

#: Page sizes by name.
PAGES = {"4K": 4 << 10, "2M": 2 << 20, "1G": 1 << 30}
_GUEST_PAGES = ("4K", "2M")
_HOST_PAGES = ("4K", "2M", "1G")
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

    def options(self) -> list[str]:
        """Return the options that make `quire run` run it."""
        options = ["--mmu", self.mmu, "--guest-page", self.guest_page]
        return options if self.host_page is None else [*options, "--host-page", self.host_page]


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


def check_configurations(
    asked: Sequence[Configuration], memory: int, profile: CpuProfile, numa: NumaConfig | None = None
) -> None:
    """Raise MisuseError if a guest of `memory` bytes on `profile` cannot be made under one of them."""
    for one in asked:
        host_page = one.host_page or one.guest_page
        GuestConfig(
            mmu=one.mmu,
            profile=profile,
            memory=memory,
            guest_page=PAGES[one.guest_page],
            host_page=PAGES[host_page],
            numa=numa,
        )
