"""The machine, read from files like those of other machines."""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path

import pytest

from roost.brains import machine
from roost.brains.machine import (
    Card,
    Machine,
    amd_cards,
    apple_cards,
    apple_features,
    compiled,
    nvidia,
    read_build,
    read_machine,
    usable,
)

GIB = 1 << 30
CPUS = "sys/devices/system/cpu"
V2 = {
    "proc/self/mountinfo": "25 30 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    "proc/self/cgroup": "0::/roost\n",
}
V1 = {
    "proc/self/mountinfo": "25 30 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    "proc/self/cgroup": "4:memory:/roost\n",
}


def system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def processors(*siblings: str) -> dict[str, str]:
    return {f"{CPUS}/cpu{number}/topology/thread_siblings_list": one for number, one in enumerate(siblings)}


def memory(total: int, free: int) -> dict[str, str]:
    return {"proc/meminfo": f"MemTotal: {total >> 10} kB\nMemFree: 1 kB\nMemAvailable: {free >> 10} kB\n"}


def test_a_machine_that_tells_nothing_has_one_core_and_no_known_memory(tmp_path: Path) -> None:
    assert read_machine(tmp_path) == Machine()


def test_a_desktop_is_read(tmp_path: Path) -> None:
    flags = "flags\t\t: fpu avx avx2 avx512f avx512_vnni amx_int8 amx_tile\n"
    files = {**processors("0,2", "1,3", "0,2", "1,3"), **memory(16 * GIB, 9 * GIB), "proc/cpuinfo": flags * 4}
    found = read_machine(system(tmp_path, files))
    assert (found.cores, found.threads) == (2, 4)
    assert found.features == ("amx", "avx2", "avx512", "avx512-vnni")
    assert (found.memory, found.free, found.limit, found.cards) == (16 * GIB, 9 * GIB, "machine", ())


def test_a_small_arm_board_is_read(tmp_path: Path) -> None:
    words = "Features\t: fp asimd evtstrm crc32 asimddp i8mm\n"
    files = {**processors("0", "1", "2", "3"), **memory(4 * GIB, 3 * GIB), "proc/cpuinfo": words}
    found = read_machine(system(tmp_path, files))
    assert found.features == ("dotprod", "i8mm", "neon")
    assert found.cores == 4


def test_a_core_that_is_switched_off_does_not_count(tmp_path: Path) -> None:
    files = {**processors("0", "1", "2"), f"{CPUS}/cpu2/online": "0\n", f"{CPUS}/cpufreq/boost": "1"}
    assert read_machine(system(tmp_path, files)).cores == 2


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "150000 100000\n"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_a_share_of_the_processors_counts_as_whole_cores(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_machine(system(tmp_path, {**processors("0", "1", "2"), **files})).cores == 1


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "max 100000\n"},
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
        {"sys/fs/cgroup/cpu.max": "what\n"},
        {"sys/fs/cgroup/cpu.max": "100000 0\n"},
    ],
)
def test_a_share_that_is_none_takes_no_core_away(tmp_path: Path, files: dict[str, str]) -> None:
    assert read_machine(system(tmp_path, {**processors("0", "1", "2"), **files})).cores == 3


@pytest.mark.parametrize(
    "files",
    [
        {**V2, "sys/fs/cgroup/roost/memory.max": f"{GIB}\n", "sys/fs/cgroup/roost/memory.current": f"{GIB // 4}\n"},
        {
            **V1,
            "sys/fs/cgroup/memory/roost/memory.limit_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/roost/memory.usage_in_bytes": f"{GIB // 4}\n",
        },
    ],
)
def test_a_container_has_the_memory_of_its_group(tmp_path: Path, files: dict[str, str]) -> None:
    found = read_machine(system(tmp_path, {**files, **memory(16 * GIB, 9 * GIB)}))
    assert (found.memory, found.free, found.limit) == (GIB, GIB * 3 // 4, "cgroup")


def test_a_group_without_a_limit_leaves_the_machine_s_memory(tmp_path: Path) -> None:
    files = {**V2, "sys/fs/cgroup/roost/memory.max": "max\n", "sys/fs/cgroup/roost/memory.current": "5\n"}
    found = read_machine(system(tmp_path, {**files, **memory(2 * GIB, GIB)}))
    assert (found.memory, found.limit) == (2 * GIB, "machine")


def test_a_group_allowed_more_than_there_is_changes_nothing(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/roost/memory"
    files = {**V2, f"{group}.max": f"{64 * GIB}\n", f"{group}.current": "4096\n", **memory(2 * GIB, GIB)}
    found = read_machine(system(tmp_path, files))
    assert (found.memory, found.free, found.limit) == (2 * GIB, GIB, "machine")


def test_files_that_are_not_what_they_should_be_are_no_error(tmp_path: Path) -> None:
    files = {
        **{"proc/meminfo": "MemTotal: lots\n", "proc/cpuinfo": "\x00flags", "proc/self/cgroup": "::"},
        **{"sys/class/drm/card0/device/vendor": "0x1002\n", "sys/class/drm/card0/device/mem_info_vram_total": "-1"},
    }
    assert read_machine(system(tmp_path, files)) == Machine()


def test_cards_of_nvidia_are_read_from_their_tool_s_words() -> None:
    listing = "NVIDIA GeForce RTX 3060, 12288, 11020\nQuadro T1000, with Max-Q, 4096, [N/A]\n"
    assert nvidia(listing) == (
        Card("NVIDIA GeForce RTX 3060", 12 * GIB, 11020 << 20),
        Card("Quadro T1000, with Max-Q", 4 * GIB),
    )


@pytest.mark.parametrize("listing", ["", "No devices were found\n", "NVIDIA GB10, [N/A], [N/A]\n", "\n\n", "a\n"])
def test_what_tells_of_no_memory_is_no_card(listing: str) -> None:
    assert nvidia(listing) == ()


def test_a_tool_that_fails_is_a_card_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not talk to the driver.'\nexit 9\n")
    tool.chmod(0o755)
    monkeypatch.setattr(machine.shutil, "which", lambda name: str(tool))
    assert machine.nvidia_cards() == ()
    tool.unlink()
    assert machine.nvidia_cards() == ()


def test_cards_of_amd_are_read_from_their_driver(tmp_path: Path) -> None:
    drm = "sys/class/drm"
    files = {
        **{f"{drm}/card1/device/vendor": "0x1002\n", f"{drm}/card1/device/mem_info_vram_total": f"{8 * GIB}\n"},
        **{f"{drm}/card1/device/mem_info_vram_used": f"{GIB}\n", f"{drm}/card1-DP-1/status": "connected\n"},
        **{f"{drm}/card0/device/vendor": "0x8086\n", f"{drm}/card0/device/mem_info_vram_total": f"{GIB}\n"},
        **{f"{drm}/card2/device/vendor": "0x1002\n", f"{drm}/renderD128/device/vendor": "0x1002\n"},
    }
    assert amd_cards(system(tmp_path, files)) == (Card("AMD graphics (card1)", 8 * GIB, 7 * GIB),)


def test_apple_shares_its_memory_with_its_card() -> None:
    words = {"machdep.cpu.brand_string": "Apple M2", "iogpu.wired_limit_mb": "0", "hw.optional.arm.FEAT_I8MM": "1"}
    words |= {"hw.optional.neon": "1", "hw.optional.arm.FEAT_DotProd": "1", "hw.optional.avx2_0": ""}

    def ask(name: str) -> str:
        return words.get(name, "")

    assert apple_cards(16 * GIB, ask) == (Card("Apple M2", 12 * GIB, 12 * GIB, shared=True),)
    words["iogpu.wired_limit_mb"] = "14336"
    assert apple_cards(16 * GIB, ask)[0].memory == 14 * GIB
    assert apple_features(ask) == ("dotprod", "i8mm", "neon")


class Kind(IntEnum):
    """Like the engine's own: the text of one of these is a bare number from Python 3.11 on."""

    GGML_BACKEND_DEVICE_TYPE_CPU = 0
    GGML_BACKEND_DEVICE_TYPE_GPU = 1
    GGML_BACKEND_DEVICE_TYPE_IGPU = 2
    GGML_BACKEND_DEVICE_TYPE_ACCEL = 3


def test_only_graphics_cards_count_as_such() -> None:
    devices = [
        {"name": one.name[-5:], "description": f"a {one.name[25:]}", "memory_total": 8, "memory_free": 7, "type": one}
        for one in Kind
    ]
    assert usable(devices) == (Card("a GPU", 8, 7), Card("a IGPU", 8, 7, shared=True))


def test_the_engine_tells_what_it_was_compiled_for() -> None:
    assert compiled("CPU : AVX = 1 | AVX2 = 1 | AVX512 = 0 | REPACK = 1 | ") == {"avx", "avx2", "repack"}
    assert compiled("") == frozenset()


def test_the_engine_here_is_understood() -> None:
    build = read_build()
    assert build.problem == ""
    assert build.features & {"avx2", "neon", "sse3"}


def test_this_machine_is_read() -> None:
    found = read_machine()
    assert 1 <= found.cores <= found.threads
    assert 0 < found.free <= found.memory


def test_an_engine_that_cannot_be_loaded_is_a_problem_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.sys.modules, "xllamacpp", None)
    assert "xllamacpp" in read_build().problem
    assert read_build().cards == ()
