"""How full memory is: what the files of the kernel say, and what is understood of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roost.errors import ConfigError
from roost.gauges import MIB, Family, Reading, Sensor, control_groups, machine, size
from roost.pressure import LEVELS, judge

GB = 1024 * MIB
NONE_V1 = "9223372036854771712\n"
V2_MOUNT = "41 31 0:38 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(folder: str, limit: str, current: int, files: int = 1, **more: str) -> dict[str, str]:
    """The files of a version 2 group; `more` is of the form high="max"."""
    found = {
        "max": f"{limit}\n",
        "current": f"{current + files}\n",
        "stat": f"anon 5\ninactive_file {files - 1}\nfile 9\nactive_file 1\n",
        **more,
    }
    return {f"{folder}/memory.{name}": text for name, text in found.items()}


def group_1(folder: str, limit: str, usage: int, stat: str = "") -> dict[str, str]:
    files = {"limit_in_bytes": limit, "usage_in_bytes": f"{usage}\n", "stat": stat}
    return {f"{folder}/memory.{name}": text for name, text in files.items()}


def test_what_the_kernel_can_read_again_from_files_is_not_counted_and_the_stall_is_read(tmp_path: Path) -> None:
    some = "some avg10=12.34 avg60=1.00 avg300=0.20 total=1\nfull avg10=56.78 avg60=0 avg300=0 total=0\n"
    files = group("sys/fs/cgroup/a", f"{512 * MIB}", 300 * MIB, 100 * MIB, pressure=some)
    root = system(tmp_path, {"proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": "0::/a\n", **files})
    assert list(control_groups(root)) == [Reading(300 * MIB, 512 * MIB, "cgroup", 12.34)]


def test_every_group_around_the_process_counts_with_what_all_in_it_use(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        {
            "proc/self/mountinfo": V2_MOUNT,
            "proc/self/cgroup": "0::/pod/inner/bot\n",
            **group("sys/fs/cgroup/pod/inner/bot", f"{GB}", 200 * MIB),
            **group("sys/fs/cgroup/pod/inner", "max", 300 * MIB),
            **group("sys/fs/cgroup/pod", f"{2 * GB}", 2 * GB - MIB),
        },
    )
    found = list(control_groups(root))
    assert found == [Reading(200 * MIB, GB, "cgroup"), Reading(2 * GB - MIB, 2 * GB, "cgroup")]
    assert [judge(one, "ok") for one in found] == ["ok", "critical"]


@pytest.mark.parametrize(
    ("maximum", "high", "limit"),
    [
        ("1000000", "800000", 800000),
        ("800000", "1000000", 800000),
        ("max", "800000", 800000),
        ("800000", "max", 800000),
    ],
)
def test_the_mark_where_a_group_is_slowed_down_is_a_limit_too(
    tmp_path: Path, maximum: str, high: str, limit: int
) -> None:
    files = group("sys/fs/cgroup/a", maximum, 5, high=high)
    root = system(tmp_path, {"proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": "0::/a\n", **files})
    assert [one.limit for one in control_groups(root)] == [limit]


@pytest.mark.parametrize("path", ["/", "/../../elsewhere", "/not/mounted/here"])
def test_in_a_namespace_of_its_own_the_group_is_where_the_mount_begins(tmp_path: Path, path: str) -> None:
    files = {**group("sys/fs/cgroup", f"{GB}", 7), **group("sys/elsewhere", "10", 9)}
    root = system(tmp_path, {"proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": f"0::{path}\n", **files})
    assert list(control_groups(root)) == [Reading(7, GB, "cgroup")]


def test_version_1_in_a_container_that_sees_only_its_own_part(tmp_path: Path) -> None:
    mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
    files = group_1(
        "sys/fs/cgroup/memory",
        f"{GB}\n",
        900,
        "cache 1\ninactive_file 1\ntotal_inactive_file 300\ntotal_active_file 100\n",
    )
    groups = "12:cpu,cpuacct:/docker/abc\n9:memory:/docker/abc\n1:name=systemd:/docker/abc\n"
    root = system(tmp_path, {"proc/self/mountinfo": mount, "proc/self/cgroup": groups, **files})
    assert list(control_groups(root)) == [Reading(500, GB, "cgroup")]


def test_a_limit_of_a_group_that_cannot_be_seen_counts_in_version_1(tmp_path: Path) -> None:
    mount = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n"
    files = group_1("sys/fs/cgroup/memory", NONE_V1, 900, f"hierarchical_memory_limit {GB}\n")
    root = system(tmp_path, {"proc/self/mountinfo": mount, "proc/self/cgroup": "9:memory:/docker/abc\n", **files})
    assert list(control_groups(root)) == [Reading(900, GB, "cgroup")]


def test_with_both_versions_mounted_the_one_that_limits_memory_is_found(tmp_path: Path) -> None:
    mounts = (
        "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    )
    files = {
        **group_1("sys/fs/cgroup/memory/user/bot", f"{GB}\n", 900),
        **group_1("sys/fs/cgroup/memory/user", NONE_V1, 9000, f"hierarchical_memory_limit {NONE_V1}"),
        "sys/fs/cgroup/unified/user/memory.pressure": "some avg10=1.00 avg60=0 avg300=0 total=0\n",
    }
    groups = "4:memory:/user/bot\n1:cpu:/\n0::/user\n"
    root = system(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files})
    assert list(control_groups(root)) == [Reading(900, GB, "cgroup")]


def test_of_two_mounts_the_one_that_this_process_is_in_counts_and_a_space_in_its_name_is_read(tmp_path: Path) -> None:
    mounts = (
        "50 31 0:38 /others /mnt rw - cgroup2 cgroup2 rw\n"
        "41 31 0:38 /my\\040slice /sys/fs/c\\040group rw - cgroup2 cgroup2 rw\n"
    )
    files = {**group("mnt", "10", 9), **group("sys/fs/c group/bot", f"{GB}", 7)}
    root = system(tmp_path, {"proc/self/mountinfo": mounts, "proc/self/cgroup": "0::/my slice/bot\n", **files})
    assert list(control_groups(root)) == [Reading(7, GB, "cgroup")]


@pytest.mark.parametrize(
    "files",
    [
        {},
        group("sys/fs/cgroup/a", "max", 5),
        group("sys/fs/cgroup/a", "9223372036854771712", 5),
        group("sys/fs/cgroup/a", "9" * 5000, 5),
        group("sys/fs/cgroup/a", "-1", 5),
        group("sys/fs/cgroup/a", "lots", 5),
        group("sys/fs/cgroup/a", "", 5),
        {"sys/fs/cgroup/a/memory.max": "1000"},
        {"sys/fs/cgroup/a/memory.max/a-folder": "", "sys/fs/cgroup/a/memory.current": "5"},
    ],
)
def test_a_group_without_a_limit_that_can_be_understood_sets_none(tmp_path: Path, files: dict[str, str]) -> None:
    root = system(tmp_path, {"proc/self/mountinfo": V2_MOUNT, "proc/self/cgroup": "0::/a\n", **files})
    assert list(control_groups(root)) == []


@pytest.mark.parametrize("line", ["", "cgroup2", " - cgroup2", "41 31 - cgroup2", V2_MOUNT.replace("/sys", "/a\\000b")])
def test_a_mount_that_cannot_be_understood_is_passed_over(tmp_path: Path, line: str) -> None:
    files = group("sys/fs/cgroup", f"{GB}", 7)
    root = system(tmp_path, {"proc/self/mountinfo": line, "proc/self/cgroup": "0::/\nx\n:\n::\n", **files})
    assert list(control_groups(root)) == []


FILES = [
    *("proc/self/mountinfo", "proc/self/cgroup", "proc/meminfo", "proc/pressure/memory"),
    *(f"sys/fs/cgroup/memory.{name}" for name in ("max", "high", "current", "stat", "pressure", "limit_in_bytes")),
]
PIECES = st.sampled_from(
    [
        *("0::/", "4:memory:/", V2_MOUNT, " - cgroup2", "max", "1024", "0", "-7", "9" * 4400, "²", "nan", "9.99", "kB"),
        *(" ", "\n", "\x00", "\\000", "\\777", ":", "/", "..", "MemTotal:", "MemAvailable:", "some avg10="),
    ]
)


@given(st.lists(st.lists(PIECES, max_size=6).map("".join), min_size=len(FILES), max_size=len(FILES)))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_files_hold_no_reading_is_absurd(tmp_path: Path, texts: list[str]) -> None:
    root = system(tmp_path, dict(zip(FILES, texts, strict=True)))
    for one in Sensor(root=root)():
        assert one.limit > 0
        assert one.used >= 0
        assert 0 <= one.stall < 1000
        assert judge(one, "ok") in LEVELS


def test_of_the_machine_what_is_not_available_is_used(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("reads the files of Linux")
    files = {
        "proc/meminfo": "MemTotal:        8000 kB\nMemFree:          100 kB\nMemAvailable:    3000 kB\nHuge: 0\n",
        "proc/pressure/memory": "some avg10=0.50 avg60=0.00 avg300=0.00 total=9\n",
    }
    assert machine(system(tmp_path, files)) == [Reading(5000 * 1024, 8000 * 1024, "machine", 0.5)]


def test_this_system_can_be_read() -> None:
    own, *others = Sensor(lambda: 100 * GB)()
    assert own.source == "memory_limit"
    assert 5 * MIB < own.used < 50 * GB
    assert [one for one in others if one.source == "machine" and 0 < one.used < one.limit]


def test_child_processes_count_and_no_longer_when_they_have_ended() -> None:
    alone = Family().resident()
    program = "import sys; kept = b'x' * 60_000_000; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        family = Family()
        assert family.resident() > alone + 55_000_000
        child.communicate("")
    assert family.resident() < alone + 30_000_000


@pytest.mark.parametrize(
    ("written", "amount"),
    [
        *(("", 0), ("0", 0), (1000, 1000), ("1000", 1000), ("7B", 7), ("64k", 65536), ("512M", 512 * MIB)),
        *(("512 mb", 512 * MIB), ("1.5G", 3 * GB // 2), ("2GiB", 2 * GB), ("1T", 1024 * GB)),
    ],
)
def test_amounts_are_read_as_people_write_them(written: str | int, amount: int) -> None:
    assert size(written) == amount


@pytest.mark.parametrize("written", ["lots", "-1", "-512M", "1e9", "5 X", "M", "12,5G", "nan", "²G", "9" * 50])
def test_what_is_no_amount_is_refused_with_a_sentence(written: str) -> None:
    with pytest.raises(ConfigError, match=r"is no amount of memory\. Write"):
        size(written)
