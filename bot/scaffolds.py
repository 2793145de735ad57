"""What `roost new` writes: a file that works, and its test, to be changed into something of one's own."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from roost.errors import RoostError

PLUGIN = '''"""@NAME@: says hello, asks for a name once, and remembers it."""

from roost import Message, command, key, options


@options
class Options:
    """The keys of [plugins.@NAME@] in bot.toml."""

    greeting: str = key("Hello", help="What people are greeted with.")


@command
async def @NAME@(bot, message: Message, name: str = "") -> str:
    """Greet someone."""
    name = name or await message.ask("What is your name?")
    return f"{bot.options(Options).greeting}, {name}!"
'''

PLUGIN_TEST = '''"""Run it with: python -m pytest @TEST@"""

from pathlib import Path

from roost.testing import play

PLUGIN = Path(__file__).parent.parent / "plugins" / "@NAME@.py"


def test_it_greets(tmp_path: Path) -> None:
    play(tmp_path, "you: /@COMMAND@ Ann", "bot: Hello, Ann!", plugins=[PLUGIN])


def test_it_asks_for_a_name(tmp_path: Path) -> None:
    play(tmp_path, "you: /@COMMAND@", "bot: What is your name?", "you: Bob", "bot: Hello, Bob!", plugins=[PLUGIN])


def test_the_greeting_comes_from_bot_toml(tmp_path: Path) -> None:
    config = '[plugins.@NAME@]\\ngreeting = "Good day"\\n'
    play(tmp_path, "you: /@COMMAND@ Ann", "bot: Good day, Ann!", plugins=[PLUGIN], config=config)
'''

CHANNEL = '''"""@NAME@: a channel. Here it is lines of JSON over TCP; put your platform in their place.

[channels.@NAME@] in bot.toml switches it on. A line in: {"id": "1", "from": "ann", "text": "hello"}; a line out:
{"id": "1", "to": "ann", "text": "Hello!"}.
"""

import asyncio
import itertools
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from roost import Message, Person, Place, Reply, Sent, hookimpl, key
from roost.contracts import Channel, ChannelConfig, Limits, Receive
from roost.errors import MaybeSent, NotSent

log = logging.getLogger("roost.channels.@NAME@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ChannelConfig):
    host: str = key("127.0.0.1", help="The platform's address.")
    port: int = key(help="Its port.", least=1, most=65535)


class Lines(Channel):
    """One connection to the platform."""

    Config = Config
    limits = Limits(max_text=2000)

    def __init__(self, name: str, config: Config, host: Any) -> None:
        super().__init__(name, config, host)
        self._writer: asyncio.StreamWriter | None = None
        self._ids = itertools.count(1)

    async def run(self, receive: Receive) -> None:
        """Listen until cancelled. What it raises makes the supervisor start it again later."""
        reader, self._writer = await asyncio.open_connection(self.config.host, self.config.port)
        try:
            self.host.pulse()  # a sign of life: the channel is up
            while line := await reader.readline():
                self.host.pulse()
                try:
                    message = read(self.name, json.loads(line))
                except (ValueError, RecursionError) as error:  # else it would come again and again
                    log.warning("What came in is passed over: %s", error)
                    continue
                await receive(message)  # safe on disk when this returns: now acknowledge it
        finally:
            self._writer.close()
            self._writer = None
        raise ConnectionError("The platform has closed the connection.")

    async def send(self, place: Place, reply: Reply) -> Sent:
        """Deliver. NotSent may be tried again; MaybeSent may have arrived."""
        if self._writer is None:
            raise NotSent("There is no connection.")
        id = str(next(self._ids))
        try:
            self._writer.write(write(place, reply, id))
            await self._writer.drain()
        except OSError as error:
            raise MaybeSent(f"The connection was cut: {error}.") from error
        return Sent(place, (id,))


def read(channel: str, update: Any) -> Message:
    """What came in, as the core knows it. Raises ValueError for what is no message."""
    match update:
        case {"id": str(id), "from": str(who), "text": str(text)} if who:
            return Message(id, Place(channel, who), Person(channel, who, who), text, time.time())
    raise ValueError("It has no 'id', 'from' and 'text'.")


def write(place: Place, reply: Reply, id: str) -> bytes:
    """A reply as the platform wants it. Its text is short enough, and in the markup that `limits` names."""
    return json.dumps({"id": id, "to": place.chat, "text": reply.text}).encode() + b"\\n"


@hookimpl
def register_channels(register) -> None:
    register("@NAME@", Lines)
'''

CHANNEL_TEST = '''"""Run it with: python -m pytest @TEST@"""

import asyncio
import json
from pathlib import Path

from roost.testing import Stage, check_read, module_of

PLUGIN = Path(__file__).parent.parent / "plugins" / "@NAME@.py"


def test_whatever_comes_in_is_read_or_refused() -> None:
    read = module_of(PLUGIN).read
    check_read(lambda update: read("@NAME@", update), {"id": "1", "from": "ann", "text": "hello"}, raises=(ValueError,))


async def talk(folder: Path) -> dict[str, str]:
    """Be the platform: say something, and wait for what the bot answers."""
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def platform(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps({"id": "1", "from": "ann", "text": "hello"}).encode() + b"\\n")
        answered.set_result(await reader.readline())
        await reader.read()
        writer.close()

    server = await asyncio.start_server(platform, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Stage(folder, plugins=[PLUGIN], config=f"[channels.@NAME@]\\nport = {port}\\n"):
        async with asyncio.timeout(30):
            return json.loads(await answered)


def test_what_is_said_is_answered(tmp_path: Path) -> None:
    said = asyncio.run(talk(tmp_path))  # the brain of a stage says again what it hears
    assert (said["to"], said["text"]) == ("ann", "hello")
'''


def write(kind: str, name: str, beside: Path) -> list[Path]:
    """Write the files of a new plugin or channel beside bot.toml. Raises RoostError rather than replace one."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise RoostError(f"'{name}' cannot name a {kind}. Use small letters, digits and '_', a letter first.")
    source, test = (PLUGIN, PLUGIN_TEST) if kind == "plugin" else (CHANNEL, CHANNEL_TEST)
    files = {beside / "plugins" / f"{name}.py": source, beside / "tests" / f"test_{name}.py": test}
    for path in files:
        if path.exists():
            raise RoostError(f"There is a '{path}' already. Choose another name, or remove it.")
    words = {"NAME": name, "COMMAND": name.replace("_", "-"), "TEST": f"tests/test_{name}.py"}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], text), encoding="utf-8")
    return list(files)
