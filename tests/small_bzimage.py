"""The smallest kernels that `quire boot` takes: code behind a setup header of Linux's boot protocol."""

__all__ = ["small_bzimage"]

#: Fields of the setup header: where they lie, their bytes in hexadecimal.
_FIELDS = {
    0x1F1: "01",  # setup_sects
    0x1FE: "55aa",  # boot_flag
    0x201: "6a",  # jump: where the header ends
    0x202: "48647253",  # "HdrS"
    0x206: "0f02",  # version 2.15
    0x236: "0100",  # xloadflags: has a 64-bit entry
    0x238: "ff070000",  # cmdline_size
    0x258: "0000000100000000",  # pref_address: 16 MiB
    0x260: "00001000",  # init_size
}


def small_bzimage(code: bytes) -> bytes:
    """Return a kernel whose 64-bit entry is `code`."""
    setup = bytearray(0x400)
    for at, digits in _FIELDS.items():
        data = bytes.fromhex(digits)
        setup[at : at + len(data)] = data
    return bytes(setup) + bytes(0x200) + code
