"""MSRs of newer processors that say how addresses and events are read: encryption, PASID, user interrupts, FRED.

Models the names and places. Nothing in Quire is encrypted, shared by PASID or delivered by FRED.
"""

from quire.arch.layout import Layout, address, bit, bits, reserved

__all__ = ["FRED_CONFIG", "PASID", "TME_ACTIVATE", "TME_CAPABILITY", "UINTR_MISC", "UINTR_TT"]

TME_CAPABILITY = Layout(
    "TME_CAPABILITY",
    64,
    "ISE §TME",
    (
        bit(0, "aes_xts_128", "AES-XTS with 128-bit keys"),
        bit(1, "aes_xts_128_integrity", "AES-XTS with 128-bit keys and integrity"),
        bit(2, "aes_xts_256", "AES-XTS with 256-bit keys"),
        bit(3, "aes_xts_256_integrity", "AES-XTS with 256-bit keys and integrity"),
        reserved(4, 30),
        bit(31, "bypass", "encryption may be bypassed"),
        bits(32, 35, "max_keyid_bits", "the most address bits that may be a KeyID"),
        bits(36, 50, "max_keys", "the most keys"),
        reserved(51, 63),
    ),
)

TME_ACTIVATE = Layout(
    "TME_ACTIVATE",
    64,
    "ISE §TME",
    (
        bit(0, "lock", "the register may not be written again"),
        bit(1, "enable", "memory is encrypted"),
        bit(2, "key_select", "0 a new key, 1 the key of before standby"),
        bit(3, "save_key", "keep the key for standby"),
        bits(4, 7, "policy", "algorithm: 0 AES-XTS-128, 1 with integrity, 2 AES-XTS-256, 3 with integrity"),
        reserved(8, 30),
        bit(31, "bypass", "KeyID 0 is not encrypted"),
        bits(32, 35, "keyid_bits", "address bits below MAXPHYADDR that are a KeyID"),
        bits(36, 39, "tdx_keyid_bits", "of them, those of TDX alone: reserved in other entries"),
        reserved(40, 47),
        bits(48, 63, "algorithms", "bit n: algorithm n may be used by a KeyID"),
    ),
)

PASID = Layout(
    "PASID",
    64,
    "ISE §ENQCMD",
    (
        bits(0, 19, "pasid", "process address-space identifier that ENQCMD sends"),
        reserved(20, 30),
        bit(31, "valid", "without it ENQCMD causes #GP"),
        reserved(32, 63),
    ),
)

UINTR_TT = Layout(
    "UINTR_TT",
    64,
    "ISE §UINTR",
    (
        bit(0, "enable", "SENDUIPI does not cause #UD"),
        reserved(1, 3),
        address(4, 63, "table", "linear address of the user-interrupt target table"),
    ),
)

UINTR_MISC = Layout(
    "UINTR_MISC",
    64,
    "ISE §UINTR",
    (
        bits(0, 31, "size", "highest index of the user-interrupt target table"),
        bits(32, 39, "vector", "notification vector of user interrupts, UINV"),
        reserved(40, 63),
    ),
)

FRED_CONFIG = Layout(
    "FRED_CONFIG",
    64,
    "FRED §9",
    (
        bits(0, 1, "level", "current stack level"),
        reserved(2),
        bit(3, "ssp_decrement", "the shadow stack moves down by 8 when the level stays"),
        reserved(4, 5),
        bits(6, 8, "rsp_decrement", "units of 64 bytes that RSP moves down by when the level stays"),
        bits(9, 10, "interrupt_level", "stack level of maskable interrupts"),
        reserved(11),
        address(
            12,
            63,
            "handlers",
            "linear address of the event handlers of ring 3; those of ring 0 are 256 above",
        ),
    ),
)
