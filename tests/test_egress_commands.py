"""What leaves when no bot runs, and what MCP servers send: it is in the ledger as well."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from test_egress import outer
from test_mcp_client import owned, table

from roost import egress, extras
from roost.bot import Bot
from roost.cli import main
from roost.config import load
from roost.egress import Refused, by, noted
from roost.errors import RoostError
from roost.ledger import FILE, Ledger, Row
from roost.testing import Stage


class Nothing(BaseHTTPRequestHandler):
    """Has nothing of what it is asked for."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_HEAD = do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def empty_server() -> Iterator[str]:
    with ThreadingHTTPServer((outer(), 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://{server.server_address[0]!s}:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def rows(home: Path) -> list[Row]:
    return Ledger(home / FILE).read()


@pytest.mark.parametrize("line", ["model pull {}", "model use {} --config {}"], ids=["pull", "use"])
def test_a_model_that_a_command_fetches_is_in_the_ledger(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_server: str
) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", empty_server)
    (tmp_path / "bot.toml").touch()
    done = CliRunner().invoke(main, line.format("hf:ann/tea:tea.gguf", tmp_path / "bot.toml").split())
    assert done.exit_code == 1
    found = [(one.who, f"http://{one.host}:{one.port}") for one in rows(tmp_path) if one.connections]
    assert found == [("model download", empty_server)], done.output
    assert not egress._watches, "nobody looks on when the command is done"


def test_what_an_installation_starts_is_in_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path))
    monkeypatch.setattr(extras, "install_line", lambda packages: [sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(RoostError, match="did not work"):
        extras.install_packages(["tea"])
    assert [(one.who, one.sort) for one in rows(tmp_path)] == [("installation", "program")]


async def test_a_bot_that_runs_writes_it_down_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "elsewhere"))
    async with Stage(tmp_path) as stage:
        with noted("installation"):
            assert egress.current() is stage.bot.egress
            await asyncio.to_thread(subprocess.run, [sys.executable, "-c", ""], check=True)
        assert egress.current() is stage.bot.egress
    assert [one.who for one in rows(tmp_path / "home")] == ["installation"]
    assert not rows(tmp_path / "elsewhere")


async def test_a_command_that_does_the_work_of_a_bot_is_as_strict_as_the_bot(tmp_path: Path) -> None:
    """`roost memory compact` asks the brain, `roost channels test` the platform."""
    stage = Stage(tmp_path, config="[privacy]\nstrict = true\n")
    (tmp_path / "home").mkdir()
    bot = Bot(load(stage.path, stage.registry, {}), stage.registry, tmp_path / "home")
    async with bot.at_rest():
        with by("channel x"), pytest.raises(Refused), closing(socket.socket()) as one:
            one.connect((outer(), 9))
    assert [(one.who, one.refused) for one in rows(tmp_path / "home")] == [("channel x", 1)]
    assert not egress._watches


async def test_an_mcp_server_is_named_in_the_ledger(tmp_path: Path, empty_server: str) -> None:
    far = f'[mcp.far]\nurl = "{empty_server}/mcp"\n'
    async with Stage(tmp_path, config=owned(table(), far)) as stage:
        async with asyncio.timeout(30):
            while not {("mcp raw", "program"), ("mcp far", "connection")} <= whose(stage):
                await asyncio.sleep(0.05)
    assert {one.who for one in rows(tmp_path / "home")} == {"mcp raw", "mcp far"}


def whose(stage: Stage) -> set[tuple[str, str]]:
    assert stage.bot.egress.written()
    return {(one.who, one.sort) for one in rows(stage.folder / "home")}
