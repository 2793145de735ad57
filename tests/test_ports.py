from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from roost.ports import holder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows makes no such links")

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2253 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1
"""


def proc(folder: Path, state: str = "0A") -> Path:
    (folder / "net").mkdir()
    (folder / "net" / "tcp").write_text(TABLE.format(state=state, inode=4711))
    (folder / "812" / "fd").mkdir(parents=True)
    (folder / "812" / "comm").write_text("nginx\n")
    (folder / "812" / "fd" / "7").symlink_to("socket:[4711]")
    return folder


def test_the_listening_program_is_named(tmp_path: Path) -> None:
    assert holder(0x2253, proc(tmp_path)) == "nginx (process 812)"


def test_a_file_that_was_closed_meanwhile_hides_no_holder(tmp_path: Path) -> None:
    folder = proc(tmp_path)
    for name in ("0", "9"):  # whichever comes first in the listing
        (folder / "812" / "fd" / name).mkdir()  # reading it as a link fails
    assert holder(0x2253, folder) == "nginx (process 812)"


def test_another_port_has_no_holder(tmp_path: Path) -> None:
    assert holder(1, proc(tmp_path)) == ""


def test_a_connection_that_only_uses_the_port_is_not_its_holder(tmp_path: Path) -> None:
    assert holder(0x2253, proc(tmp_path, state="01")) == ""


def test_a_system_without_these_tables_has_no_answer(tmp_path: Path) -> None:
    assert holder(8787, tmp_path) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/net/tcp")
def test_this_process_is_found_by_the_port_it_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert f"(process {os.getpid()})" in holder(server.getsockname()[1])
