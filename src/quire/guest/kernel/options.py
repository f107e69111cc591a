"""How a guest of Quire's own kernel runs, as a record."""

from dataclasses import dataclass

from quire.guest.mm.commons import LargePages

__all__ = ["GuestOptions"]


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """How a guest runs. `hwcap` is CPUID.1:EDX, `cwd` where it starts, `seed` that of its randomness.

    `host_clock` gives it the host's time, by default its own is virtual. Absolute names are looked up under `root`
    first. With `schedule` turns are those of the schedule of that number. `large`
    says where the kernel maps large pages, by default wherever the machine's largest page allows it.
    """

    seed: int
    sandbox: bool
    cwd: str
    hwcap: int
    aslr: bool = True
    host_clock: bool = False
    root: str = ""
    schedule: int | None = None
    large: LargePages | None = None
