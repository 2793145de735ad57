"""A control group of our own, to run a process under a real limit of memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from roost.gauges import lines, memory_mounts, outwards, own_groups

ROOT = Path("/")
ENTER = 'echo $$ > "$0" && exec "$@"'


@contextmanager
def limited(limit: int) -> Iterator[list[str]]:
    """What to write before a command so that it may take `limit` bytes; skips the test where nothing allows it."""
    scope = ["systemd-run", "--user", "--scope", "--quiet", "-p", f"MemoryMax={limit}", "-p", "MemorySwapMax=0"]
    if shutil.which(scope[0]) and subprocess.run([*scope, "true"], capture_output=True, check=False).returncode == 0:
        yield scope
        return
    folder = new_group(limit)
    if folder is None:
        pytest.skip("Neither systemd-run nor the control groups of this system let a test set a limit of memory.")
    try:
        yield ["sh", "-c", ENTER, str(folder / "cgroup.procs")]
    finally:
        folder.rmdir()


def new_group(limit: int) -> Path | None:
    """A group inside ours, or beside it: a group of version 2 has either processes or groups in it."""
    for version, path in own_groups(lines(ROOT / "proc/self/cgroup")):
        for mount in memory_mounts(lines(ROOT / "proc/self/mountinfo")):
            if mount.version != version:
                continue
            here = next(outwards(ROOT, mount, path))
            name = f"roost-test-{os.getpid()}"
            folder = here / name if version == 1 else here.parent / name
            if made(folder, "memory.limit_in_bytes" if version == 1 else "memory.max", limit):
                return folder
    return None


def made(folder: Path, file: str, limit: int) -> bool:
    with suppress(OSError):
        folder.mkdir()
        with suppress(OSError):
            if (folder / file).exists():
                (folder / file).write_text(str(limit))
                return True
        folder.rmdir()
    return False
