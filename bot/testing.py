"""The kit for tests of plugins and channels: a whole bot in a scratch folder, and someone to talk to it.

async def test_hello(tmp_path):
    async with Stage(tmp_path, plugins=[my_plugin]) as stage:
        assert await stage.talk("/hello Ann") == "Hello, Ann!"
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from roost.bot import Bot
from roost.config import load
from roost.contracts import Brain, Channel, Limits, Piece, Prompt, Receive
from roost.dialects import MARKDOWN
from roost.folder import Source, import_source
from roost.registry import Registry
from roost.settings import PluginsTable
from roost.strategies import arguments, attachments, messages, people, places, texts
from roost.updates import check_read
from roost.values import Event, Message, Person, Place, Reply, Sent

__all__ = [
    "Clock",
    "ScriptedBrain",
    "Stage",
    "StageChannel",
    "arguments",
    "attachments",
    "check_read",
    "messages",
    "module_of",
    "people",
    "places",
    "play",
    "texts",
]


def module_of(path: Path) -> ModuleType:
    """A plugin (NAME.py or NAME/__init__.py) imported as the bot does it, for tests of its functions."""
    return import_source(_source(path))


def _source(path: Path) -> Source:
    return Source(path.parent.name if path.name == "__init__.py" else path.stem, path)


class ScriptedBrain(Brain):
    """A brain that answers with what `script` returns for the last thing said; by default, with the same words.

    `prompts` keeps every prompt it was asked.
    """

    def __init__(self, config: Any, home: Path) -> None:
        super().__init__(config, home)
        self.script: Callable[[str], str | Iterable[Piece]] = lambda said: said
        self.prompts: list[Prompt] = []

    async def think(self, prompt: Prompt) -> AsyncIterator[Piece]:
        self.prompts.append(prompt)
        answer = self.script(prompt.question)
        for piece in [answer] if isinstance(answer, str) else answer:
            yield piece
            await asyncio.sleep(0)


class StageChannel(Channel):
    """A chat platform in memory. `fail` may hold exceptions, raised by the next sends in turn."""

    limits = Limits(markup=MARKDOWN, max_text=4096, quotes=True)

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.receive: Receive | None = None
        self.sent: list[tuple[Place, Reply]] = []
        self.fail: list[Exception] = []
        self.came = asyncio.Condition()
        self._ids = itertools.count(1)

    async def run(self, receive: Receive) -> None:
        self.receive = receive
        self.host.pulse()
        await asyncio.Future()

    async def send(self, place: Place, reply: Reply) -> Sent:
        if self.fail:
            raise self.fail.pop(0)
        async with self.came:
            self.sent.append((place, reply))
            self.came.notify_all()
        return Sent(place, (str(next(self._ids)),))


class Stage:
    """A bot with one channel in memory and a scripted brain, in the folder given.

    `plugins` are files, modules or objects with hooks, commands and jobs; `config` is more text for its bot.toml,
    `channel_config` for the table of the channel.
    """

    def __init__(
        self,
        folder: Path,
        plugins: Iterable[object] = (),
        config: str = "",
        channel: type[Channel] = StageChannel,
        channel_config: str = "",
        script: Callable[[str], str | Iterable[str]] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.registry = Registry()
        self.registry.load(PluginsTable(), folder)
        self.registry.channels.always.clear()
        self.registry.channels.put("stage", channel)
        self.registry.brains.put("scripted", ScriptedBrain)
        for number, plugin in enumerate(plugins):
            if isinstance(plugin, Path):
                self.registry.add(module_of(plugin), _source(plugin).name)
                continue
            self.registry.add(plugin, f"{getattr(plugin, '__name__', 'plugin')}-{number}")
        self.path = folder / "bot.toml"
        tables = {"brain": 'use = "scripted"', "access": 'direct = "open"', "web": "enabled = false"}
        absent = "".join(f"[{name}]\n{body}\n" for name, body in tables.items() if f"[{name}]" not in config)
        self.path.write_text(absent + config + f"\n[channels.stage]\n{channel_config}\n")
        self.script = script
        self.environment = dict(environment or {})
        self._ids = itertools.count(1)
        self.bot: Bot

    async def __aenter__(self) -> Stage:
        config = load(self.path, self.registry, self.environment)
        self.bot = Bot(config, self.registry, self.folder / "home")
        (self.folder / "home").mkdir(exist_ok=True)
        if self.script is not None:
            self.brain.script = self.script
        await self.bot.start()
        await self.bot.channels["stage"].up.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.bot.stop()

    @property
    def brain(self) -> ScriptedBrain:
        assert isinstance(self.bot.brain, ScriptedBrain)
        return self.bot.brain

    @property
    def channel(self) -> StageChannel:
        channel = self.bot.channel("stage")
        assert isinstance(channel, StageChannel)
        return channel

    def message(self, text: str, chat: str = "1", person: str = "Ann", **fields: Any) -> Message:
        """A message as a channel would make it, with an id of its own."""
        id = fields.pop("id", f"{chat}-{next(self._ids)}-{time.monotonic_ns()}")
        place = fields.pop("place", Place("stage", chat))
        return Message(id, place, Person("stage", person.lower(), person), text, time.time(), **fields)

    async def say(self, text: str, **fields: Any) -> Message:
        """Let someone say something, without waiting for the answer."""
        message = self.message(text, **fields)
        await self.receive(message)
        return message

    async def receive(self, item: Message | Event) -> bool:
        receive = self.channel.receive
        assert receive is not None
        return await receive(item)

    async def talk(self, text: str, **fields: Any) -> str:
        """Say something and return what the bot answers; several messages are joined by blank lines."""
        before = len(self.channel.sent)
        await self.say(text, **fields)
        await self.quiet()
        return "\n\n".join(reply.text for _, reply in self.channel.sent[before:])

    async def quiet(self, limit: float = 10.0) -> None:
        """Wait until nothing is being answered or delivered."""
        async with asyncio.timeout(limit):
            await self.bot.settle()


def play(folder: Path, *lines: str, **options: Any) -> None:
    """Play a conversation in a scratch folder: each line is "you: …", what is said, or "bot: …", the whole answer.

    `options` are those of a Stage. Raises AssertionError where the bot says something else.
    """

    async def whole() -> None:
        async with Stage(folder, **options) as stage:
            said = ""
            for line in lines:
                who, _, text = line.partition(": ")
                if who == "you":
                    said = await stage.talk(text)
                else:
                    assert said == text, f"The bot said {said!r}, not {text!r}."

    asyncio.run(whole())


class Clock:
    """Another time than it is, for what looks at `time.time()`: `with Clock() as clock: clock.move(3600)`."""

    def __init__(self, start: float | None = None) -> None:
        self._real = time.time
        self._ahead = 0.0 if start is None else start - time.time()

    def __enter__(self) -> Clock:
        time.time = self
        return self

    def __exit__(self, *_: object) -> None:
        time.time = self._real

    def __call__(self) -> float:
        return self._real() + self._ahead

    def move(self, seconds: float) -> None:
        """Let so many seconds pass, or come back when they are less than 0."""
        self._ahead += seconds
