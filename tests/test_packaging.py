"""What is installed is what is in the tree."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = {"roost": "bot", "roost/channels": "channels", "roost/brains": "brains", "roost/memory": "memory"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy of the tracked files so that nothing lying about gets in."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().splitlines():
        if (ROOT / name).is_file():
            copy = folder / "tree" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), str(folder / "tree")], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_exactly_the_four_rooms(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = set()
    for package, room in ROOMS.items():
        files = (path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        expected |= {f"{package}/{path.relative_to(ROOT / room)}" for path in files}
    assert packed == expected
    wheel.close()


def test_the_package_list_in_pyproject_is_the_tree() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert {name.replace(".", "/"): room for name, room in listed["package-dir"].items()} == ROOMS
    assert set(listed["packages"]) == set(listed["package-dir"])
    for room in ROOMS.values():
        nested = [path for path in (ROOT / room).rglob("__init__.py") if path.parent != ROOT / room]
        assert nested == [], "a package below a room must be listed in pyproject.toml"


@pytest.mark.parametrize("room", ["bot", "channels", "brains", "memory"])
def test_a_room_is_not_importable_under_its_folder_name(room: str) -> None:
    command = [sys.executable, "-c", f"import {room}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "write `import roost" in done.stderr
