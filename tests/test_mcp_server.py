"""`roost mcp`, asked by the SDK's own client over stdio, with a bot beside it that runs in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp

from roost.chat import ask
from roost.link import Address
from roost.run import ADDRESS

CONFIG = '[brain]\nuse = "echo"\n[web]\nenabled = false\n[bot]\nname = "Robin"\nowner = "terminal:terminal"\n'
# It looks for wishes more often than every two seconds, which would only make the test longer.
RUN = "from roost import bot, cli; bot.HEED = 0.02; cli.main()"


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Address]:
    """A bot that runs as `roost run` does; gives where its terminal listens."""
    (folder / "bot.toml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN, "run", "--config", str(folder / "bot.toml")),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "ROOST_HOME": str(folder / "home")},
    )
    assert process.stdout is not None
    try:
        assert b"ready" in await process.stdout.readline()
        async with asyncio.timeout(20):
            while not (folder / "home" / ADDRESS).exists():
                await asyncio.sleep(0.05)
        yield Address.read(folder / "home" / ADDRESS)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


@asynccontextmanager
async def client(folder: Path) -> AsyncIterator[Any]:
    (folder / "bot.toml").write_text(CONFIG)
    server = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "roost", "mcp", "--config", str(folder / "bot.toml")],
        env={"ROOST_HOME": str(folder / "home")},
    )
    async with mcp.Client(server) as one:
        yield one


async def result(one: Any, name: str, **arguments: Any) -> Any:
    answer = await one.call_tool(name, arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


async def problem(one: Any, name: str, **arguments: Any) -> str:
    answer = await one.call_tool(name, arguments)
    assert answer.is_error
    return str(answer.content[0].text)


async def test_another_program_reads_writes_and_remembers_through_the_bot_that_runs(tmp_path: Path) -> None:
    async with running(tmp_path) as address, client(tmp_path) as one:
        assert "Robin" in one.instructions
        assert "purple penguins" in await ask(address, "I like purple penguins", limit=20)

        places = (await result(one, "list_places"))["places"]
        place = places[0]["place"]
        assert place.startswith("terminal:") and places[0]["last"]
        (found,) = (await result(one, "search_memory", place=place, words="penguins"))["found"]
        assert any("purple penguins" in turn["text"] for turn in found["turns"])

        assert (await result(one, "send_message", place=place, text="The oven is *hot*."))["accepted"]
        lines = (await result(one, "recent_messages", place=place))["lines"]
        assert lines[0]["text"] == "I like purple penguins" and not lines[0]["bot"]
        assert lines[-1]["text"] == "The oven is *hot*." and lines[-1]["bot"]

        assert (await result(one, "remember_fact", about=place, fact="Eats no nuts"))["remembered"] == "Eats no nuts"
        facts = (await result(one, "list_facts", about=place))["facts"]
        assert [fact["text"] for fact in facts] == ["Eats no nuts"]
        channels = (await result(one, "list_channels"))["channels"]
        assert {"terminal": "running"}.items() <= {each["channel"]: each["state"] for each in channels}.items()

        assert "is not a place" in await problem(one, "send_message", place="nowhere", text="Hi")
        assert "There is no channel 'pigeon'" in await problem(one, "send_message", place="pigeon:1", text="Hi")
        assert "no text" in await problem(one, "send_message", place=place, text=" ")


async def test_without_a_bot_that_runs_memory_is_read_and_nothing_is_sent(tmp_path: Path) -> None:
    async with client(tmp_path) as one:
        tools = {tool.name: tool for tool in (await one.list_tools()).tools}
        reading = {name for name, tool in tools.items() if tool.annotations and tool.annotations.read_only_hint}
        assert set(tools) - reading == {"send_message", "remember_fact"}

        assert (await result(one, "list_places"))["places"] == []
        assert "The bot does not run" in await problem(one, "send_message", place="terminal:terminal", text="Hi")
        await result(one, "remember_fact", about="telegram:42", fact="Eats no nuts")
        assert [fact["text"] for fact in (await result(one, "list_facts", about="telegram:42"))["facts"]] == [
            "Eats no nuts"
        ]


async def test_only_the_protocol_is_on_its_standard_output(tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_text(CONFIG + "[channels.none]\nenabled = true\n")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost", "mcp", "--config", str(tmp_path / "bot.toml")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "ROOST_HOME": str(tmp_path / "home")},
    )
    out, error = await process.communicate(b"")
    assert process.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == []
    assert b"There is no channel 'none'" in error
