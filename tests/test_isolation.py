"""Nothing of one person or place reaches another: canaries planted everywhere, looked for everywhere else."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from kit import samples

from roost import Message, command, hookimpl, tool
from roost.brains.llamacpp import LlamaCpp
from roost.contracts import Call, Piece, Prompt
from roost.hearing import Hearing
from roost.memory import offers
from roost.testing import ScriptedBrain, Stage, StageChannel
from roost.values import Attachment, AttachmentKind, Person, Place, PlaceKind, Quote

CONFIG = """
[brain]
use = 'seeing'
context = 1024
max_tokens = 128
[access]
direct = 'open'
groups = 'open'
[memory]
compact_keep = 2
[tools]
allow = ['keep', 'search_memory']
[hearing]
use = 'stage'
[channels.second]
kind = 'stage'
"""
CANARY = re.compile(r"canary\d+x")
TOPIC = "the secret code of the blue garden door is"  # in every text, so that a search without a place finds all


@dataclass(frozen=True, slots=True)
class Seat:
    """Somebody somewhere. Chats, threads, people and messages have the same ids on both channels."""

    channel: str
    person: str
    chat: str
    thread: str = ""
    kind: PlaceKind = "direct"

    @property
    def place(self) -> Place:
        return Place(self.channel, self.chat, self.thread, self.kind)

    @property
    def who(self) -> str:
        return f"{self.channel}:{self.person}"


SEATS = (
    Seat("stage", "ann", "1"),
    Seat("second", "ann", "1"),  # another Ann
    Seat("stage", "bob", "2"),
    Seat("second", "bob", "2"),  # Bob, who will say so
    Seat("stage", "ann", "g", "", "group"),
    Seat("stage", "bob", "g", "", "group"),
    Seat("stage", "ann", "g", "t1", "group"),
    Seat("stage", "bob", "g", "t2", "group"),
    Seat("second", "bob", "g", "t1", "group"),
)
LINKED = ({"stage:bob", "second:bob"},)
PLANTING = ("say", "fact", "note", "state", "file", "quote", "tool", "voice", "picture", "read")
ASKING = ("facts", "notes", "show", "search", "recall", "ask", "pin", "compact")
KINDS = (*PLANTING, *ASKING)
STEPS = st.lists(
    st.lists(st.tuples(st.sampled_from(SEATS), st.sampled_from(KINDS)), min_size=1, max_size=5), min_size=4, max_size=12
)


@dataclass(slots=True)
class Planted:
    """Where canaries belong: in a place; wherever a person asks for their own notes; in a person's direct chats."""

    places: dict[str, str] = field(default_factory=dict)
    notes: dict[str, set[str]] = field(default_factory=dict)
    facts: dict[str, set[str]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def at(self, place: Place) -> str:
        canary = f"canary{next(self.numbers)}x"
        self.places[canary] = str(place)
        return canary

    def note(self, who: str) -> str:
        canary = f"canary{next(self.numbers)}x"
        self.notes[canary] = {who}
        return canary

    def fact(self, who: str) -> str:
        canary = f"canary{next(self.numbers)}x"
        self.facts[canary] = next((group for group in LINKED if who in group), {who})
        return canary

    def astray(self, text: str, place: Place, people: Collection[str]) -> set[str]:
        """The canaries in a text that have no business in a place where these people are."""
        return {one for one in CANARY.findall(text) if not self.belongs(one, place, people)}

    def belongs(self, canary: str, place: Place, people: Collection[str]) -> bool:
        if self.places.get(canary) == str(place) or self.notes.get(canary, set()).intersection(people):
            return True
        return place.kind == "direct" and bool(self.facts.get(canary, set()).intersection(people))


class Files(StageChannel):
    """A platform that hands files over by numbers, which begin at 1 on each account."""

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.files: dict[str, bytes] = {}

    async def fetch(self, attachment: Attachment) -> AsyncGenerator[bytes, None]:
        yield self.files[attachment.ref]

    def put(self, kind: AttachmentKind, content: bytes) -> Attachment:
        """The same name and number for every first file of an account."""
        ref = f"{len(self.files) + 1}"
        self.files[ref] = content
        mime = {"voice": "audio/ogg", "image": "image/png"}.get(kind, "text/plain")
        return Attachment(kind, f"file{ref}", mime, len(content), ref)


class Ears(Hearing):
    """Hears the canary in a recording."""

    async def transcribe(self, speech: bytes, name: str, mime: str) -> str:
        return f"{TOPIC} {in_bytes(speech)}"


class Eyes(ScriptedBrain):
    sees = True


def in_bytes(content: bytes) -> str:
    return CANARY.findall(content.decode("latin-1"))[0]


class Tools:
    """A plugin with a tool, a state and a reader of files; it keeps what its tool was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Message, str]] = []
        plugin = self

        @tool
        async def keep(message: Message, word: str) -> str:
            """Keep a word.

            word: the word
            """
            plugin.calls.append((message, word))
            return f"kept {word}"

        @command
        async def mark(message: Message, word: str) -> str:
            """Keep a word in the state of the dialogue."""
            message.state["words"] = [*message.state.get("words", []), word]
            return "marked"

        @command
        async def marks(message: Message) -> str:
            """Show those words."""
            return f"marks {message.state.get('words', [])}"

        @command
        async def read(message: Message, file: Attachment) -> str:
            """Show what is in a file."""
            return f"read {(await file.read()).decode()}"

        self.keep, self.mark, self.marks, self.read = keep, mark, marks, read

    def module(self) -> ModuleType:
        module = ModuleType("tools")
        vars(module).update(keep=self.keep, mark=self.mark, marks=self.marks, read=self.read)
        vars(module).update(register_hearings=hookimpl(lambda register: register("stage", Ears)))
        return module


class Theatre:
    """Plays steps on a stage with two channels, and looks for canaries after each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.planted = Planted()
        self.tools = Tools()
        self.stage: Stage
        self.prompts = self.calls = 0
        self.sent = {"stage": 0, "second": 0}
        self.asked: dict[str, Seat] = {}
        self.ids: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))
        self.seen: set[str] = set()
        self.filed: defaultdict[str, set[str]] = defaultdict(set)

    def channel(self, name: str) -> Files:
        found = self.stage.bot.channel(name)
        assert isinstance(found, Files)
        return found

    async def play(self, steps: Sequence[Sequence[tuple[Seat, str]]]) -> None:
        """A batch goes in at once; the bot is started anew in the middle."""
        half = len(steps) // 2
        for part in (steps[:half], steps[half:]):
            self.stage = Stage(self.folder, [self.tools.module(), NOTES], CONFIG, channel=Files, script=self.script)
            self.stage.registry.brains.put("seeing", Eyes)
            self.prompts, self.sent = 0, {"stage": 0, "second": 0}
            async with self.stage:
                await self.stage.bot.channels["second"].up.wait()
                await self.stage.bot.people.join("stage:bob", "second:bob")
                for batch in part:
                    await asyncio.gather(*(self.act(*one) for one in batch))
                    await self.stage.quiet()
                    self.look()
                await self.look_from_the_command_line()

    def script(self, said: str) -> str | list[Piece]:
        if seen := self.stage.brain.prompts[-1].turns[-1].pictures:
            return f"In the picture I see {in_bytes(seen[0].data)}"
        if "use the tool" not in said:
            return f"You said: {said}"
        if "kept" in self.stage.brain.prompts[-1].turns[-1].text:
            return "Done."
        return [
            Call("1", "keep", f'{{"word": "{CANARY.findall(said)[0]}"}}'),
            Call("2", "search_memory", '{"words": "garden door"}'),
        ]

    async def act(self, seat: Seat, kind: str) -> None:
        canary = self.planted.at(seat.place)
        self.asked[canary] = seat
        fields: dict[str, Any] = {}
        text = f"{TOPIC} {canary}"
        if kind in COMMANDS:
            text = COMMANDS[kind].format(text)
        if kind == "note":
            text = f"/note {TOPIC} {self.planted.note(seat.who)}"
        if kind == "fact" and seat.kind == "direct":
            text = f"/remember {TOPIC} {self.planted.fact(seat.who)}"
        if kind == "ask":
            text = f"what is the secret code of the blue garden door? {canary}"
        if kind == "file":
            fields["attachments"] = (Attachment("file", f"{self.planted.at(seat.place)}.txt", "text/plain", 3, "ref"),)
        if kind in ("quote", "pin"):
            # The id is one that the same number has elsewhere, too.
            fields["quote"] = Quote("1", self.planted.at(seat.place) if kind == "quote" else "", "somebody")
        if kind in FILED:
            text = "/read" if kind == "read" else f"look at this {canary}" if kind == "picture" else ""
            content = FILED[kind] + canary.encode()
            self.filed[kind].add(canary)
            fields["attachments"] = (self.channel(seat.channel).put(SENT_AS[kind], content),)
        if kind == "tool":
            text = f"use the tool with {canary}"
        receive = self.channel(seat.channel).receive
        assert receive is not None
        sender = Person(seat.channel, seat.person, seat.person.title())
        # Every place counts its messages from 1, as platforms do.
        id = str(next(self.ids[str(seat.place)]))
        await receive(Message(id, seat.place, sender, text, 1.7e9, key=canary, **fields))

    # Looking

    def look(self) -> None:
        for prompt in self.stage.brain.prompts[self.prompts :]:
            self.look_at_prompt(prompt)
        self.prompts = len(self.stage.brain.prompts)
        for name in self.sent:
            sent = self.channel(name).sent
            for place, reply in sent[self.sent[name] :]:
                self.clean(f"{reply}", place, "a reply")
            self.sent[name] = len(sent)
        for message, word in self.tools.calls[self.calls :]:
            self.clean(word, message.place, "a tool call", str(message.sender))
        self.calls = len(self.tools.calls)
        for path in (self.folder / "home").rglob("*"):
            assert not CANARY.search(path.name), "in the name of a file"

    async def look_from_the_command_line(self) -> None:
        """What `roost memory` prints of one place."""
        bot = self.stage.bot
        for seat in SEATS:
            for said in (
                await offers.search(bot, str(seat.place), "garden door"),
                await offers.log(bot, str(seat.place)),
            ):
                self.clean(said, seat.place, "a command line", seat.who)

    def look_at_prompt(self, prompt: Prompt) -> None:
        asked = next(
            (self.asked[one] for one in CANARY.findall(prompt.said or prompt.question) if one in self.asked), None
        )
        assert asked is not None or "canary" not in str(prompt), prompt
        if asked is not None:
            shown = "".join(picture.data.decode("latin-1") for turn in prompt.turns for picture in turn.pictures)
            self.clean(f"{prompt} {shown}", asked.place, "a prompt", asked.who)
            assert prompt.conversation == str(asked.place), "an engine keeps prefixes by conversation"

    def clean(self, text: str, place: Place, where: str, who: str = "") -> None:
        people = [who] if who else [one.who for one in SEATS if str(one.place) == str(place)]
        self.seen.update(CANARY.findall(text))
        astray = self.planted.astray(text, place, people)
        assert not astray, f"{where} at '{place}' has what is not from there: {text}"


NOTES = Path(__file__).parent.parent / "plugins" / "notes.py"
FILED = {"voice": samples.ogg(1), "picture": samples.png(), "read": b"milk "}
SENT_AS: dict[str, AttachmentKind] = {"voice": "voice", "picture": "image", "read": "file"}
COMMANDS = {
    "fact": "/remember {}",
    "facts": "/facts",
    "notes": "/notes",
    "state": "/mark {}",
    "show": "/marks",
    "recall": "/recall garden door",
    "pin": "/pin",
    "compact": "/compact",
    "search": "use the tool with {}",
}


def played(steps: Sequence[Sequence[tuple[Seat, str]]]) -> Theatre:
    with tempfile.TemporaryDirectory(prefix="roost-isolation-") as folder:
        theatre = Theatre(Path(folder))
        asyncio.run(theatre.play(steps))
    return theatre


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_nothing_planted_in_one_place_or_by_one_person_is_seen_elsewhere(
    steps: list[list[tuple[Seat, str]]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    note(f"{steps}")
    played(steps)
    assert not CANARY.search(caplog.text), "the log repeats what people say"


def test_everything_is_planted_everywhere_before_everything_is_asked_for() -> None:
    batches = [[(seat, kind) for seat in SEATS] for kind in (*PLANTING, *ASKING, *PLANTING, *ASKING)]
    theatre = played(batches)
    assert len(theatre.tools.calls) >= 2 * len(SEATS)


def test_every_kind_of_canary_is_seen_where_it_belongs() -> None:
    """A search that finds nothing anywhere proves nothing."""
    ann = SEATS[0]
    kinds = (*PLANTING, "recall", "facts", "notes", "show", "ask", "search")
    theatre = played([[(ann, kind)] for kind in (*kinds, *kinds)])
    planted = theatre.planted
    assert len(theatre.tools.calls) >= 4
    for canary in (*planted.notes, *planted.facts):
        assert canary in theatre.seen, canary
    assert len(theatre.seen) > len(planted.places) / 2
    for kind in FILED:
        assert theatre.filed[kind] and theatre.filed[kind] <= theatre.seen, kind


# Through the real engine, with fewer slots than conversations

ENGINE = """
[brain]
use = "llamacpp"
model = "{model}"
context = 1024
max_tokens = 6
slots = 2
temperature = 0.0
[access]
direct = 'open'
groups = 'open'
[memory]
compact_keep = 2
[channels.second]
kind = 'stage'
"""


ANSWER = 6  # tokens of an answer, which stay in the engine behind the prompt


@dataclass(slots=True)
class Wire:
    """What went to the engine, and how many tokens it then had in mind: all of them, and those it had kept."""

    bodies: list[dict[str, Any]] = field(default_factory=list)
    read: list[tuple[int, int]] = field(default_factory=list)

    def listen(self, brain: LlamaCpp) -> None:
        client = brain._client
        assert client is not None
        stream = client.stream

        async def heard(body: dict[str, Any]) -> AsyncGenerator[Piece, None]:
            self.bodies.append(body)
            async with aclosing(stream(body)) as pieces:
                async for piece in pieces:
                    yield piece
            self.read.append((client.usage.prompt, client.usage.cached))

        client.stream = heard  # type: ignore[method-assign]


async def tokens(brain: LlamaCpp, body: dict[str, Any]) -> list[int]:
    """The tokens of a prompt, by the engine's own template and tokenizer."""
    client, engine = brain._client, brain.engine
    assert client is not None and engine is not None
    prompt = (await client.post(f"{engine.address}/apply-template", {"messages": body["messages"]}))["prompt"]
    asked = {"content": prompt, "add_special": True, "parse_special": True}
    return list((await client.post(f"{engine.address}/tokenize", asked))["tokens"])


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


async def test_the_engines_slots_hold_nothing_of_another_conversation(tmp_path: Path, model: Path) -> None:
    planted, ears, chance = Planted(), Wire(), Random(7)
    async with Stage(tmp_path, config=ENGINE.format(model=model)) as stage:
        await stage.bot.channels["second"].up.wait()
        brain = cast(LlamaCpp, stage.bot.brain)
        await brain.load()
        ears.listen(brain)
        places: list[Place] = []
        for number, seat in enumerate(chance.choices(SEATS[:4], k=14)):
            receive = cast(StageChannel, stage.bot.channel(seat.channel)).receive
            assert receive is not None
            said = f"My code is {planted.at(seat.place)}. Say yes."
            await receive(Message(str(number), seat.place, Person(seat.channel, seat.person), said, 1.7e9))
            await stage.quiet(limit=120)
            places.append(seat.place)
        assert len(ears.read) == len(places)
        read = [await tokens(brain, body) for body in ears.bodies]
    for number, (place, body) in enumerate(zip(places, ears.bodies, strict=True)):
        assert not planted.astray(str(body), place, ()), f"in a request for '{place}'"
        seen, kept = ears.read[number]
        assert seen == len(read[number]), "the engine had something else in mind than this prompt"
        assert kept <= max([shared(read[number], other) for other in read[:number]], default=0) + ANSWER, (
            "it kept what it never read for this"
        )
    # The engine is made to change places: some prompts were mostly kept, some not at all beyond what all share.
    assert max(kept for _, kept in ears.read) > min(kept for _, kept in ears.read[4:])
