"""Files of compiled kernels: read as they were written, and not at all if a byte is another."""

import pytest

from quire.kernels.image import Image, ImageError

IMAGE = Image(
    "quire.some._kernels", "ab" * 32, "x86-64-v3", {"f": 16}, [8], {"PyErr_Occurred": [0]}, bytes(range(48))
)


def test_an_image_is_read_as_it_was_written() -> None:
    assert Image.decode(IMAGE.encode()) == IMAGE
    assert IMAGE.encode() == IMAGE.encode()


def test_any_changed_byte_is_seen() -> None:
    file = IMAGE.encode()
    for at in range(len(file)):
        with pytest.raises(ImageError):
            Image.decode(file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :])


@pytest.mark.parametrize("length", [0, 1, 16, 48, 51, 52, 100, -1])
def test_a_file_that_ends_early_is_none(length: int) -> None:
    with pytest.raises(ImageError):
        Image.decode(IMAGE.encode()[:length])
