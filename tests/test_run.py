"""The real process: `roost run`, `roost chat`, signals, a second start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CONFIG = '[brain]\nuse = "echo"\n[web]\nport = 0\n'


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "ROOST_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}


@contextmanager
def running(folder: Path, config: str = CONFIG) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A bot that has said that it is ready, and what it said."""
    (folder / "bot.toml").write_text(config)
    command = [sys.executable, "-m", "roost", "run"]
    bot = subprocess.Popen(
        command, cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert bot.stdout is not None
    try:
        yield bot, bot.stdout.readline()
    finally:
        bot.kill()
        bot.communicate()


def chat(folder: Path, text: str) -> str:
    command = [sys.executable, "-m", "roost", "chat"]
    done = subprocess.run(
        command,
        input=text,
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_gets_the_answer_alone_from_the_running_bot(tmp_path: Path) -> None:
    with running(tmp_path) as (_, line):
        assert line.startswith("Roost is ready: http://127.0.0.1:")
        assert chat(tmp_path, "hello from a script\n") == "hello from a script\n"


def test_a_script_gets_the_answer_also_when_no_bot_runs(tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_text(CONFIG)
    assert chat(tmp_path, "hello") == "hello\n"


def test_a_killed_bot_starts_again_on_the_same_folder(tmp_path: Path) -> None:
    with running(tmp_path) as (bot, _):
        chat(tmp_path, "one")
        bot.kill()
        bot.wait()
    with running(tmp_path) as (_, line):
        assert "is ready" in line
        assert chat(tmp_path, "two") == "two\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_a_signal_stops_it_gracefully(tmp_path: Path) -> None:
    with running(tmp_path) as (bot, _):
        bot.send_signal(signal.SIGTERM)
        assert bot.wait(20) == 0


def test_a_second_bot_on_the_same_folder_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with running(tmp_path):
        command = [sys.executable, "-m", "roost", "run"]
        second = subprocess.run(
            command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
        )
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1].startswith("Another Roost uses the data folder")


def test_a_taken_port_names_the_key_to_change(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "bot.toml").write_text(CONFIG.replace("port = 0", f"port = {port}"))
        done = subprocess.run(
            [sys.executable, "-m", "roost", "run"],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1
        assert str(port) in done.stderr
        assert "[web] port" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_shipped_plugins_load(tmp_path: Path) -> None:
    (tmp_path / "plugins").symlink_to(Path(__file__).parent.parent / "plugins")
    (tmp_path / "bot.toml").write_text(CONFIG)
    assert chat(tmp_path, "/hello Ann") == "Hello, Ann!\n"
    assert chat(tmp_path, "/roll 6 2").startswith("🎲 ")
