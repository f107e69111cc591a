"""What to do about instructions that the engine lacks: by their prefixes, and by whose code they are."""

from __future__ import annotations

import pytest

from quire.guest.hints import hint


@pytest.mark.parametrize(
    ("code", "path", "words"),
    [
        ("c5f5fed0", "/opt/tool", ("tool uses AVX,", "take a build for x86-64-v2")),
        ("c4e27d18", "/usr/lib/libopenblas.so.0", ("uses AVX,", "give -E OPENBLAS_CORETYPE=Nehalem")),
        ("62f17548fed0", "/usr/lib/jvm/lib/server/libjvm.so", ("uses AVX-512,", "UseAVX=0")),
        ("c5f877", "", ("the program uses AVX,",)),
    ],
)
def test_advice(code: str, path: str, words: tuple[str, ...]) -> None:
    found = hint(bytes.fromhex(code), path)
    assert found is not None and all(word in found for word in words)


@pytest.mark.parametrize("code", ["", "0f0b", "66c5", "90c5f877"])
def test_other_instructions_have_none(code: str) -> None:
    assert hint(bytes.fromhex(code), "/opt/tool") is None
