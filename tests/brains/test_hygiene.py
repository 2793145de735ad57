from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.brains.hygiene import BLOCKS, LITERALS, Hygiene, clean

PARTS = [
    "<",
    "|",
    ">",
    "[",
    "think",
    *BLOCKS,
    *BLOCKS.values(),
    "<|im_end|>",
    "<|im_",
    "start|>",
    " ",
    "\n",
    "é🦉",
    "word",
    "INST]",
]
TEXTS = st.lists(st.sampled_from([*PARTS, *LITERALS]) | st.text(max_size=3), max_size=12).map("".join)
EVERYTHING = re.compile(
    "".join(rf"{start}.*?(?:{end}|\Z)|" for start, end in BLOCKS.items())
    + "|".join(map(re.escape, LITERALS))
    + r"|<[|｜][\w▁]{1,40}[|｜]>",
    re.DOTALL,
)


def cut(text: str, places: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in itertools.pairwise(edges)]


@given(TEXTS, st.lists(st.integers(min_value=0)))
def test_however_a_text_is_cut_the_same_comes_out_as_from_the_whole(text: str, places: list[int]) -> None:
    hygiene = Hygiene()
    pieces = [hygiene.feed(piece) for piece in cut(text, places)]
    assert "".join([*pieces, hygiene.end()]) == EVERYTHING.sub("", text).lstrip()


@pytest.mark.parametrize("token", [*LITERALS, "<|im_start|>", "<|endoftext|>", "<|eot_id|>", "<｜end▁of▁sentence｜>"])
def test_control_tokens_are_never_seen(token: str) -> None:
    assert clean(f"Hello {token}Ann") == "Hello Ann"


def test_thoughts_are_never_seen_and_what_follows_them_begins_cleanly() -> None:
    assert clean("<think>\nhmm <|im_end|> [INST]\n</think>\n\nYes.") == "Yes."
    assert clean("<think>cut off in the mid") == ""


def test_calls_that_no_engine_recognised_are_never_seen() -> None:
    assert clean('It is <tool_call>\n{"name": "x"}\n</tool_call>warm.') == "It is warm."
    assert clean("<tool_response>\n18 degrees\n</tool_response>") == "18 degrees\n"


@pytest.mark.parametrize(
    "text", ["a < b > c", "f <| x |> g", "[1] a[INS] b", "x <|> y", "<thinker>", "if (a<s && b>t)", "ends with <|im_"]
)
def test_what_only_looks_like_a_token_stays(text: str) -> None:
    assert clean(text) == text


def test_plain_text_is_not_held_back() -> None:
    hygiene = Hygiene()
    assert [hygiene.feed(piece) for piece in ("Hel", "lo ", "<", "b> you")] == ["Hel", "lo ", "", "<b> you"]


def test_the_beginning_of_thoughts_is_held_back_until_it_is_known() -> None:
    hygiene = Hygiene()
    for start in BLOCKS:
        assert [hygiene.feed(character) for character in start] == [""] * len(start)
        hygiene.feed(BLOCKS[start])
