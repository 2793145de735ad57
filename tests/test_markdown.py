from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.markdown import (
    MAX_SIZE,
    Bold,
    Break,
    Code,
    Fence,
    Heading,
    Italic,
    Link,
    List,
    Paragraph,
    Quote,
    Rule,
    Strike,
    Text,
    Tree,
    clean,
    parse,
)
from roost.split import _Content
from roost.writing import escape, escape_all, write

SCRAPS = [
    *["*", "**", "_", "__", "~~", "~", "`", "``", "```", "```py\n", "\n", "\n\n", "  ", "    ", "\t", "\\", "  \n"],
    *["- ", "* ", "+ ", "1. ", "7) ", "> ", "# ", "### ", "---", "===", "***", "|", "|---|---|\n", "a | b\n"],
    *["[", "]", "(", ")", "](", "![", "<", ">", "<b>", "</a>", "&", "&amp;", "&#10;", "&#2;", "&lt;"],
    *["http://a.b/c_d", "<https://x.y/?a=1&b=2>", "[l](http://h/(p))", "![i](http://h/i.png)", "[j](javascript:x)"],
    *[
        "[r](a/b)",
        "word",
        "snake_case",
        "e\u0301",
        "👩‍👩‍👧",
        "🇳🇱🇩🇪",
        "각",
        "日本語。",
        "\x00",
        "\x02",
        "\r",
        "\ud800",
        "\u200b",
    ],
    *["A sentence. ", "code", "2 * 3", "@all", "<!here>", '"', "'", "\u2028", "\x85", "\x1b[1m", "\U0001f600"],
]
MARKDOWN_TEXTS = st.lists(st.one_of(st.sampled_from(SCRAPS), st.text(max_size=8)), max_size=40).map("".join)


def content(tree: Tree) -> str:
    """All text of a tree, blanks aside."""
    return re.sub(r"\s", "", "".join(_Content(block).text for block in tree.blocks))


def only(text: str) -> object:
    (block,) = parse(text).blocks
    return block


def test_a_paragraph_holds_its_styles() -> None:
    assert only("a **b *c*** ~~d~~ `e`") == Paragraph(
        (
            Text("a "),
            Bold((Text("b "), Italic((Text("c"),)))),
            Text(" "),
            Strike((Text("d"),)),
            Text(" "),
            Code("e"),
        )
    )


def test_a_single_newline_is_a_line_break() -> None:
    assert only("a\nb  \nc\\\nd") == Paragraph((Text("a"), Break(), Text("b"), Break(), Text("c"), Break(), Text("d")))


def test_lists_nest_and_keep_their_numbers() -> None:
    assert only("3. a\n4. b\n   - c") == List(
        (
            (Paragraph((Text("a"),)),),
            (Paragraph((Text("b"),)), List(((Paragraph((Text("c"),)),),))),
        ),
        start=3,
    )


def test_a_list_starting_at_zero_starts_at_zero() -> None:
    block = only("0. a")
    assert isinstance(block, List)
    assert block.start == 0


def test_a_list_with_blank_lines_is_loose() -> None:
    block = only("- a\n\n- b")
    assert isinstance(block, List)
    assert not block.tight


def test_a_fence_keeps_its_text_and_one_word_of_language() -> None:
    assert only("```c++ title=x\na\n\n b\n```") == Fence("a\n\n b", "c++")
    assert only('```"><script>\nx\n```') == Fence("x", "")
    assert only("```py\nnever closed") == Fence("never closed", "py")


def test_headings_quotes_and_rules() -> None:
    assert parse("## a\n> b\n\n---").blocks == (
        Heading(2, (Text("a"),)),
        Quote((Paragraph((Text("b"),)),)),
        Rule(),
    )


def test_links_and_images_are_links() -> None:
    assert only("[a](http://b)![c](http://d)") == Paragraph(
        (Link("http://b", (Text("a"),)), Link("http://d", (Text("c"),)))
    )


def test_a_badge_is_one_link() -> None:
    assert only("[![c](http://d)](http://b)") == Paragraph((Link("http://b", (Text("c"),)),))


@pytest.mark.parametrize(
    ("text", "href"),
    [
        ("see https://a.b/c_d_e.", "https://a.b/c_d_e"),
        ("(https://a.b/c)", "https://a.b/c"),
        ("https://a.b/c_(d)", "https://a.b/c_(d)"),
        ("<https://a.b>", "https://a.b"),
    ],
)
def test_a_bare_address_is_a_link_without_the_punctuation_after_it(text: str, href: str) -> None:
    block = only(text)
    assert isinstance(block, Paragraph)
    assert Link(href, (Text(href),)) in block.children


def test_html_is_text() -> None:
    assert only("<b>a</b> <!-- c -->") == Paragraph((Text("<b>a</b> <!-- c -->"),))
    assert content(parse("<div>\n\nx\n</div>")) == "<div>x</div>"


def test_what_looks_like_a_reference_definition_is_not_lost() -> None:
    assert content(parse("[a]: http://b")) == "[a]:http://b"


def test_a_table_becomes_lines_with_a_bold_heading_and_loses_no_cell() -> None:
    assert only("Prices:\n| a | b |\n|---|:-:|\n| 1 | 2 | 3 |") == Paragraph(
        (Text("Prices:"), Break(), Bold((Text("a | b"),)), Break(), Text("1 | 2 | 3"))
    )


def test_an_entity_cannot_smuggle_in_control_characters() -> None:
    assert only("a&#2;b&#10;c&#27;") == Paragraph((Text("a\ufffdb c\ufffd"),))


def test_control_characters_and_lone_surrogates_are_cleaned() -> None:
    assert clean("a\x02b\x00c\ud800d\r\ne\rf\x0bg\x7f\x9bh") == "ab\ufffdc\ufffdd\ne\nf\ngh"


@pytest.mark.parametrize("text", [">" * 500 + " deep", "- " * 200 + "deep", "1. " * 200 + "deep"])
def test_what_is_nested_too_deeply_is_one_plain_paragraph(text: str) -> None:
    block = only(text)
    assert block == Paragraph((Text(text),))


def test_deep_styles_lose_the_style_and_keep_the_text() -> None:
    text = "*a **b " * 3000 + "end" + "** *" * 3000
    assert "end" in content(parse(text))


def test_a_text_beyond_the_bound_is_one_plain_paragraph() -> None:
    assert only("**a** " * (MAX_SIZE // 5)) == Paragraph((Text(("**a** " * (MAX_SIZE // 5)).strip()),))


@pytest.mark.parametrize(
    "scrap", ["[", "![", "*a ", "`", "<a", "> ", "a](", "[a](", "_a*", "[`", "[[a](b)](c) ", "~~", "&", "\\", "- a\n"]
)
def test_hostile_repetition_ends(scrap: str) -> None:
    assert parse(scrap * (20_000 // len(scrap))).source


@given(MARKDOWN_TEXTS)
def test_any_text_is_markdown(text: str) -> None:
    tree = parse(text)
    assert tree.source == clean(text)
    assert len(tree.lines) == len(tree.blocks)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", content(tree))


@given(MARKDOWN_TEXTS)
def test_what_is_written_reads_back_as_the_same_text_nearly_always(text: str) -> None:
    tree = parse(text)
    again = parse(write(tree.blocks))
    if content(again) != content(tree):
        # Styles that touch may read differently; nothing but their marks may then be added.
        assert re.sub(r"[*_~]", "", content(again)) == re.sub(r"[*_~]", "", content(tree))


@given(st.text())
def test_text_with_all_punctuation_escaped_reads_as_it_is(text: str) -> None:
    assert content(parse(escape_all(clean(text)))) == re.sub(r"\s", "", clean(text))


@given(st.lists(st.sampled_from(SCRAPS)).map(lambda scraps: clean("".join(scraps)).replace("\n", " ").strip()))
def test_an_escaped_line_reads_as_it_is(text: str) -> None:
    assert content(parse(escape(text))) == re.sub(r"\s", "", text)
