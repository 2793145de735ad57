"""Plugins that never come to an end: named, ended, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from roost.aside import AT_ONCE, LOST
from roost.contracts import Call
from roost.testing import Stage

SOURCE = """
import asyncio
import threading
from roost import command, hookimpl, job, tool

go = threading.Event()
closed = []
count = 0


@command
async def waits() -> str:
    '''Awaits for ever.'''
    await asyncio.Event().wait()


@command
def stays() -> str:
    '''Stays in its thread for ever.'''
    go.wait(60)


@command
async def flows():
    '''Says things for ever.'''
    try:
        while True:
            yield "more"
    finally:
        closed.append("flows")


@command
def pours():
    '''The same in a thread.'''
    global count
    while not go.is_set():
        count += 1
        yield "more"


@command
async def drips():
    '''Says one thing and then waits for ever.'''
    yield "one"
    await asyncio.Event().wait()


@tool
def sticks() -> str:
    '''Stays in its thread for ever.'''
    go.wait(60)


@hookimpl
async def on_message(message):
    if message.text == "hook":
        await asyncio.Event().wait()
    if message.text == "many":
        return (f"{number}" for number in iter(int, 1))
    if message.text == "drip":
        return drip()


async def drip():
    yield "one"
    await asyncio.Event().wait()
"""


async def begun(tmp_path: Path, limit: float = 0.2) -> tuple[Stage, Any]:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "endless.py").write_text(SOURCE)
    stage = Stage(tmp_path, config=f"[tools]\ntimeout = {limit}\n")
    await stage.__aenter__()
    stage.bot.dispatch.time_limit = limit
    return stage, stage.registry.plugins.get_plugin("endless")


@pytest.mark.parametrize("name", ["waits", "stays", "drips"])
async def test_a_command_that_does_not_end_is_ended_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    stage, module = await begun(tmp_path)
    try:
        said = await stage.talk(f"/{name}")
        assert "⚠️" in said and "too long" in said, said
        assert f"The plugin 'endless' took too long in /{name} and was cut off." in caplog.text
        assert await stage.talk("hello") == "hello"
    finally:
        module.go.set()
        await stage.bot.stop()


@pytest.mark.parametrize("text", ["hook", "drip"])
async def test_a_hook_that_does_not_end_is_cut_off_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    stage, module = await begun(tmp_path)
    try:
        assert await stage.talk(text) == text
        assert "The plugin 'endless' took more than 0.2 s in on_message and was cut off." in caplog.text
    finally:
        module.go.set()
        await stage.bot.stop()


@pytest.mark.parametrize("text", ["/flows", "/pours", "many"])
async def test_what_says_things_for_ever_is_ended_after_twenty(tmp_path: Path, text: str) -> None:
    stage, module = await begun(tmp_path, limit=10)
    try:
        assert len((await stage.talk(text)).split()) == 20
        assert module.count <= 21, "it went on in its thread"
        assert module.closed == (["flows"] if text == "/flows" else []), "what it has open is closed at once"
    finally:
        module.go.set()
        await stage.bot.stop()


async def test_threads_that_do_not_end_leave_room_for_everybody_else(tmp_path: Path) -> None:
    """More of them than Python's own pool has threads."""
    stage, module = await begun(tmp_path, limit=0.05)
    try:
        for number in range(40):
            await stage.say("/stays", chat=f"c{number}")
        await stage.quiet(30)
        assert await stage.talk("hello") == "hello"
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 30) == "free"
        stage.brain.script = lambda said: [Call("1", "sticks")] if said == "go" else said
        assert "calls of 'endless' have not ended" in await stage.talk("go")
    finally:
        module.go.set()
        await stage.bot.stop()


async def test_a_tool_that_does_not_end_is_stopped_and_the_brain_told(tmp_path: Path) -> None:
    stage, module = await begun(tmp_path)
    try:
        stage.brain.script = lambda said: [Call("1", "sticks")] if said == "go" else said
        assert await stage.talk("go") == "It took more than 0.2 seconds and was stopped."
    finally:
        module.go.set()
        await stage.bot.stop()


async def test_a_plugin_with_many_that_do_not_end_is_not_called_again_before_one_has(tmp_path: Path) -> None:
    stage, module = await begun(tmp_path, limit=0.05)
    try:
        for number in range(40):
            await stage.say("/stays", chat=f"c{number}")
        await stage.quiet(30)
        own = [one for one in threading.enumerate() if one.name == "roost-plugin-endless"]
        assert LOST <= len(own) <= AT_ONCE + LOST
        assert "calls of 'endless' have not ended" in await stage.talk("/stays")
        module.go.set()
        async with asyncio.timeout(20):
            while "have not ended" in await stage.talk("/stays"):
                await asyncio.sleep(0)
    finally:
        module.go.set()
        await stage.bot.stop()


def test_a_process_ends_although_a_plugin_does_not(tmp_path: Path) -> None:
    script = f"""
import asyncio
from pathlib import Path
from roost.testing import Stage

async def main() -> None:
    async with Stage(Path({str(tmp_path)!r})) as stage:
        stage.bot.dispatch.time_limit = 0.1
        print(await stage.talk("/stays"))

asyncio.run(main())
"""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "endless.py").write_text(SOURCE)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=40, check=True)
    assert "too long" in ran.stdout
