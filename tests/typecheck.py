"""Run mypy in strict mode over the package laid out as installation lays it out.

The rooms at the top of the tree become `roost` and its subpackages only by installation, so they are copied to
their installed places, read off pyproject.toml, and checked there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lay_out(target: Path) -> None:
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    for package, folder in folders.items():
        shutil.copytree(ROOT / folder, target / package.replace(".", "/"), dirs_exist_ok=True)


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        lay_out(Path(scratch))
        mypy = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "roost"]
        mypy += ["--cache-dir", str(ROOT / ".mypy_cache")]
        return subprocess.run(mypy, check=False, cwd=scratch).returncode


if __name__ == "__main__":
    sys.exit(main())
