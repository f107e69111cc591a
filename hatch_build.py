"""The wheel has the machine code of all kernels in it, made here: whoever installs it compiles nothing."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds an image for each module of kernels. An editable install compiles at its first use instead."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the images, and say that the wheel is for x86-64 Linux and any CPython."""
        if version == "editable":
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from quire.kernels.processor import LEVELS
        from quire.kernels.store import PACKED, modules_with_code
        from quire.kernels.warm import keep, make

        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        names = list(modules_with_code())
        make({one: one for one in names}, folder, tuple(LEVELS))
        keep(names, folder)
        inside = PACKED.relative_to(Path(self.root) / "src")
        for path in sorted(folder.iterdir()):
            path.chmod(0o644)
            build_data["force_include"][str(path)] = str(inside / path.name)
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was made, now that it is in the wheel."""
        if version != "editable":
            self._folder.cleanup()
