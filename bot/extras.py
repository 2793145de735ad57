"""Optional packages: which a channel needs, and getting them, on a person's word only."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import sys

from roost.egress import noted
from roost.errors import RoostError


def requirements(extra: str) -> list[str]:
    """The requirements of one of our extras, as an installer wants them."""
    marked = [line.partition(";") for line in importlib.metadata.requires("roost") or []]
    wanted = re.compile(rf"(\s+and)?\s*extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    found = [
        (requirement.strip(), wanted.sub("", marker).strip())
        for requirement, _, marker in marked
        if wanted.search(marker)
    ]
    return [f"{requirement}; {marker}" if marker else requirement for requirement, marker in found]


def install_line(packages: list[str]) -> list[str]:
    """The command that installs packages into this Python: pip where it is, otherwise uv."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "install", "--quiet", *packages]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--quiet", "--python", sys.executable, *packages]
    raise RoostError(f"Neither pip nor uv is here to install {', '.join(packages)}.")


def install(extra: str) -> None:
    """Install an extra. Raises RoostError when the installer fails; its own words stand above."""
    if packages := requirements(extra):
        install_packages(packages)


def install_packages(packages: list[str]) -> None:
    """Install what is named by requirements. Raises RoostError when the installer fails; its own words stand above."""
    command = install_line(packages)
    with noted("installation"):
        done = subprocess.run(command, check=False)
    if done.returncode != 0:
        raise RoostError(f"This did not work: {' '.join(command)}")
    importlib.invalidate_caches()
