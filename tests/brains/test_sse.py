from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.brains.sse import MAX_EVENT, Events

LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def read(*chunks: bytes) -> list[str]:
    events = Events()
    return [data for chunk in chunks for data in events.feed(chunk)] + events.end()


@given(st.lists(st.lists(LINES, min_size=1, max_size=3), min_size=1), ENDS, st.data())
def test_events_come_out_whole_however_the_bytes_are_cut(
    wanted: list[list[str]], end: str, data: st.DataObject
) -> None:
    stream = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines in wanted).encode()
    places = data.draw(st.lists(st.integers(0, len(stream))))
    edges = sorted({0, len(stream), *places})
    chunks = [stream[start:stop] for start, stop in itertools.pairwise(edges)]
    assert read(*chunks) == ["\n".join(lines) for lines in wanted]


@given(st.lists(st.binary(max_size=12)))
def test_garbage_never_raises(chunks: list[bytes]) -> None:
    read(*chunks)


def test_lines_of_one_event_belong_together() -> None:
    assert read(b"data: a\ndata:b\ndata\n\n") == ["a\nb\n"]


def test_comments_and_other_fields_are_passed_over() -> None:
    assert read(b": ping\n\nevent: x\nid: 1\nretry: 5\nnonsense\ndata: a\n\n") == ["a"]


def test_an_emoji_split_over_chunks_is_one_emoji() -> None:
    owl = "🦉".encode()
    assert read(b"data: " + owl[:2], owl[2:] + b"\n\n") == ["🦉"]


def test_a_last_event_without_its_empty_line_counts() -> None:
    assert read(b"data: a\n\ndata: [DONE]") == ["a", "[DONE]"]


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert read(b"\xef\xbb\xbfdata: a\n\n") == ["a"]


def test_an_event_without_end_is_refused() -> None:
    events = Events()
    with pytest.raises(ValueError, match="more than"):
        for _ in range(MAX_EVENT // 65536 + 2):
            events.feed(b"x" * 65536)
