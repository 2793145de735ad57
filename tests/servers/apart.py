"""Servers from PyPI, each in a virtual environment of its own, so that nothing of theirs is among what Roost needs.

One is installed on first use, which takes a minute, and kept in the user's cache folder, or in ROOST_TEST_SERVERS.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import platformdirs


def installed(package: str, version: str, more: Sequence[str] = ()) -> Path:
    """The Python that has it, and `more` beside it.

    Two processes may ask at once: the one that is later throws its copy away.
    """
    given = os.environ.get("ROOST_TEST_SERVERS")
    folder = Path(given) if given else platformdirs.user_cache_path("roost", appauthor=False) / "test-servers"
    home = folder / f"{package}-{version}"
    if not home.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder))
        venv.create(fresh, with_pip=True)
        pip = [str(python(fresh)), "-m", "pip", "install", "--quiet", "--no-input", f"{package}=={version}", *more]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        try:
            fresh.rename(home)
        except OSError:
            shutil.rmtree(fresh)
    return python(home)


def python(home: Path) -> Path:
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
