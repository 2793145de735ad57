"""The kit that plugins and channels are tested with."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from roost import Attachment, Message, Person, Place, command
from roost.rows import bare, encode, read_item
from roost.testing import Stage, arguments, attachments, check_read, messages, module_of, people, places, texts
from roost.updates import check_kept, damage

DOCS = Path(__file__).parent.parent / "docs"
UPDATE = {"id": "1", "from": "ann", "text": "hello", "files": [{"name": "a.png"}]}


def read(update: Any) -> Message | None:
    """A careful channel."""
    if not isinstance(update, dict) or not all(isinstance(update.get(name), str) for name in ("id", "from", "text")):
        raise ValueError("This is no message.")
    if not update["from"]:
        return None
    return Message(update["id"], Place("mine", update["from"]), Person("mine", update["from"]), update["text"], 1.0)


# Strategies


@settings(max_examples=50)
@given(messages("mine"))
def test_whatever_a_strategy_gives_is_kept_by_the_journal(message: Message) -> None:
    assert message.place.channel == message.sender.channel == "mine"
    check_kept(message)
    assert msgspec.to_builtins(read_item("message", encode(message))) == msgspec.to_builtins(bare(message))


@given(texts(), people(), places(), attachments(10))
def test_texts_are_valid_and_files_have_their_data(text: str, who: Person, where: Place, file: Attachment) -> None:
    assert text.encode().decode() == text
    assert Place.parse(str(where)) == where and who.id
    assert file.data is not None and file.size == len(file.data) <= 10


def drawn(strategy: st.SearchStrategy[Any], number: int) -> list[Any]:
    """The same examples each time."""
    found: list[Any] = []

    @settings(max_examples=number, database=None, derandomize=True, phases=(Phase.generate,), deadline=None)
    @given(strategy)
    def note(value: Any) -> None:
        found.append(value)

    note()
    return found


def test_texts_are_hard_and_messages_of_every_kind() -> None:
    said = "".join(drawn(texts(), 400))
    assert [hard for hard in ("\u202e", "👩‍👩‍👧‍👦", "مرحبا", "\0", "```", "/help") if hard not in said] == []
    some = drawn(messages(), 60)
    assert {message.place.kind for message in some} == {"direct", "group", "broadcast"}
    for name in ("quote", "mentions", "attachments", "edited"):
        assert {bool(getattr(message, name)) for message in some} == {True, False}, name
    assert {message.text for message in drawn(messages(text=st.just("only this")), 5)} == {"only this"}


@command
def one(word: str, number: int, share: float, sure: bool, when: timedelta, how: Literal["a b", "c"] = "c") -> str:
    """Takes all."""
    return f"{number}"


@command
def other(message: Message, sign: Literal["+", "-"], name: str | None = None, rest: str = "") -> str:
    """Takes some."""
    return "yes"


@pytest.mark.parametrize("function", [one, other], ids=["one", "other"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_arguments_are_understood(function: Any, data: st.DataObject) -> None:
    text = data.draw(arguments(function))
    message = Message("1", Place("stage", "1"), Person("stage", "ann"), text)
    function.__roost_command__.bind(text, message, None)


def test_what_is_no_command_has_no_arguments() -> None:
    with pytest.raises(TypeError, match="is no command"):
        arguments(read)


async def test_any_message_that_a_strategy_gives_is_taken_by_a_whole_bot(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        for message in drawn(messages(), 40):
            await stage.receive(message)
        await stage.quiet()
        assert "⚠️" not in " ".join(reply.text for _, reply in stage.channel.sent)
        assert await stage.talk("still there?") == "still there?"


# What a channel reads


def test_a_careful_channel_passes_and_what_it_read_is_given() -> None:
    [item] = check_read(read, UPDATE, raises=(ValueError,))
    assert isinstance(item, Message) and item.text == "hello"


def test_bytes_and_texts_are_damaged_too() -> None:
    def line(update: str) -> Message:
        name, colon, text = update.partition(": ")
        if not (name.strip() and colon):
            raise ValueError("This is no line.")
        return Message("1", Place("irc", name), Person("irc", name), text)

    assert check_read(line, "ann: hello")
    assert check_read(lambda data: [line(data.decode())], b"ann: hello")


def careless(update: Any) -> Message:
    return Message(update["id"], Place("mine", update["from"]), Person("mine", update["from"]), update["text"])


def leading(update: Any) -> Message:
    if not isinstance(update, dict) or not isinstance(update.get("id"), str):
        raise ValueError
    return Message(update["id"], Place("mine", "1"), Person("mine", "1"), object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reader", "said"),
    [
        (careless, r"damaged, number \d+, raises (Key|Type)Error"),
        (lambda update: None, "None of these updates is read"),
        (lambda update: "hello", "neither a Message nor an Event"),
        (lambda update: 1 / 0, "as it was recorded, raises ZeroDivisionError"),
    ],
    ids=["careless", "silent", "wrong", "broken"],
)
def test_one_that_is_not_is_told_what_it_choked_on(reader: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_read(reader, UPDATE)


def test_what_the_journal_refuses_at_once_is_passed_over_as_the_bot_does() -> None:
    assert len(check_read(leading, UPDATE)) == 1


def test_an_item_that_comes_back_as_another_is_named() -> None:
    place = Place("a:b", "1")
    with pytest.raises(AssertionError, match="Its place cannot be read again: 'a:b:1'"):
        check_kept(Message("1", place, Person("a", "1"), "hello"))


def test_damage_is_always_the_same_and_leaves_the_update_alone() -> None:
    before = repr(UPDATE)
    made = [repr(damage(UPDATE, Random(number))) for number in range(100)]
    assert made == [repr(damage(UPDATE, Random(number))) for number in range(100)]
    assert len(set(made)) > 80 and repr(UPDATE) == before


def test_the_functions_of_a_plugin_are_imported_as_the_bot_does(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("from .words import word\n")
    (tmp_path / "pack" / "words.py").write_text("word = 'tea'\n")
    assert module_of(tmp_path / "pack" / "__init__.py").word == "tea"


# Its documentation


def test_the_examples_of_the_documentation_are_tests_that_pass(tmp_path: Path) -> None:
    """Those of docs/testing.md, each in the file that its first line names."""
    page = (DOCS / "testing.md").read_text()
    files = re.findall(r"```python\n# ((?:plugins|tests)/\w+\.py)\n(.*?)```", page, re.S)
    assert len(files) == page.count("```python") >= 5
    for name, code in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "skipped" not in ran.stdout


def test_without_hypothesis_the_kit_is_there_and_names_the_cure() -> None:
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from roost.testing import Stage, check_read, texts\n"
        "from roost.errors import RoostError\n"
        "try: texts()\n"
        "except RoostError as error: print(error)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "Property tests need the package 'hypothesis'. Install it: pip install hypothesis\n"
