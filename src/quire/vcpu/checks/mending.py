"""What would mend a broken VM-entry rule: the bits that offend, the value that satisfies, the capability that decides.

The rule itself is asked: a value that satisfies it is brought back towards the given one, bit by bit, as long as the
rule holds. What is left of the difference is what offends, whatever the rule looks at (SDM 3C §26).
"""

from collections.abc import Callable, Iterator, Mapping

from quire.arch import VMCS_LAYOUTS, WORD, CpuProfile, field_by_name
from quire.arch.known_processor import CAPABILITIES, Capability
from quire.vcpu.checks.partial import BytesSource, try_rule
from quire.vcpu.checks.rule import EntryRule
from quire.vcpu.process_state import process_state

__all__ = ["deciding", "mend", "name_bits"]


def mend(
    rule: EntryRule, given: Mapping[str, int], profile: CpuProfile, memory: BytesSource | None
) -> int | None:
    """Return the value of the rule's field nearest to the given one with which it holds; None if none was found."""
    value, bits = given[rule.field], field_by_name(rule.field).bits

    def holds(candidate: int) -> bool:
        return try_rule(rule, {**given, rule.field: candidate}, profile, memory).certain is True

    for n in range(bits):
        if holds(value ^ 1 << n):
            return value ^ 1 << n
    for change in (1 << n | 1 << m for n in range(bits) for m in range(n)):
        if holds(value ^ change):
            return value ^ change
    found = [_nearest(seed, value, holds) for seed in _seeds(rule.field, value, bits, profile) if holds(seed)]
    return min(found, key=lambda one: ((one ^ value).bit_count(), one), default=None)


def _seeds(field: str, value: int, bits: int, profile: CpuProfile) -> Iterator[int]:
    """Yield values that satisfy many rules: none, all, default-1 bits, canonical ones, those of a sound VMCS."""
    everything = (1 << bits) - 1
    yield 0
    yield everything
    layout = VMCS_LAYOUTS.get(field)
    if layout is not None:
        yield layout.default1_mask
    for width in (48, 57):
        low = value & (1 << width) - 1
        yield low | (WORD << width & everything if low >> (width - 1) else 0)
    sound = process_state(profile, vpid=1).get(field)
    if sound is not None:
        yield sound


def _nearest(seed: int, value: int, holds: Callable[[int], bool]) -> int:
    """Return `seed` with as many bits of `value` as the rule allows, the high ones first."""
    for n in reversed(range((seed ^ value).bit_length())):
        if (seed ^ value) >> n & 1 and holds(seed ^ 1 << n):
            seed ^= 1 << n
    return seed


def deciding(
    rule: EntryRule, given: Mapping[str, int], profile: CpuProfile, memory: BytesSource | None
) -> tuple[Capability, ...]:
    """Return the capabilities of which any alone would make the broken rule hold, were the processor to have it."""
    return tuple(
        capability
        for capability in CAPABILITIES
        if try_rule(rule, given, capability.most(profile), memory).certain is True
    )


def name_bits(field: str, bits: int) -> str:
    """Return set `bits` of a field by number and name: ``bit 11 (UMIP)``, ``bits 63:52``; nothing for a mere number."""
    layout, width = VMCS_LAYOUTS.get(field), field_by_name(field).bits
    if layout is None:
        return _runs(bits) if width == 64 else ""
    named, rest = [], bits
    for one in layout.fields:
        if bits & one.mask and one.kind.value == "field":
            named.append(f"{_runs(bits & one.mask)} ({one.name})")
            rest &= ~one.mask
    return ", ".join([*named, *([_runs(rest)] if rest else [])])


def _runs(bits: int) -> str:
    """Return numbers of set bits, neighbours as a range: ``bits 63:52, 8``."""
    runs, top = [], bits.bit_length() - 1
    while top >= 0:
        low = top
        while low and bits >> (low - 1) & 1:
            low -= 1
        runs.append(f"{top}:{low}" if top != low else f"{top}")
        top = (bits & (1 << low) - 1).bit_length() - 1
    return f"bit{'s' * (len(runs) > 1 or ':' in runs[0])} {', '.join(runs)}"
