"""Configurations of a guest's translation, as a comparison lists them: an Mmu and the pages of each dimension, on a
processor where there are several.

Written ``4K/2M``: pages of the guest's tables, then pages of what backs the guest. Native has no second dimension, so
pairs that differ in it alone are one native configuration. Fails with MisuseError for what Quire cannot run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from quire.arch import PAGES, CpuProfile, profile_by_name
from quire.errors import MisuseError, did_you_mean
from quire.guest.run_spec import RunSpec
from quire.machine import MMUS

__all__ = ["Configuration", "configurations", "parse_mmus", "parse_pages", "parse_profiles"]

_HOST_PAGES = tuple(PAGES)
_GUEST_PAGES = _HOST_PAGES[:2]
_NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One Mmu with pages by name; `host_page` is None under native.

    `profile` is the processor where a comparison has several, None where it is that of the run.
    """

    mmu: str
    guest_page: str
    host_page: str | None
    profile: CpuProfile | None = None

    @property
    def name(self) -> str:
        """The name in reports: ``ept 4K/2M``, ``native 4K``, ``zen4 native 4K``."""
        return self.short_name if self.profile is None else f"{self.profile.name} {self.short_name}"

    @property
    def short_name(self) -> str:
        """The name without the processor."""
        pages = self.guest_page if self.host_page is None else f"{self.guest_page}/{self.host_page}"
        return f"{self.mmu} {pages}"

    def apply(self, spec: RunSpec) -> RunSpec:
        """Return the run that `spec` describes under this Mmu with these pages. Raises MisuseError if it cannot be."""
        guest_page, host_page = PAGES[self.guest_page], PAGES[self.host_page or self.guest_page]
        config = replace(
            spec.config,
            mmu=self.mmu,
            guest_page=guest_page,
            host_page=host_page,
            profile=self.profile or spec.config.profile,
        )
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


def parse_profiles(text: str) -> list[CpuProfile]:
    """Return the processors of a list such as ``skylake-x,zen4``, each once, in that order.

    Raises MisuseError for one that is not there or two of one name, FormatError for a wrong file.
    """
    found = [profile_by_name(name) for name in dict.fromkeys(part.strip() for part in text.split(","))]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise MisuseError(f"--profile {text} names {name} twice: give each processor once")
    return found


def configurations(
    mmus: Sequence[str], pages: Sequence[tuple[str, str]], profiles: Sequence[CpuProfile] = ()
) -> list[Configuration]:
    """Return every Mmu with every pair of pages, each once: the native ones first, then pair by pair.

    With several `profiles` it returns those of the first, then those of the next.
    """
    if len(profiles) > 1:
        return [replace(one, profile=of) for of in profiles for one in configurations(mmus, pages)]
    native = [Configuration(_NATIVE, guest, None) for guest, _ in pages if _NATIVE in mmus]
    others = [Configuration(mmu, guest, host) for guest, host in pages for mmu in mmus if mmu != _NATIVE]
    return [*dict.fromkeys(native), *others]
