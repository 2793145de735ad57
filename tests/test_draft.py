"""The preview and the final text are one message, whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from roost import Place, Reply, Sent, draft
from roost.contracts import Limits
from roost.dialects import MARKDOWN
from roost.errors import MaybeSent, NotSent, Undeliverable
from roost.testing import Stage, StageChannel


class Slate(StageChannel):
    """A platform where texts can be edited; `screen` is what a person sees, by message id."""

    limits = Limits(markup=MARKDOWN, stream=0.001, max_text=200)

    def __init__(self, name: str, config: Any, host: Any) -> None:
        super().__init__(name, config, host)
        self.screen: dict[str, str] = {}
        self.edit_fail: list[Exception] = []

    async def send(self, place: Place, reply: Reply) -> Sent:
        sent = await super().send(place, reply)
        self.screen[sent.ids[0]] = reply.text
        return sent

    async def edit(self, sent: Sent, reply: Reply) -> None:
        if self.edit_fail:
            raise self.edit_fail.pop(0)
        self.screen[sent.ids[0]] = reply.text


@pytest.fixture(autouse=True)
def no_hesitation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "HESITATION", 0.0)


def slate(stage: Stage) -> Slate:
    assert isinstance(stage.channel, Slate)
    return stage.channel


class Growing:
    """A brain that says its first piece, waits to be let go, and says the rest."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.go = asyncio.Event()

    async def think(self, prompt: object) -> AsyncIterator[str]:
        yield self.pieces[0]
        await self.go.wait()
        for piece in self.pieces[1:]:
            yield piece


async def shown(stage: Stage) -> None:
    """Wait until a first preview is on the screen."""
    async with asyncio.timeout(30), stage.channel.came:
        await stage.channel.came.wait_for(lambda: bool(stage.channel.sent))


async def test_the_preview_becomes_the_answer_by_editing(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        brain = Growing("Once upon", " a time.")
        stage.brain.think = brain.think  # type: ignore[method-assign]
        await stage.say("tell")
        await shown(stage)
        assert list(slate(stage).screen.values()) == ["Once upon"]
        brain.go.set()
        await stage.quiet()
        assert list(slate(stage).screen.values()) == ["Once upon a time."]


async def test_a_long_answer_continues_after_its_preview(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        words = [f"word{number} " for number in range(100)]
        brain = Growing(*words)
        stage.brain.think = brain.think  # type: ignore[method-assign]
        await stage.say("tell")
        await shown(stage)
        brain.go.set()
        await stage.quiet()
        screen = list(slate(stage).screen.values())
        assert " ".join(screen).split() == "".join(words).split()
        assert len(screen) > 3


async def test_after_a_crash_the_same_preview_is_used_again(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        stage.brain.think = Growing("Once upon").think  # type: ignore[method-assign]
        await stage.say("tell")
        await shown(stage)
        await stage.bot.journal.do(lambda db: None)
        before = slate(stage)
        stage.bot.pipeline.lanes.idle = stage.bot.pipeline.lanes.stop  # type: ignore[method-assign]
    async with Stage(tmp_path, channel=Slate, script=lambda said: "The end.") as stage:
        await stage.quiet()
        assert before.screen.keys() == {"1"}
        assert slate(stage).screen == {"1": "The end."}
        assert stage.channel.sent == []


async def test_a_preview_that_may_be_on_the_screen_gives_the_answer_a_mark(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        slate(stage).fail = [MaybeSent("cut")]
        brain = Growing("Once upon", " a time.")
        stage.brain.think = brain.think  # type: ignore[method-assign]
        await stage.say("tell")
        async with asyncio.timeout(30):
            while slate(stage).fail:
                await asyncio.sleep(0)
        brain.go.set()
        await stage.quiet()
        assert list(slate(stage).screen.values()) == ["(possibly repeated)\nOnce upon a time."]


async def test_a_preview_that_was_deleted_is_sent_anew(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        brain = Growing("Once upon", " a time.")
        stage.brain.think = brain.think  # type: ignore[method-assign]
        await stage.say("tell")
        await shown(stage)
        slate(stage).edit_fail = [Undeliverable("message to edit not found")] * 2
        brain.go.set()
        await stage.quiet()
        assert list(slate(stage).screen.values())[-1] == "Once upon a time."


async def test_an_edit_that_may_have_arrived_is_repeated_without_a_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.outbox.LONGEST_PAUSE", 0.0)
    async with Stage(tmp_path, channel=Slate) as stage:
        brain = Growing("Once upon", " a time.")
        stage.brain.think = brain.think  # type: ignore[method-assign]
        await stage.say("tell")
        await shown(stage)
        slate(stage).edit_fail = [MaybeSent("cut"), MaybeSent("cut")]
        brain.go.set()
        await stage.quiet()
        assert list(slate(stage).screen.values()) == ["Once upon a time."]


async def test_stopping_keeps_what_was_said(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        stage.brain.think = Growing("Once upon").think  # type: ignore[method-assign]
        await stage.say("tell")
        await shown(stage)
        await stage.say("/stop")
        await stage.quiet()
        assert slate(stage).screen["1"] == "Once upon … (stopped)"


async def test_a_second_preview_after_a_crash_ends_as_a_marked_answer(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        accepted = await stage.bot.journal.accept(stage.message("tell"))
        assert accepted is not None
        await stage.bot.journal.preview(accepted, Sent(Place("stage", "1")))
    async with Stage(tmp_path, channel=Slate, script=lambda said: ["Once upon", " a time."]) as stage:
        await stage.quiet()
        assert list(slate(stage).screen.values()) == ["(possibly repeated)\nOnce upon a time."]


async def test_a_preview_does_not_overtake_a_reply_that_waits(tmp_path: Path) -> None:
    async with Stage(tmp_path, channel=Slate) as stage:
        slate(stage).fail = [NotSent("busy", retry_after=0.3)]
        await stage.say("first")
        async with asyncio.timeout(30):
            while slate(stage).fail:
                await asyncio.sleep(0)
        stage.brain.script = lambda said: ["Once upon", " a time."]
        await stage.say("second")
        await stage.quiet()
        assert list(slate(stage).screen.values()) == ["first", "Once upon a time."]
