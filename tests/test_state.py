"""The state of a dialogue: typed, one person's in one place, written with the answer, gone in time."""

from __future__ import annotations

import contextlib
import types
from dataclasses import dataclass
from pathlib import Path

import pytest

from roost import Message, command, hookimpl, state
from roost.salvage import carry_over
from roost.schema import connect
from roost.state import State
from roost.testing import Stage


@dataclass
class Order:
    size: str = ""


@command
def pizza(message: Message) -> str:
    """Order a pizza."""
    message.state[Order] = Order()
    return "Which size?"


@hookimpl
def on_message(message: Message) -> str | None:
    order = message.state.get(Order)
    if order is None or message.text.startswith("/"):
        return None
    if not order.size:
        message.state[Order] = Order(message.text)
        return "And on top?"
    if message.text == "fail":
        del message.state[Order]
        raise RuntimeError("the oven is broken")
    del message.state[Order]
    return f"One {order.size} pizza with {message.text}."


def plugin() -> types.ModuleType:
    module = types.ModuleType("pizzeria")
    vars(module).update(pizza=pizza, on_message=on_message)
    return module


async def test_a_dialogue_of_several_turns_survives_a_restart_at_each_of_them(tmp_path: Path) -> None:
    for said, answer in (
        ("/pizza", "Which size?"),
        ("large", "And on top?"),
        ("olives", "One large pizza with olives."),
        ("thanks", "thanks"),
    ):
        async with Stage(tmp_path, plugins=[plugin()]) as stage:
            assert await stage.talk(said) == answer


async def test_a_state_belongs_to_one_person_in_one_place(tmp_path: Path) -> None:
    async with Stage(tmp_path, plugins=[plugin()]) as stage:
        await stage.talk("/pizza", chat="1", person="Ann")
        assert await stage.talk("large", chat="1", person="Bob") == "large"
        assert await stage.talk("large", chat="2", person="Ann") == "large"
        assert await stage.talk("large", chat="1", person="Ann") == "And on top?"


async def test_what_fails_changes_nothing(tmp_path: Path) -> None:
    class Broken:
        @hookimpl
        def on_message(self, message: Message) -> None:
            if message.text == "break":
                message.state["step"] = 2
                raise SystemExit("broken")

        @hookimpl
        def before_think(self, message: Message) -> None:
            if message.text == "think":
                message.state["thought"] = True

    async with Stage(tmp_path, plugins=[Broken()], script=lambda said: "" if said == "think" else said) as stage:
        assert "no answer" in await stage.talk("think")
        rows = await stage.bot.journal.do(lambda db: db.execute("SELECT name FROM state").fetchall())
        assert rows == []


async def test_a_state_ends_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr(state.time, "time", lambda: now[0])
    async with Stage(tmp_path, plugins=[plugin()]) as stage:
        await stage.talk("/pizza")
        now[0] += state.DAY + 1
        assert await stage.talk("large") == "large"
        await stage.bot.journal.prune(30)
        assert await stage.bot.journal.do(lambda db: db.execute("SELECT * FROM state").fetchall()) == []


async def test_forgetting_a_conversation_forgets_its_state(tmp_path: Path) -> None:
    async with Stage(tmp_path, plugins=[plugin()]) as stage:
        await stage.talk("/pizza")
        await stage.talk("a secret size")
        await stage.talk("/new")
        assert await stage.talk("olives") == "olives"
    assert b"a secret size" not in (tmp_path / "home" / "journal.db").read_bytes()


async def test_a_state_is_carried_over_from_a_damaged_journal(tmp_path: Path) -> None:
    async with Stage(tmp_path, plugins=[plugin()]) as stage:
        await stage.talk("/pizza")
    with contextlib.closing(connect(tmp_path / "fresh.db")) as fresh:
        assert carry_over(tmp_path / "home" / "journal.db", fresh)["state"] == 1
        assert fresh.execute("SELECT place, person FROM state").fetchall() == [("stage:1", "stage:ann")]


def test_a_mapping_that_tells_what_was_changed() -> None:
    one = State({"kept": b"1", "gone": b'"x"'})
    assert one["kept"] == 1
    del one["gone"]
    one["new"] = [1, 2]
    one[Order] = Order("big")
    assert (one[Order], one.get("none"), "gone" in one, len(one)) == (Order("big"), None, False, 3)
    assert list(one) == ["kept", "new", f"{__name__}:Order"]
    changes = one.changes()
    assert changes["gone"] is None
    assert changes["new"] is not None
    assert changes["new"][0] == b"[1,2]"
    assert "kept" not in changes


def test_a_type_that_has_changed_since_counts_as_absent() -> None:
    assert State({f"{__name__}:Order": b'{"size":7}'}).get(Order) is None


def test_too_much_is_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="The state 'x' has 100002 bytes; 65536 are allowed"):
        State()["x"] = "y" * 100_000
