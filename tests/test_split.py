from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_markdown import MARKDOWN_TEXTS, content

from roost.contracts import Unit
from roost.dialects import HTML, HTML_CHAT, HTML_SUBSET, IRC, MARKDOWN, MRKDWN, PLAIN, Dialect, render
from roost.graphemes import graphemes, joined
from roost.markdown import Fence, List, clean, parse
from roost.split import length, split

ALL = [PLAIN, MARKDOWN, HTML, HTML_CHAT, HTML_SUBSET, MRKDWN, IRC]
UNITS: list[Unit] = ["graphemes", "characters", "utf16", "bytes"]


TEXTS_WITHOUT_FENCES = MARKDOWN_TEXTS.map(lambda text: text.replace("`", "").replace("~", ""))


def is_within(part: str, whole: str) -> bool:
    rest = iter(whole)
    return all(char in rest for char in part)


def test_a_text_that_fits_is_left_alone() -> None:
    assert split("**a** b", PLAIN, 3, "characters") == ["**a** b"]


@pytest.mark.parametrize("text", ["", " \n\t\n", "\x02"])
def test_a_text_without_anything_in_it_gives_no_piece(text: str) -> None:
    assert split(text, PLAIN, 10, "characters") == []


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        split("a", PLAIN, 0, "characters")


@pytest.mark.parametrize(
    ("unit", "expected"), [("graphemes", 3), ("characters", 4), ("utf16", 6), ("bytes", 11)], ids=str
)
def test_length_counts_in_its_unit(unit: Unit, expected: int) -> None:
    assert length("aé😀🏽", unit) == expected


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("abc\n", 4),
        ("e\u0301e\u0301\u0302", 2),
        ("👩‍👩‍👧‍👦👍🏽", 2),
        ("❤️‍🔥", 1),
        ("🇳🇱🇩🇪🇫", 3),
        ("1\ufe0f\u20e3", 1),
        ("🏴\U000e0067\U000e007f", 1),
        ("각각한국", 4),
        ("\u1100\u1161\u11a8\u1100", 2),
        ("語言", 2),
        ("\n\u0301", 2),
        ("a\u200db", 2),
    ],
    ids=ascii,
)
def test_graphemes_are_counted_as_people_see_them(text: str, count: int) -> None:
    assert graphemes(text) == count


SCRAPS = st.sampled_from([*"ae\u0301\u200d\u200c\n👩🏽🇳🇱\ufe0f❤🔥\u1100\u1161\u11a8각กำक\u094d\u093f"])


@given(st.text() | st.lists(SCRAPS).map("".join))
def test_graphemes_are_never_counted_too_few(text: str) -> None:
    together = sum(joined(text, place) for place in range(len(text)) if text[place - 1 : place + 1] != "\r\n")
    assert len(text) >= graphemes(text) >= len(text) - together


def test_a_text_is_cut_by_graphemes_where_they_count() -> None:
    family = "👩‍👩‍👧‍👦"
    pieces = split(family * 250, PLAIN, 100, "graphemes")
    assert "".join(pieces) == family * 250 and len(pieces) == 3
    assert all(len(piece) % len(family) == 0 and len(piece) <= 100 * len(family) for piece in pieces)


def test_bytes_count_as_well_where_there_is_a_limit_on_them() -> None:
    family = "👩‍👩‍👧‍👦"
    most = len(family.encode()) * 4
    assert split(family * 10, PLAIN, 10, "graphemes", most) == [family * 4, family * 4, family * 2]
    assert split("abcdefghi", PLAIN, 7, "graphemes", most) == ["abcdefg", "hi"]


@given(MARKDOWN_TEXTS, st.sampled_from(ALL), st.integers(4, 60), st.integers(40, 200))
def test_every_piece_has_the_bytes_it_may_have(text: str, dialect: Dialect, limit: int, most: int) -> None:
    for piece in split(text, dialect, limit, "graphemes", most):
        shown = render(piece, dialect)
        fits = length(shown, "graphemes") <= limit and len(shown.encode("utf-8", "surrogatepass")) <= most
        assert fits or len(content(parse(piece))) <= 1


def test_cuts_fall_between_paragraphs_first() -> None:
    assert split("one two\n\nthree four\n\nfive", PLAIN, 19, "characters") == ["one two\n\nthree four", "five"]


def test_cuts_fall_between_lines_then_sentences_then_words() -> None:
    assert split("one two. three\nfour five. six", PLAIN, 20, "characters") == ["one two. three", "four five. six"]
    assert split("one two. Three four", PLAIN, 15, "characters") == ["one two.", "Three four"]
    assert split("one two three four", PLAIN, 10, "characters") == ["one two", "three four"]


def test_a_fence_is_closed_and_opened_again_with_its_language() -> None:
    pieces = split("```py\na = 1\nb = 2\nc = 3\n```", MARKDOWN, 24, "characters")
    assert pieces == ["```py\na = 1\nb = 2\n```", "```py\nc = 3\n```"]


def test_styles_and_links_go_on_in_the_next_piece() -> None:
    assert split("**one two three**", HTML_SUBSET, 16, "characters") == ["**one two**", "**three**"]
    pieces = split(f"[{'one two ' * 8}three](http://a.b)", HTML_SUBSET, 60, "characters")
    assert pieces == ["[one two one two one two one two](http://a.b)"] * 2 + ["[three](http://a.b)"]


def test_a_link_is_rather_moved_than_cut() -> None:
    pieces = split("aaaa bbbb cccc [dd ee](http://a.b) ffff", MARKDOWN, 36, "characters")
    assert pieces == ["aaaa bbbb cccc [dd ee](http://a.b)", "ffff"]
    pieces = split("aaaa bbbb cccc [dd ee](http://a.b) ffff", MARKDOWN, 32, "characters")
    assert pieces == ["aaaa bbbb cccc", "[dd ee](http://a.b) ffff"]


def test_an_address_longer_than_a_message_is_cut_as_text() -> None:
    address = "http://a.b/" + "c" * 60
    assert "".join(split(f"[x]({address})", PLAIN, 20, "characters")).replace("\n", "").endswith("c" * 18 + ")")


def test_an_ordered_list_keeps_counting() -> None:
    pieces = split("1. aaaa\n2. bbbb\n3. cccc", PLAIN, 16, "characters")
    assert pieces == ["1. aaaa\n2. bbbb", "3. cccc"]


def test_an_item_that_is_cut_goes_on_without_a_second_number() -> None:
    pieces = split("1. aaaa bbbb\n2. cccc", PLAIN, 10, "characters")
    assert [render(piece, PLAIN) for piece in pieces] == ["1. aaaa", "bbbb", "2. cccc"]


def test_a_quote_stays_a_quote() -> None:
    assert split("> aaaa bbbb", PLAIN, 7, "characters") == ["> aaaa", "> bbbb"]


def test_the_beginning_of_a_long_block_fills_the_message_before_it() -> None:
    pieces = split("Intro:\n\n```\n" + "line\n" * 20 + "```", PLAIN, 60, "characters")
    assert pieces[0].startswith("Intro:\n\n```\nline\n")


def test_a_grapheme_cluster_longer_than_a_message_is_cut_all_the_same() -> None:
    text = "e" + "\u0301" * 20
    pieces = split(text, PLAIN, 6, "characters")
    assert "".join(pieces) == text
    assert max(map(len, pieces)) == 6


@pytest.mark.parametrize(
    "cluster",
    [
        "e\u0301",
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🇳🇱",
        "각",
        "1\ufe0f\u20e3",
        "क्षि",
        "🏴\U000e0067\U000e007f",
        "กำ",
        "\r\n",
        "각\u11a8",
    ],
)
def test_a_grapheme_cluster_is_never_cut(cluster: str) -> None:
    assert all(joined(cluster, place) for place in range(1, len(cluster)))
    twice = cluster * 2
    assert not joined(twice, len(cluster))


@pytest.mark.parametrize("text", ["ab", "日本", "a😀", "한국", "🇳🇱🇩🇪"])
def test_separate_clusters_may_be_parted(text: str) -> None:
    assert not joined(text, len(text) // 2)


@given(MARKDOWN_TEXTS, st.sampled_from(ALL), st.integers(1, 120), st.sampled_from(UNITS))
def test_every_piece_fits_unless_it_is_one_character(text: str, dialect: Dialect, limit: int, unit: Unit) -> None:
    for piece in split(text, dialect, limit, unit):
        assert length(render(piece, dialect), unit) <= limit or len(content(parse(piece))) <= 1


@given(MARKDOWN_TEXTS, st.sampled_from(ALL), st.integers(1, 120), st.sampled_from(UNITS))
def test_no_text_is_lost(text: str, dialect: Dialect, limit: int, unit: Unit) -> None:
    pieces = split(text, dialect, limit, unit)
    whole = content(parse(text))
    got = "".join(content(parse(piece)) for piece in pieces)
    if dialect is MARKDOWN and limit == 1:
        got = "".join(pieces)
    assert is_within(whole, got) if render(text, dialect).strip() else pieces == []
    if "http" not in text and "](" not in text and dialect is not MARKDOWN:
        assert got == whole or not pieces


@given(
    st.integers(60, 200), st.sampled_from(ALL), MARKDOWN_TEXTS.filter(lambda text: "`" not in text and "~" not in text)
)
def test_a_fence_survives_cutting(limit: int, dialect: Dialect, code: str) -> None:
    code = re.sub(r"\n\s*\n", "\n", clean(code)).strip("\n") or "x"
    pieces = split(f"```py\n{code * 5}\n```", dialect, limit, "characters")
    fences = [block for piece in pieces for block in parse(piece).blocks]
    assert all(isinstance(block, Fence) and block.lang == "py" for block in fences)


@given(st.lists(st.text("ab ", min_size=1), min_size=1), st.integers(12, 40))
def test_the_numbers_of_a_list_go_up_by_one(items: list[str], limit: int) -> None:
    lines = [f"{number}. x{item.strip()}" for number, item in enumerate(items, start=1)]
    pieces = split("\n".join(lines), PLAIN, limit, "characters")
    numbers = [
        block.start + place
        for piece in pieces
        for block in parse(piece).blocks
        if isinstance(block, List) and block.start is not None
        for place in range(len(block.items))
    ]
    assert numbers == list(range(1, len(items) + 1))


CLUSTERS = ["e\u0301", "👩‍👩‍👧", "🇳🇱", "각", "👍🏽", "क्षि", "a", "語"]


@given(st.lists(st.sampled_from(CLUSTERS), min_size=1, max_size=60), st.sampled_from(ALL), st.integers(20, 60))
def test_pieces_begin_and_end_with_whole_clusters(clusters: list[str], dialect: Dialect, limit: int) -> None:
    text = "".join(clusters)
    pieces = split(text, dialect, limit, "characters")
    assert "".join(pieces) == text
    places = {len("".join(clusters[:count])) for count in range(len(clusters) + 1)}
    ends = {len("".join(pieces[:count])) for count in range(len(pieces) + 1)}
    assert ends <= places


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    "scrap", ["word. ", "x", "**b** *i* ", "- a\n", "> a\n", "```\nb\n```\n", "👩‍👩‍👧", "[a](http://b) ", "\u0301"]
)
def test_long_texts_fit(dialect: Dialect, scrap: str) -> None:
    text = scrap * (20_000 // len(scrap))
    pieces = split(text, dialect, 2000, "bytes")
    assert max(length(render(piece, dialect), "bytes") for piece in pieces) <= 2000
    assert "".join(content(parse(piece)) for piece in pieces) == content(parse(text))
