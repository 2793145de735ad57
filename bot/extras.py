"""Optional packages: which a channel needs, and getting them, on a person's word only."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys

from roost.errors import RoostError


def requirements(extra: str) -> list[str]:
    """The requirements of one of our extras, as an installer wants them."""
    marked = [line.partition(";") for line in importlib.metadata.requires("roost") or []]
    wanted = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    return [requirement.strip() for requirement, _, marker in marked if wanted.search(marker)]


def install_line(extra: str) -> list[str]:
    """The command that installs an extra into this Python: pip where it is, otherwise uv."""
    packages = requirements(extra)
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", *packages]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable, *packages]
    raise RoostError(f"Neither pip nor uv is here to install {', '.join(packages)}.")


def install(extra: str) -> None:
    """Install an extra. Raises RoostError when the installer fails; its own words stand above."""
    if not requirements(extra):
        return
    command = install_line(extra)
    if subprocess.run(command, check=False).returncode != 0:
        raise RoostError(f"This did not work: {' '.join(command)}")
    importlib.invalidate_caches()
