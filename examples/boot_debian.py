"""Boots Debian's kernel for clouds with a busybox shell: fetches the package, unpacks it, makes an initial RAM disk.

    python examples/boot_debian.py FOLDER

leaves vmlinuz and initrd.cpio in FOLDER and says how to boot them. Nothing is installed. Needs apt, dpkg and busybox.
"""

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Unavailable", "fetch_kernel", "make_initrd"]

META = "linux-image-cloud-amd64"
INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec sh < /dev/console > /dev/console 2>&1
"""
_FOLDER, _PROGRAM, _CONSOLE = 0o40755, 0o100755, 0o20600


class Unavailable(Exception):
    """A tool or a package is not to be had here."""


def fetch_kernel(folder: Path) -> Path:
    """Return the kernel of the package that Debian's meta package depends on, unpacked in `folder`."""
    for tool in ("apt-cache", "apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"this machine has no {tool}")
    asked = subprocess.run(
        ["apt-cache", "depends", META], capture_output=True, text=True, timeout=60, check=False
    )
    names = [line.split()[-1] for line in asked.stdout.splitlines() if "Depends: linux-image" in line]
    if not names:
        raise Unavailable(f"apt knows no package {META}: apt-get update")
    got = subprocess.run(
        ["apt-get", "download", names[0]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    packages = sorted(folder.glob("linux-image-*.deb"))
    if got.returncode or not packages:
        raise Unavailable(f"apt-get download {names[0]}: {got.stderr.strip().splitlines()[-1]}")
    subprocess.run(["dpkg-deb", "-x", packages[0], folder], timeout=300, check=True)
    return next((folder / "boot").glob("vmlinuz-*"))


def make_initrd(folder: Path, init: str = INIT, extra: dict[str, bytes] | None = None) -> Path:
    """Return an initial RAM disk of busybox in `folder`, whose first program is the script `init`.

    `extra` are more programs, by their names.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise Unavailable("this machine has no busybox: apt-get install busybox-static")
    entries = [(name, _FOLDER, b"", (0, 0)) for name in ("bin", "dev", "proc", "sys", "tmp")]
    entries += [
        ("bin/busybox", _PROGRAM, Path(busybox).read_bytes(), (0, 0)),
        ("init", _PROGRAM, init.encode(), (0, 0)),
    ]
    entries += [(name, _PROGRAM, data, (0, 0)) for name, data in (extra or {}).items()]
    entries += [("dev/console", _CONSOLE, b"", (5, 1)), ("TRAILER!!!", 0, b"", (0, 0))]
    place = folder / "initrd.cpio"
    place.write_bytes(b"".join(_entry(number, *entry) for number, entry in enumerate(entries, 1)))
    return place


def _entry(number: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
    """Return one entry of a cpio archive as Linux unpacks it (Documentation/driver-api/early-userspace)."""
    path = name.encode() + b"\0"
    words = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % word for word in words) + path
    return _aligned(head) + _aligned(data)


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    try:
        kernel = shutil.copy(fetch_kernel(target), target / "vmlinuz")
        initrd = make_initrd(target)
    except Unavailable as why:
        sys.exit(f"boot_debian: {why}")
    print(f"quire boot --kernel {kernel} --initrd {initrd}")
