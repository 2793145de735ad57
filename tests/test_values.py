"""The values that travel."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import Attachment, Message, Person, Place

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,10}", fullmatch=True)
ids = st.text(min_size=1, max_size=30).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


@given(names, ids, st.one_of(st.just(""), ids))
def test_a_place_reads_back_from_its_text(channel: str, chat: str, thread: str) -> None:
    place = Place(channel, chat, thread)
    assert Place.parse(str(place)) == place
    assert " " not in str(place)


def test_places_look_as_documented() -> None:
    assert str(Place("telegram", "42", "7")) == "telegram:42/7"
    assert str(Place("matrix", "!room:example.org")) == "matrix:!room:example.org"
    with pytest.raises(ValueError, match="A place looks like"):
        Place.parse("nowhere")


def test_the_kind_of_a_place_does_not_make_it_another() -> None:
    assert Place("a", "1", kind="group") == Place("a", "1")


def test_a_message_is_the_same_whatever_the_platform_object_behind_it() -> None:
    message = Message("1", Place("a", "1"), Person("a", "p"), "hi")
    assert msgspec.json.decode(msgspec.json.encode(message), type=Message) == message
    assert message.identity == "a:1#1"
    assert "raw" not in repr(message)


async def test_an_attachment_is_read_lazily_and_never_beyond_its_cap() -> None:
    opened = []

    async def chunks() -> AsyncIterator[bytes]:
        opened.append(1)
        while True:
            yield b"x" * 1000

    attachment = Attachment(name="endless.bin", open=chunks)
    assert opened == []
    with pytest.raises(ValueError, match=r"'endless.bin' has more than 5000 bytes"):
        await attachment.read(5000)
    assert await Attachment(data=b"abc").read() == b"abc"
    with pytest.raises(ValueError, match="more than 2 bytes"):
        await Attachment(data=b"abc").read(2)
    with pytest.raises(ValueError, match="no channel is bound"):
        await Attachment(ref="1").read()
