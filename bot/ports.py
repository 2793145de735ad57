"""Which program holds a port: what a person needs to know when it is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_LISTENING = "0A"


def holder(port: int, proc: Path = Path("/proc")) -> str:
    """Name the program that listens on a TCP port of this machine, such as `nginx (process 812)`.

    Read from Linux's /proc, proc(5); empty elsewhere, and where the program belongs to somebody else.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(port, proc)}
    if not sockets:
        return ""
    for process in proc.glob("[0-9]*"):
        if _holds(process, sockets):
            return f"{_name(process)} (process {process.name})"
    return ""


def _inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for line in _read(proc / "net" / table).splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _holds(process: Path, sockets: set[str]) -> bool:
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return False
    return any(_target(link) in sockets for link in links)


def _target(link: Path) -> str:
    """Where a link leads; nowhere when it is gone by now, as the one by which our own were listed is."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def _name(process: Path) -> str:
    return _read(process / "comm").strip() or "a program"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
