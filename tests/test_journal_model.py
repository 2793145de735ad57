"""Any sequence of calls to the journal, against lists. After every step a copy of its files must tell the same.

A copy of the files, taken while the journal is open and nothing is awaited, is what `kill -9` leaves behind. The
clock is the model's own; it stands still at times, as coarse clocks do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from roost import Attachment, Event, Message, Person, Place, Reply, Sent, letters, rows
from roost import journal as journal_module
from roost.audit import audit
from roost.contracts import Said
from roost.journal import Journal, Outcome
from roost.rows import Open, Part, identity, key_of

T = TypeVar("T")

DAY = 86400.0
LIMIT = 10.0  # seconds after which a call counts as hanging
PEOPLE = [Person("stage", "ann", "Ann"), Person("second", "bob", "Bob")]
PLACES = [Place("stage", "1"), Place("stage", "1", "7", "group"), Place("second", "a/b c")]
CHANNELS = ("second", "stage")
ENDS = ("sent", "dropped")
GONE = ("dead", "dropped")

texts = st.sampled_from(["hello", "", "'; DROP TABLE inbox", "grüß dich 😀", "\x00"]) | st.text(max_size=20)
ids = st.sampled_from(["1", "2", "3", "4", "5", "6"])
messages = st.builds(
    Message,
    id=ids,
    place=st.sampled_from(PLACES),
    sender=st.sampled_from(PEOPLE),
    text=texts,
    edited=st.sampled_from([False, False, True]),
    key=st.sampled_from(["", "", "", "own key"]),
)
events = st.builds(Event, kind=st.just("reacted"), place=st.sampled_from(PLACES), message_id=ids, value=texts)
items = st.one_of(messages, messages, messages, events)
files = st.sampled_from([(), (), (Attachment(name="x.bin", data=b"\x00\xff"),)])
replies = st.builds(Reply, text=texts, attachments=files, quote=ids)
outcomes: st.SearchStrategy[Outcome] = st.sampled_from(["reply", "reply", "notice"])
ticks = st.sampled_from([0.0, 0.5, 1.0])
sent_ids = st.lists(ids, max_size=3).map(tuple)


class Clock:
    """The time of day, as the modules under test ask for it."""

    now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


@dataclass(slots=True)
class Came:
    """What the model knows of a message or event."""

    seq: int
    item: Message | Event
    at: float
    preview: Sent | None = None
    outcome: str = ""
    erased: bool = False


@dataclass(slots=True)
class Went:
    """What the model knows of a part, and the very object that the outbox would hold."""

    part: Part
    at: float
    state: str = "waiting"
    unsure: bool = False
    tries: int = 0
    due: float = 0.0
    ids: tuple[str, ...] | None = None

    @property
    def place(self) -> Place:
        return self.part.place

    def after_a_start(self) -> tuple[Any, ...]:
        unsure = self.unsure or self.state == "sending"
        draft = self.part.draft
        return shown(replace(self.part, draft=draft, unsure=unsure, tries=self.tries, at=self.at, due=self.due))


def shown(part: Part) -> tuple[Any, ...]:
    """All of a part, with the kind of its place, which does not count when places are compared."""
    return part.id, part.place, part.place.kind, part.reply, part.draft, part.unsure, part.tries, part.at, part.due


class JournalModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patches = contextlib.ExitStack()
        for module in (journal_module, letters, rows):
            self.patches.enter_context(mock.patch.object(module, "time", self.clock))
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(dir=os.environ["ROOST_TEST_FOLDER"]))
        self.copies = 0
        self.journal = self.opened(self.folder / "journal.db")
        self.inbox: list[Came] = []
        self.outbox: list[Went] = []
        self.people: dict[str, str] = {}
        self.last_seq = self.last_id = 0

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        async def in_time() -> T:
            async with asyncio.timeout(LIMIT):
                return await doing

        return self.runner.run(in_time())

    def opened(self, path: Path) -> Journal:
        journal = Journal(path, synchronous="normal")
        self.run(journal.open())
        return journal

    def killed(self) -> Path:
        """What a kill at this moment would leave, in a folder of its own."""
        self.copies += 1
        folder = self.folder / str(self.copies)
        folder.mkdir()
        for end in ("", "-wal", "-shm"):
            companion = self.journal.path.with_name(self.journal.path.name + end)
            if companion.exists():
                shutil.copyfile(companion, folder / companion.name)
        return folder / self.journal.path.name

    def undecided(self) -> list[Came]:
        return [one for one in self.inbox if not one.outcome]

    def parts(self, *states: str) -> list[Went]:
        return [one for one in self.outbox if one.state in states]

    @initialize(place=st.sampled_from(PLACES), said=st.lists(replies, min_size=4, max_size=4))
    def past(self, place: Place, said: list[Reply]) -> None:
        """Begin with one of everything: what takes many steps to come about would come about seldom."""
        self.accept([Message(id, place, PEOPLE[0], "once", key=id) for id in ("past", "passed", "open")], 0.0)
        one, other, _ = self.inbox
        self.wrote_answer(one, [(place, reply) for reply in said], "reply", [other], unsure=False)
        dead, arrived, _, leaving = self.outbox
        for part in (dead, arrived, leaving):
            self.leave(part)
        self.give_up(dead)
        self.arrive(arrived, ("1",))

    # Inbox

    @rule(batch=st.lists(items, min_size=1, max_size=4), tick=ticks)
    def accept(self, batch: list[Message | Event], tick: float) -> None:
        """Several at once share a transaction."""
        self.clock.now += tick

        async def at_once() -> list[int | None]:
            return await asyncio.gather(*(self.journal.accept(item) for item in batch))

        for item, seq in zip(batch, self.run(at_once()), strict=True):
            if any(same(item, one.item) for one in self.inbox):
                assert seq is None
                continue
            assert seq is not None and seq > self.last_seq
            self.last_seq = seq
            self.inbox.append(Came(seq, item, self.clock.now))

    @precondition(lambda self: self.undecided())
    @rule(data=st.data(), ids=sent_ids)
    def preview(self, data: st.DataObject, ids: tuple[str, ...]) -> None:
        one = data.draw(st.sampled_from(self.undecided()))
        one.preview = Sent(one.item.place, ids)
        self.run(self.journal.preview(one.seq, one.preview))

    @precondition(lambda self: self.undecided())
    @rule(data=st.data(), said=st.lists(replies, min_size=1, max_size=3), unsure=st.booleans(), tick=ticks)
    def answer(self, data: st.DataObject, said: list[Reply], unsure: bool, tick: float) -> None:
        self.clock.now += tick
        one, *others = data.draw(st.permutations(self.undecided()))
        others = others[: data.draw(st.integers(0, 2))]
        outcome = data.draw(outcomes)
        self.wrote_answer(one, [(one.item.place, reply) for reply in said], outcome, others, unsure)

    def wrote_answer(
        self, one: Came, pairs: list[tuple[Place, Reply]], outcome: Outcome, others: list[Came], unsure: bool
    ) -> None:
        collected = [other.seq for other in others]
        parts = self.run(
            self.journal.finish(one.seq, outcome, pairs, "why", one.preview, unsure=unsure, collected=collected)
        )
        draft = one.preview if one.preview and one.preview.ids else None
        assert [(part.draft, part.unsure) for part in parts] == [(draft, unsure), *[(None, False)] * (len(pairs) - 1)]
        self.wrote(pairs, parts)
        one.outcome = outcome
        for other in others:
            other.outcome = "silent"

    @precondition(lambda self: self.undecided())
    @rule(data=st.data())
    def pass_over(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.undecided()))
        assert self.run(self.journal.finish(one.seq, "silent", (), "not addressed")) == []
        one.outcome = "silent"

    # Outbox

    @rule(place=st.sampled_from(PLACES), said=st.lists(replies, min_size=1, max_size=3), tick=ticks)
    def post(self, place: Place, said: list[Reply], tick: float) -> None:
        self.clock.now += tick
        pairs = [(place, reply) for reply in said]
        self.wrote(pairs, self.run(self.journal.post(pairs)))

    def wrote(self, pairs: list[tuple[Place, Reply]], parts: list[Part]) -> None:
        assert [(part.place, part.reply, part.at) for part in parts] == [(*pair, self.clock.now) for pair in pairs]
        for part in parts:
            assert part.id > self.last_id
            self.last_id = part.id
            self.outbox.append(Went(part, self.clock.now, unsure=part.unsure))

    @precondition(lambda self: self.parts("waiting"))
    @rule(data=st.data())
    def sending(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(self.parts("waiting"))))

    def leave(self, one: Went) -> None:
        self.run(self.journal.sending(one.part))
        one.state = "sending"

    @precondition(lambda self: self.parts("sending"))
    @rule(data=st.data(), ids=sent_ids)
    def sent(self, data: st.DataObject, ids: tuple[str, ...]) -> None:
        self.arrive(data.draw(st.sampled_from(self.parts("sending"))), ids)

    def arrive(self, one: Went, ids: tuple[str, ...]) -> None:
        self.run(self.journal.sent(one.part, Sent(one.place, ids)))
        one.state, one.ids = "sent", ids

    @precondition(lambda self: self.parts("sending"))
    @rule(data=st.data(), pause=st.sampled_from([0.0, 1.0, 60.0]), unsure=st.booleans())
    def put_off(self, data: st.DataObject, pause: float, unsure: bool) -> None:
        one = data.draw(st.sampled_from(self.parts("sending")))
        one.part.tries += 1
        one.part.unsure = one.part.unsure or unsure
        self.run(self.journal.put_off(one.part, self.clock.now + pause, "refused"))
        one.state, one.tries, one.due = "waiting", one.part.tries, self.clock.now + pause
        one.unsure = one.part.unsure

    @precondition(lambda self: self.parts("sending"))
    @rule(data=st.data())
    def bury(self, data: st.DataObject) -> None:
        self.give_up(data.draw(st.sampled_from(self.parts("sending"))))

    def give_up(self, one: Went) -> None:
        self.run(self.journal.bury(one.part, "blocked"))
        one.state = "dead"

    # Dead letters

    @precondition(lambda self: self.parts("dead"))
    @rule(data=st.data(), tick=ticks)
    def resend(self, data: st.DataObject, tick: float) -> None:
        self.clock.now += tick
        for one in self.by_a_person(data, letters.resend):
            one.state, one.tries, one.due, one.at = "revived", 0, 0.0, self.clock.now

    @precondition(lambda self: self.parts("dead"))
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        for one in self.by_a_person(data, letters.drop):
            one.state = "dropped"

    def by_a_person(self, data: st.DataObject, act: Callable[[Path, int | None], int]) -> list[Went]:
        """Do something to one dead letter or to all of them; gives those it was done to."""
        chosen = data.draw(st.sampled_from([None, *self.parts("dead")]))
        affected = [chosen] if chosen else self.parts("dead")
        assert act(self.journal.path, chosen.part.id if chosen else None) == len(affected)
        return affected

    @rule()
    def revived(self) -> None:
        expected = self.parts("revived")
        self.taken_up(expected, self.run(self.journal.revived()))

    def taken_up(self, expected: list[Went], parts: list[Part]) -> None:
        """What the outbox gets to deliver: from here on it holds these objects."""
        assert [shown(part) for part in parts] == [one.after_a_start() for one in expected]
        for one, part in zip(expected, parts, strict=True):
            one.unsure, one.part, one.state = part.unsure, part, "waiting"

    # Time and forgetting

    @rule(place=st.sampled_from(PLACES))
    def forget(self, place: Place) -> None:
        self.run(self.journal.forget(place))
        for one in self.inbox:
            one.erased = one.erased or (one.item.place == place and bool(one.outcome))
        erased = self.parts("sent", "dead", "dropped")
        self.outbox = [one for one in self.outbox if one.place != place or one not in erased]

    @rule(days=st.sampled_from([0.5, 1.0, 2.0]), keep=st.sampled_from([0.0, 1.0]))
    def prune(self, days: float, keep: float) -> None:
        self.clock.now += days * DAY
        before, rows = self.clock.now - keep * DAY, len(self.inbox) + len(self.outbox)
        self.inbox = [one for one in self.inbox if not one.outcome or one.at >= before]
        self.outbox = [one for one in self.outbox if one.state not in ENDS or one.at >= before]
        assert self.run(self.journal.prune(keep)) == rows - len(self.inbox) - len(self.outbox)

    @rule(person=st.sampled_from(PEOPLE), role=st.sampled_from(["owner", "friend"]))
    def let_in(self, person: Person, role: str) -> None:
        self.run(self.journal.let_in(str(person), role, person.name))
        self.people[str(person)] = role

    # The end of a process and the next one

    @rule()
    def close_and_open(self) -> None:
        self.run(self.journal.close())
        self.journal = self.opened(self.journal.path)

    @rule()
    def kill_and_open(self) -> None:
        path = self.killed()
        self.run(self.journal.close())
        self.journal = self.opened(path)

    @rule()
    def start(self) -> None:
        """What a start of the bot asks for."""
        expected = self.parts("waiting", "sending", "revived")
        self.taken_up(expected, self.run(left_to_send(self.journal)))

    # What must hold after every step

    @invariant()
    def it_tells_what_was_told(self) -> None:
        self.run(self.check_reads(self.journal, 1000))
        found = audit(self.journal.path)
        assert found.exceptions == []
        assert found.outcomes == counted(one.outcome or "open" for one in self.inbox)
        assert found.parts == counted(one.state for one in self.outbox)
        assert [(one.id, one.text, one.tries) for one in letters.dead(self.journal.path)] == [
            (one.part.id, one.part.reply.text, one.tries) for one in self.parts("dead")
        ]

    @invariant()
    def a_kill_now_would_lose_nothing(self) -> None:
        path = self.killed()
        after = self.opened(path)
        try:
            self.run(self.check_reads(after, 2))
            waiting = self.parts("waiting", "sending", "revived")
            assert [shown(part) for part in self.run(left_to_send(after))] == [one.after_a_start() for one in waiting]
            assert audit(path).exceptions == []
        finally:
            self.run(after.close())
        shutil.rmtree(path.parent)

    async def check_reads(self, journal: Journal, limit: int) -> None:
        left = [one for channel in CHANNELS for one in await pages(journal.unanswered, channel)]
        expected = [Open(one.seq, one.item, one.preview) for one in self.undecided()]
        assert sorted(left, key=lambda one: one.seq) == expected
        assert await journal.people() == self.people
        for place in PLACES:
            assert await journal.history(place, limit, "Roost") == self.history(place, limit)

    def history(self, place: Place, limit: int) -> list[Said]:
        """The newest `limit` of either side, in the order of time; at the same moment a question comes first."""
        came = [one for one in self.inbox if one.item.place == place and not one.erased]
        went = [one for one in self.outbox if one.place == place and one.state not in GONE]
        lines = [
            Said(one.item.id, False, one.item.sender.name, one.item.text, one.at)
            for one in came
            if isinstance(one.item, Message) and not one.item.edited
        ][-limit:]
        lines += [Said(self.name(one), True, "Roost", one.part.reply.text, one.at) for one in went][-limit:]
        return sorted(lines, key=lambda line: line.at)[-limit:]

    def name(self, one: Went) -> str:
        """The platform's id of a part, or its key while there is none."""
        draft = one.part.draft.ids if one.part.draft and one.ids is None else ()
        return (one.ids or draft or (key_of(one.part.id, one.at),))[0]

    def teardown(self) -> None:
        self.run(self.journal.close())
        self.runner.close()
        self.patches.close()
        shutil.rmtree(self.folder, ignore_errors=True)


async def pages(read: Callable[[str, int], Coroutine[Any, Any, list[Any]]], channel: str) -> list[Any]:
    """Everything that a journal gives page by page."""
    found: list[Any] = []
    while page := await read(channel, (found[-1].id if isinstance(found[-1], Part) else found[-1].seq) if found else 0):
        found += page
    return found


async def left_to_send(journal: Journal) -> list[Part]:
    await journal.interrupted()
    parts = [part for channel in CHANNELS for part in await pages(journal.unsent, channel)]
    return sorted(parts, key=lambda part: part.id)


def same(one: Message | Event, other: Message | Event) -> bool:
    return (one.place.channel, identity(one)) == (other.place.channel, identity(other))


def counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


@pytest.fixture(autouse=True, scope="module")
def folder_for_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROOST_TEST_FOLDER", str(tmp_path_factory.mktemp("journals")))
        yield


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
