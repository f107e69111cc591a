"""What to do about an instruction that the engine lacks: how to have the program do without it.

AVX and AVX-512 are all that programs are known to miss: VEX and EVEX prefixes (SDM 2A §2.3, §2.7). CPUID does not claim
them, so that a program which asks never uses them; one that was built for such a processor does not ask.
"""

import os

__all__ = ["hint"]

#: In 64-bit mode these begin an instruction with a VEX or EVEX prefix and nothing else.
_VEX, _EVEX = frozenset((0xC4, 0xC5)), 0x62
#: What keeps a library from such code, by how its file's name begins.
_SETTINGS = {
    "libopenblas": "-E OPENBLAS_CORETYPE=Nehalem",
    "libmkl": "-E MKL_ENABLE_INSTRUCTIONS=SSE4_2",
    "libipp": "-E IPP_FEATURES=sse42",
    "libcrypto": "-E OPENSSL_ia32cap=~0x1000000000000000:0",
    "libx264": "its option --asm SSE4.2",
    "libavcodec": "its option -cpuflags sse4.2",
    "libjvm": "-E JAVA_TOOL_OPTIONS=-XX:UseAVX=0",
}
_OTHERWISE = "a build for x86-64-v2 (gcc -march=x86-64-v2, without -mavx)"


def hint(code: bytes, path: str) -> str | None:
    """Return what to do when `code`, of the file at `path`, is no instruction of this processor, if anybody knows."""
    if not code or (code[0] not in _VEX and code[0] != _EVEX):
        return None
    name = "AVX-512" if code[0] == _EVEX else "AVX"
    file = os.path.basename(path)
    setting = next((way for begin, way in _SETTINGS.items() if file.startswith(begin)), None)
    where = f"{file} " if file else "the program "
    advice = f"give {setting}" if setting else f"take {_OTHERWISE}"
    return f"{where}uses {name}, which this engine lacks and CPUID does not claim: {advice}"
