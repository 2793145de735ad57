"""How full memory is, by every limit that holds for this process.

What bot.toml allows, the control groups around the process (a container, a service), and the machine.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from roost.errors import ConfigError

MIB = 1024 * 1024
# Of a large limit only the last part counts: with 5 GB left of 16, nothing is short.
SPAN = 4096 * MIB
NO_LIMIT = 1 << 60  # bytes; cgroup v1 writes 2^63 less a page for "none"
RELIST = 10.0  # seconds between two looks for new child processes
# What an alarm of macOS or Windows counts as, in percent of stall.
WARNED, ALARMED = 10.0, 25.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How much memory is `used` of a `limit`, in bytes, and whose limit that is.

    `stall` is the time, in percent of the last ten seconds, that something waited for memory: `some avg10` of
    https://docs.kernel.org/accounting/psi.html, 0 when it is not known.
    """

    used: int
    limit: int
    source: str
    stall: float = 0.0

    @property
    def filled(self) -> float:
        """1 when nothing is left, 0 when all of the limit is, or the last SPAN bytes of it."""
        return max(0.0, 1 - (self.limit - self.used) / min(self.limit, SPAN))

    def __str__(self) -> str:
        return f"{self.used / self.limit:.2f} of {in_words(self.limit)}, {self.source}"


class Sensor:
    """Reads every limit there is. `budget` gives our own in bytes, 0 for none; files are looked for below `root`."""

    def __init__(self, budget: Callable[[], int] = int, root: Path = Path("/")) -> None:
        self._budget = budget
        self._root = root
        self._family = Family()

    def __call__(self) -> list[Reading]:
        budget = self._budget()
        own = [Reading(self._family.resident(), budget, "memory_limit")] if budget > 0 else []
        return [*own, *control_groups(self._root), *machine(self._root)]


class Family:
    """This process and all that descend from it: the engine is one."""

    def __init__(self) -> None:
        self._members: list[Any] = []
        self._listed = float("-inf")

    def resident(self) -> int:
        """Bytes in memory as the system's own tools show them, mapped files such as the model's included."""
        import psutil

        now = time.monotonic()
        if now - self._listed >= RELIST:
            this = psutil.Process()
            self._members, self._listed = [this], now
            with suppress(psutil.Error):
                self._members += this.children(recursive=True)
        total = 0
        for one in self._members:
            try:
                total += one.memory_info().rss
            except psutil.Error:
                self._listed = float("-inf")  # one has ended, and another may be in its place
        return total


# Control groups: https://docs.kernel.org/admin-guide/cgroup-v2.html and .../cgroup-v1/memory.html


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a hierarchy of control groups is seen: its folder `root` appears at `point`."""

    version: int
    root: str
    point: str


def control_groups(root: Path) -> Iterator[Reading]:
    """A reading for each group around this process that has a limit, the innermost first."""
    mounts = sorted(memory_mounts(lines(root / "proc/self/mountinfo")), key=lambda one: len(one.point))
    for version, path in own_groups(lines(root / "proc/self/cgroup")):
        here = [one for one in mounts if one.version == version]
        # A container may see other hierarchies too: the right one is that which this process is in.
        here.sort(key=lambda one: not PurePosixPath(path).is_relative_to(one.root))
        for folder in outwards(root, here[0], path) if here else ():
            reading = version_2(folder) if version == 2 else version_1(folder)
            if reading is not None:
                yield reading


def memory_mounts(mountinfo: Sequence[str]) -> Iterator[Mount]:
    """The hierarchies that may limit memory, from proc_pid_mountinfo(5)."""
    for line in mountinfo:
        before, _, behind = line.partition(" - ")
        where, kind, options = before.split(" "), behind.split(" ")[0], behind.split(" ")[-1].split(",")
        if len(where) > 4 and (kind == "cgroup2" or (kind == "cgroup" and "memory" in options)):
            yield Mount(2 if kind == "cgroup2" else 1, unescaped(where[3]), unescaped(where[4]))


def own_groups(groups: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The version and path of the groups that this process is in, from cgroups(7)."""
    for line in groups:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if path.startswith("/") and (not controllers or "memory" in controllers.split(",")):
            yield (1 if controllers else 2), path


def outwards(root: Path, mount: Mount, path: str) -> Iterator[Path]:
    """The folders of a group and of all around it that can be seen."""
    top = root / mount.point.lstrip("/")
    inner = PurePosixPath(path)
    # A path outside of what is mounted, or of our namespace, tells nothing: the top is the nearest we see.
    known = inner.is_relative_to(mount.root) and ".." not in inner.parts
    folder = top / inner.relative_to(mount.root) if known else top
    while folder != top:
        yield folder
        folder = folder.parent
    yield top


def version_2(folder: Path) -> Reading | None:
    limits = [limit for limit in (number(folder / "memory.max"), number(folder / "memory.high")) if limit]
    current = number(folder / "memory.current")
    if not limits or not current:
        return None
    used = current - of_files(table(folder / "memory.stat"))
    return Reading(max(0, used), min(limits), "cgroup", stall(folder / "memory.pressure"))


def version_1(folder: Path) -> Reading | None:
    stat = table(folder / "memory.stat")
    # The second is the least of the groups around this one, those that a container cannot see included.
    limits = (number(folder / "memory.limit_in_bytes"), real(stat.get("hierarchical_memory_limit", 0)))
    current = number(folder / "memory.usage_in_bytes")
    if not any(limits) or not current:
        return None
    return Reading(max(0, current - of_files(stat, "total_")), min(limit for limit in limits if limit), "cgroup")


def of_files(stat: dict[str, int], prefix: str = "") -> int:
    """Bytes of files that can be read again, which the kernel drops first.

    The active ones too, although they are often counted as used: with CONFIG_LRU_GEN that is where a model lies that
    was just mapped. When dropping them hurts, the stall tells.
    """
    return sum(stat.get(f"{prefix}{name}_file", 0) for name in ("inactive", "active"))


# The machine


def machine(root: Path) -> list[Reading]:
    if sys.platform == "linux":
        info = table(root / "proc/meminfo")
        total, available = info.get("MemTotal", 0), info.get("MemAvailable", -1)
        waited = stall(root / "proc/pressure/memory")
    else:
        import psutil

        memory = psutil.virtual_memory()
        total, available, waited = memory.total, memory.available, alarm()
    return [Reading(total - available, total, "machine", waited)] if 0 <= available <= total and total else []


# Neither of the next two has been run on the system it is for.


def alarm() -> float:
    """What macOS or Windows says about its memory, as a stall; 0 when all is well or nothing is said."""
    with suppress(Exception):
        if sys.platform == "darwin":
            return apple_alarm()
        if sys.platform == "win32":
            return windows_alarm()
    return 0.0


def apple_alarm() -> float:
    """1 is normal, 2 a warning, 4 critical: bsd/kern/kern_memorystatus_notify.c in Apple's xnu."""
    import ctypes

    level = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(level))
    name = b"kern.memorystatus_vm_pressure_level"
    failed = ctypes.CDLL(None).sysctlbyname(name, ctypes.byref(level), ctypes.byref(size), None, ctypes.c_size_t(0))
    return 0.0 if failed else {2: WARNED, 4: ALARMED}.get(level.value, 0.0)


def windows_alarm() -> float:
    """https://learn.microsoft.com/windows/win32/api/memoryapi/nf-memoryapi-querymemoryresourcenotification"""
    import ctypes

    kernel: Any = ctypes.CDLL("kernel32")
    kernel.CreateMemoryResourceNotification.restype = ctypes.c_void_p
    low = ctypes.c_void_p(kernel.CreateMemoryResourceNotification(0))
    state = ctypes.c_int(0)
    try:
        told = kernel.QueryMemoryResourceNotification(low, ctypes.byref(state))
    finally:
        kernel.CloseHandle(low)
    return WARNED if told and state.value else 0.0


# Files of the kernel: any of them may be missing, unreadable or not what it was.


def lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return []


def number(path: Path) -> int:
    """What a file holds; 0 for "max", for a number so large that it means none, and for no number."""
    first = lines(path)[:1]
    return real(whole(first[0].strip())) if first else 0


def real(limit: int) -> int:
    return limit if limit < NO_LIMIT else 0


def whole(digits: str) -> int:
    return int(digits) if digits.isdecimal() and len(digits) <= 20 else 0


def table(path: Path) -> dict[str, int]:
    """Lines of a name and a number. Numbers in kB, as in /proc/meminfo, become bytes."""
    found = {}
    for line in lines(path):
        name, *rest = line.split() or [""]
        if rest and rest[0].isdecimal():
            found[name.rstrip(":")] = whole(rest[0]) * (1024 if rest[1:] == ["kB"] else 1)
    return found


def stall(path: Path) -> float:
    """`some avg10=0.12 ...`, in percent."""
    for line in lines(path):
        if found := re.match(r"some avg10=(\d+\.\d+)\b", line):
            return float(found[1])
    return 0.0


def unescaped(path: str) -> str:
    """mountinfo writes a space as \\040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


# Sizes as people write them

UNITS = {"": 1, "k": 1024, "m": MIB, "g": 1024 * MIB, "t": 1024 * 1024 * MIB}


def size(written: str | int) -> int:
    """Bytes, from a number or a text such as "512M" or "1.5 GB", where K is 1024. Empty is 0. Raises ConfigError."""
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?\s*", str(written), re.I | re.A)
    if found is None and str(written).strip():
        raise ConfigError(f"'{written}' is no amount of memory. Write bytes, or a number with K, M, G or T: '512M'.")
    return int(float(found[1]) * UNITS[found[2].lower()]) if found else 0


def in_words(amount: int) -> str:
    return f"{amount / MIB:.0f} MB" if amount < 10 * 1024 * MIB else f"{amount / 1024 / MIB:.1f} GB"
