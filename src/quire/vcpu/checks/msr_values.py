"""What may be in the MSRs that VM entries and VM exits load, wherever the value comes from.

The same conditions hold of the guest-state field, of the host-state field and of an entry of an MSR list, so they
are stated here once (SDM 3C §26.2.2 and SDM 3C §26.3.1.1, of FRED's MSRs FRED §9).
"""

from collections.abc import Callable

from quire.arch import (
    BNDCFGS,
    DEBUGCTL,
    EFER,
    FRED_CONFIG,
    LBR_CTL,
    PAGE_SIZE,
    PERF_GLOBAL_CTRL,
    RTIT_CTL,
    S_CET,
    is_canonical,
)

__all__ = ["VALID", "is_pat"]

_PAT_TYPES = (0, 1, 4, 5, 6, 7)


def is_pat(value: int) -> bool:
    """Return whether each byte of IA32_PAT `value` is a memory type: 0, 1, 4, 5, 6 or 7 (SDM 3A §11.12.2)."""
    return all(one in _PAT_TYPES for one in value.to_bytes(8, "little"))


def _is_s_cet(value: int, width: int) -> bool:
    both = S_CET.mask("SUPPRESS", "TRACKER")
    return not value & S_CET.reserved_mask and value & both != both and is_canonical(value, width)


def _is_bndcfgs(value: int, width: int) -> bool:
    return not value & BNDCFGS.reserved_mask and is_canonical(value & -PAGE_SIZE, width)


def _is_fred_config(value: int, width: int) -> bool:
    return not value & FRED_CONFIG.reserved_mask and is_canonical(value & -PAGE_SIZE, width)


def _aligned(size: int) -> Callable[[int, int], bool]:
    return lambda value, width: not value & (size - 1) and is_canonical(value, width)


def _low_half(value: int, _: int) -> bool:
    return not value >> 32


#: By the name of the MSR without its prefix: whether a value, on a processor with linear addresses so wide, is valid.
VALID: dict[str, Callable[[int, int], bool]] = {
    "sysenter_esp": is_canonical,
    "sysenter_eip": is_canonical,
    "debugctl": lambda value, _: not value & DEBUGCTL.reserved_mask,
    "pat": lambda value, _: is_pat(value),
    "efer": lambda value, _: not value & EFER.reserved_mask,
    "perf_global_ctrl": lambda value, _: not value & PERF_GLOBAL_CTRL.reserved_mask,
    "bndcfgs": _is_bndcfgs,
    "rtit_ctl": lambda value, _: not value & RTIT_CTL.reserved_mask,
    "lbr_ctl": lambda value, _: not value & LBR_CTL.reserved_mask,
    "pkrs": _low_half,
    "s_cet": _is_s_cet,
    "interrupt_ssp_table_address": is_canonical,
    "fred_config": _is_fred_config,
    **{f"fred_rsp{level}": _aligned(64) for level in (1, 2, 3)},
    **{f"fred_ssp{level}": _aligned(8) for level in (1, 2, 3)},
}
