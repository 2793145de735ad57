"""How many processor cores thinking may use here."""

from __future__ import annotations

import os
from pathlib import Path

CPU = Path("/sys/devices/system/cpu")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def physical() -> int:
    """Physical cores this process may use, or 0 to leave it to the engine.

    llama.cpp counts the machine's cores itself, but neither a container's quota nor an affinity mask: with 64
    threads on a quota of two cores it would all but stand still. Both exist on Linux only.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    mask = os.sched_getaffinity(0)
    cores = len({siblings(number) for number in mask})
    return max(1, min(cores, quota() or cores))


def siblings(number: int) -> str:
    """Which logical processors share a core with this one; two that share it are no faster than one here."""
    try:
        return (CPU / f"cpu{number}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)


def quota() -> int:
    """Whole cores' worth of time the control group grants (cgroup v2), 0 for no limit."""
    try:
        allowed, period = QUOTA.read_text().split()
        return 0 if allowed == "max" else max(1, int(allowed) // int(period))
    except (OSError, ValueError):
        return 0
