"""What this machine has for thinking: processor, memory, graphics cards. What cannot be found out is left empty."""

from __future__ import annotations

import csv
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roost.brains import cores
from roost.gauges import NO_LIMIT, control_groups, lines, number, table

Ask = Callable[[str], str]
ROOT = Path("/")
ASK = 10.0  # seconds for nvidia-smi
AMD = "0x1002"
# What of a processor changes how fast, and in how much memory, a model runs, as Linux and macOS name it.
FEATURES = {
    **{"avx2": "avx2", "avx512f": "avx512", "avx512_vnni": "avx512-vnni", "amx_int8": "amx", "asimd": "neon"},
    **{"asimddp": "dotprod", "i8mm": "i8mm", "sve": "sve"},
    **{"hw.optional.neon": "neon", "hw.optional.arm.FEAT_DotProd": "dotprod", "hw.optional.arm.FEAT_I8MM": "i8mm"},
    **{"hw.optional.avx2_0": "avx2"},
}


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card and its memory in bytes. A `shared` one uses the machine's own memory."""

    name: str
    memory: int
    free: int = 0
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor cores, its features, memory in bytes and what limits it, and graphics cards.

    `cores` are physical ones that this process may use, `threads` logical ones. `free` is what is available now.
    """

    cores: int = 1
    threads: int = 1
    features: tuple[str, ...] = ()
    memory: int = 0
    free: int = 0
    limit: str = "machine"
    cards: tuple[Card, ...] = ()


@dataclass(frozen=True, slots=True)
class Build:
    """What the installed engine makes of the machine: the cards it can use, and what its code was compiled for."""

    features: frozenset[str] = frozenset()
    cards: tuple[Card, ...] = ()
    problem: str = field(default="", compare=False)


def read_machine(root: Path = ROOT) -> Machine:
    """Look at the machine; at another one's files below `root`, for tests."""
    here = root == ROOT
    memory, free, limit = memory_of(root)
    physical, logical = cores_of(root)
    found = (*(nvidia_cards() if here else ()), *amd_cards(root))
    if here and is_apple():
        found += apple_cards(memory, sysctl)
    return Machine(
        cores=(cores.physical() or counted()) if here else max(1, physical),
        threads=(os.cpu_count() or 1) if here else max(1, logical),
        features=features_of(root) or (apple_features(sysctl) if here and sys.platform == "darwin" else ()),
        memory=memory,
        free=free,
        limit=limit,
        cards=found,
    )


def read_build() -> Build:
    """Ask the engine itself. It is large: only commands and the engine's own process call this."""
    try:
        import xllamacpp
    except ImportError as error:
        return Build(problem=str(error))
    return Build(compiled(xllamacpp.get_system_info()), usable(xllamacpp.get_device_info()))


def compiled(info: str) -> frozenset[str]:
    """The features in llama.cpp's own words: "CPU : AVX2 = 1 | REPACK = 1 | "."""
    return frozenset(name.lower() for name in re.findall(r"(\w+) = 1\b", info))


def usable(devices: Sequence[dict[str, Any]]) -> tuple[Card, ...]:
    """The graphics cards among ggml's devices. A type's name tells; on Python 3.11 its text is a bare number."""
    return tuple(
        Card(
            str(one.get("description") or one.get("name", "")),
            int(one.get("memory_total", 0)),
            int(one.get("memory_free", 0)),
            str(one["type"].name).endswith("IGPU") or str(one.get("name", "")).startswith(("Metal", "MTL")),
        )
        for one in devices
        if str(one["type"].name).endswith("GPU")
    )


# Memory


def memory_of(root: Path) -> tuple[int, int, str]:
    """Bytes there are, bytes available now, and what sets the limit: the machine, or a control group around us."""
    info = table(root / "proc/meminfo")
    total, free = info.get("MemTotal", 0), info.get("MemAvailable", info.get("MemFree", 0))
    if not total and root == ROOT and sys.platform != "linux":
        import psutil

        memory = psutil.virtual_memory()
        total, free = int(memory.total), int(memory.available)
    limit = "machine"
    for group in control_groups(root):
        if group.limit < (total or NO_LIMIT):
            total, limit = group.limit, group.source
        free = min(free, max(0, group.limit - group.used))
    return total, min(free, total), limit


# Processor


def cores_of(root: Path) -> tuple[int, int]:
    """Physical and logical cores, the control group's share of time taken into account."""
    folders = [one for one in (root / "sys/devices/system/cpu").glob("cpu*") if one.name[3:].isdecimal()]
    siblings = {
        "".join(lines(one / "topology/thread_siblings_list")[:1]) or one.name
        for one in folders
        if lines(one / "online")[:1] != ["0"]
    }
    share = quota(root)
    return min(len(siblings), share or len(siblings)), len(folders)


def quota(root: Path) -> int:
    """Whole cores that a control group grants, of either version; 0 for no limit."""
    group = root / "sys/fs/cgroup"
    allowed, _, period = "".join(lines(group / "cpu.max")[:1]).partition(" ")
    if not period:
        allowed = "".join(lines(group / "cpu/cpu.cfs_quota_us")[:1])
        period = str(number(group / "cpu/cpu.cfs_period_us"))
    if not allowed.isdecimal() or not period.isdecimal() or not int(period):
        return 0
    return max(1, int(allowed) // int(period))


def features_of(root: Path) -> tuple[str, ...]:
    """From /proc/cpuinfo: "flags" on x86, "Features" on ARM."""
    found: set[str] = set()
    for line in lines(root / "proc/cpuinfo"):
        name, _, words = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            found |= {FEATURES[word] for word in words.split() if word in FEATURES}
    return tuple(sorted(found))


def counted() -> int:
    """Physical cores on macOS and Windows, which know neither quotas nor masks; of Apple's, the fast ones."""
    import psutil

    fast = sysctl("hw.perflevel0.physicalcpu") if sys.platform == "darwin" else ""
    return int(fast) if fast.isdecimal() else psutil.cpu_count(logical=False) or os.cpu_count() or 1


# Graphics cards. Only the parsing has been tried for AMD and Apple, on files and texts like theirs.


def nvidia_cards() -> tuple[Card, ...]:
    """By NVIDIA's own tool, where it is installed; https://docs.nvidia.com/deploy/nvidia-smi."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=ASK, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ()
    return nvidia(done.stdout)


def nvidia(listing: str) -> tuple[Card, ...]:
    """Lines of "name, MiB in all, MiB free". A card that shares memory says "[N/A]"."""
    found = []
    for row in csv.reader(listing.splitlines(), skipinitialspace=True):
        if len(row) >= 3 and row[-2].strip().isdecimal():
            free = int(row[-1]) if row[-1].strip().isdecimal() else 0
            found.append(Card(", ".join(row[:-2]), int(row[-2]) << 20, free << 20))
    return tuple(found)


def amd_cards(root: Path) -> tuple[Card, ...]:
    """From the amdgpu driver: https://docs.kernel.org/gpu/amdgpu/driver-misc.html."""
    found = []
    for folder in sorted((root / "sys/class/drm").glob("card*/device")):
        memory = number(folder / "mem_info_vram_total")
        if lines(folder / "vendor")[:1] != [AMD] or not memory:
            continue
        name = "".join(lines(folder / "product_name")[:1]).strip() or f"AMD graphics ({folder.parent.name})"
        found.append(Card(name, memory, max(0, memory - number(folder / "mem_info_vram_used"))))
    return tuple(found)


def is_apple() -> bool:
    return sys.platform == "darwin" and platform.machine() == "arm64"


def apple_cards(memory: int, ask: Ask) -> tuple[Card, ...]:
    """Apple's own processors: the card uses the machine's memory, three quarters of it unless told otherwise."""
    wired = ask("iogpu.wired_limit_mb")
    allowed = int(wired) << 20 if wired.isdecimal() and int(wired) else memory * 3 // 4
    return (Card(ask("machdep.cpu.brand_string") or "Apple", allowed, allowed, shared=True),)


def apple_features(ask: Ask) -> tuple[str, ...]:
    return tuple(sorted({FEATURES[name] for name in FEATURES if name.startswith("hw.") and ask(name) == "1"}))


def sysctl(name: str) -> str:
    """What macOS says about itself, empty for what it does not know."""
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=ASK, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
