"""Which kind of image a file is: chosen by content, flat binaries by the caller's word."""

from quire.guest.boot.elf_kernel import read_elf_kernel
from quire.guest.boot.flat import FlatImage
from quire.guest.boot.image import Image, refusal
from quire.guest.boot.linux import LinuxImage
from quire.guest.boot.multiboot import MultibootImage
from quire.guest.boot.multiboot_header import find_header
from quire.guest.boot.vmlinux import VmlinuxImage

__all__ = ["choose_image"]


def choose_image(data: bytes, path: str, flat: int | None) -> Image:
    """Return the image in `data`, called `path` in messages; `flat` is where a flat binary goes, as GPA.

    Raises LaunchError for a file of no kind that is taken, and for one whose numbers do not do.
    """
    if flat is not None:
        return FlatImage(data, path, flat)
    if LinuxImage.is_one(data):
        return LinuxImage(data, path)
    header = find_header(data, path)
    if header is not None:
        return MultibootImage(data, path, header)
    kernel = read_elf_kernel(data, path)
    if kernel is None:
        raise refusal(
            f"{path} is no kernel that Quire knows: give a bzImage, such as /boot/vmlinuz-VERSION, a 64-bit vmlinux, "
            "a multiboot kernel, or --flat GPA with a flat binary"
        )
    if not kernel.wide:
        raise refusal(f"{path} is 32-bit ELF without a multiboot header in its first 8 KiB: give it one")
    return VmlinuxImage(kernel, path)
