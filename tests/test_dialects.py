from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from test_markdown import MARKDOWN_TEXTS, content

from roost.dialects import HTML, HTML_CHAT, HTML_SUBSET, IRC, MARKDOWN, MRKDWN, PLAIN, STYLING, Dialect, render
from roost.markdown import clean, parse

ALL = [PLAIN, MARKDOWN, HTML, HTML_CHAT, HTML_SUBSET, MRKDWN, IRC, STYLING]
BLOCKS = {"p", "br", "strong", "em", "del", "code", "pre", "a", "blockquote", "ul", "ol", "li", "hr"}
TAGS = {
    "html": BLOCKS | {f"h{level}" for level in range(1, 7)},
    "html_chat": BLOCKS | {f"h{level}" for level in range(1, 7)},
    "html_subset": {"b", "i", "s", "code", "pre", "a", "blockquote"},
}
ATTRIBUTES = {"html": {"href", "rel", "target"}, "html_chat": {"href"}, "html_subset": {"href"}}
ANSWER = "# Hi\n\nSome **bold *both*** and ~~old~~ `x<y`:\n\n1. one [link](https://a.b/?c=1&d=2)\n2. two\n   - deep\n"


class Checker(HTMLParser):
    """Reads a dialect back: only its tags and attributes, all of them balanced."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.open: list[str] = []
        self.data: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS[self.name]
        for key, value in attrs:
            assert value is not None
            if tag == "code":
                assert (key, self.open[-1]) == ("class", "pre")
                assert re.fullmatch(r"language-[\w+#.-]+", value)
            elif tag == "ol":
                assert key == "start"
                assert value.isdigit()
            else:
                assert tag == "a"
                assert key in ATTRIBUTES[self.name]
                assert key != "href" or re.match(r"(https?://|mailto:|tel:)", value, re.IGNORECASE)
        if tag not in {"br", "hr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.data.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"A comment came through: '{data}'.")

    handle_decl = handle_pi = unknown_decl = handle_comment


def read_back(text: str, dialect: Dialect) -> str:
    checker = Checker(dialect.name)
    checker.feed(render(text, dialect))
    checker.close()
    assert checker.open == []
    return re.sub(r"\s", "", "".join(checker.data))


def is_within(part: str, whole: str) -> bool:
    """Whether the characters of `part` occur in `whole` in order: whole may add bullets, numbers, addresses."""
    rest = iter(whole)
    return all(char in rest for char in part)


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (PLAIN, "Hi\n\nSome bold both and old x<y:\n\n1. one link (https://a.b/?c=1&d=2)\n2. two\n   - deep"),
        (MARKDOWN, ANSWER),
        (
            HTML,
            "<h1>Hi</h1><p>Some <strong>bold <em>both</em></strong> and <del>old</del> <code>x&lt;y</code>:</p>"
            '<ol><li>one <a href="https://a.b/?c=1&amp;d=2" rel="noopener noreferrer" target="_blank">link</a></li>'
            "<li>two<ul><li>deep</li></ul></li></ol>",
        ),
        (
            HTML_CHAT,
            "<h1>Hi</h1><p>Some <strong>bold <em>both</em></strong> and <del>old</del> <code>x&lt;y</code>:</p>"
            '<ol><li>one <a href="https://a.b/?c=1&amp;d=2">link</a></li><li>two<ul><li>deep</li></ul></li></ol>',
        ),
        (
            HTML_SUBSET,
            "<b>Hi</b>\n\nSome <b>bold <i>both</i></b> and <s>old</s> <code>x&lt;y</code>:\n\n"
            '1. one <a href="https://a.b/?c=1&amp;d=2">link</a>\n2. two\n   • deep',
        ),
        (
            MRKDWN,
            "*Hi*\n\nSome *bold _both_* and ~old~ `x&lt;y`:\n\n"
            "1. one <https://a.b/?c=1&amp;d=2|link>\n2. two\n   • deep",
        ),
        (
            IRC,
            "\x02Hi\x02\nSome \x02bold \x1dboth\x1d\x02 and \x1eold\x1e \x11x<y\x11:\n"
            "1. one link (https://a.b/?c=1&d=2)\n2. two\n   - deep",
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Dialect) else "",
)
def test_an_answer_in_each_dialect(dialect: Dialect, expected: str) -> None:
    assert render(ANSWER, dialect) == expected


def test_code_blocks_say_their_language_where_they_can() -> None:
    text = "```py\na < b\n\nc\n```"
    assert render(text, HTML_SUBSET) == '<pre><code class="language-py">a &lt; b\n\nc</code></pre>'
    assert render(text, MRKDWN) == "```\na &lt; b\n\nc\n```"
    assert render(text, IRC) == "\x11a < b\x11\n\x11c\x11"
    assert render(text, PLAIN) == "a < b\n\nc"


def test_code_in_a_list_is_not_indented_where_it_is_marked_as_code() -> None:
    text = "- a\n  ```\n  x\n    y\n  ```"
    assert render(text, MRKDWN) == "• a\n  ```\nx\n  y\n```"
    assert render(text, HTML_SUBSET) == "• a\n  <pre><code>x\n  y</code></pre>"


def test_quotes_in_quotes() -> None:
    text = "> a\n> > b"
    assert render(text, PLAIN) == "> a\n>\n> > b"
    assert render(text, HTML_SUBSET) == "<blockquote>a\n\n&gt; b</blockquote>"
    assert render(text, HTML_CHAT) == "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>"


@pytest.mark.parametrize("href", ["file/x", "#y", "ftp://a/b", "intent:x"])
def test_only_web_mail_and_telephone_links_are_links(href: str) -> None:
    for dialect in (HTML, HTML_CHAT, HTML_SUBSET, MRKDWN):
        assert f"a ({href})" in render(f"[a]({href})", dialect)
    assert "<a" in render("[a](tel:+311234)", HTML)


@pytest.mark.parametrize("scheme", ["javascript", "JaVaScRiPt", "data", "vbscript", "java&#115;cript"])
def test_a_link_to_a_script_stays_text(scheme: str) -> None:
    assert "<a" not in render(f"[a]({scheme}:alert(1))", HTML)


def test_an_attribute_cannot_be_left() -> None:
    rendered = render('[a](<http://b/" onclick="x>)', HTML)
    assert "%22%20onclick=%22x" in rendered


def test_literal_markers_cannot_start_a_style_in_mrkdwn() -> None:
    zero = "\u200b"
    assert render(r"\*a\* 2 * 3 b_c_d", MRKDWN) == f"{zero}*{zero}a{zero}*{zero} 2 * 3 b_c_d"
    assert render("`` a`b ``", MRKDWN) == f"a{zero}`{zero}b"
    assert render("````\n```\n````", MRKDWN) == f"```\n`{zero}`{zero}`\n```"
    assert render("<!channel> &lt;@U1>", MRKDWN) == "&lt;!channel&gt; &lt;@U1&gt;"
    assert render(r"\> a", MRKDWN) == f"{zero}&gt; a"


def test_a_style_inside_a_word_is_seen_in_mrkdwn() -> None:
    assert render("foo**bar**baz", MRKDWN) == "foo\u200b*bar*\u200bbaz"


@pytest.mark.parametrize("dialect", [MRKDWN, IRC])
def test_a_style_over_two_lines_is_closed_and_opened_again(dialect: Dialect) -> None:
    first, second = render("**a\nb**", dialect).split("\n")
    assert first[0] == first[-1] == second[0] == second[-1]


@given(MARKDOWN_TEXTS)
def test_html_dialects_are_balanced_allowed_and_keep_the_text(text: str) -> None:
    expected = content(parse(text))
    for dialect in (HTML, HTML_CHAT, HTML_SUBSET):
        assert is_within(expected, read_back(text, dialect))


@given(MARKDOWN_TEXTS)
def test_every_dialect_renders_any_text_and_keeps_its_words(text: str) -> None:
    letters = re.sub(r"[^A-Za-z]", "", content(parse(text)))
    for dialect in ALL:
        rendered = render(text, dialect)
        assert "\x00" not in rendered
        assert "\x01" not in rendered
        assert is_within(letters, rendered)


@given(MARKDOWN_TEXTS)
def test_plain_text_holds_all_of_the_text(text: str) -> None:
    assert is_within(content(parse(text)), render(text, PLAIN))


@given(MARKDOWN_TEXTS)
def test_markdown_is_passed_through(text: str) -> None:
    assert render(text, MARKDOWN) == clean(text)


@given(MARKDOWN_TEXTS)
def test_irc_lines_are_not_empty_and_close_what_they_open(text: str) -> None:
    rendered = render(text, IRC)
    for line in rendered.split("\n") if rendered else []:
        assert line
        assert all(line.count(code) % 2 == 0 for code in "\x02\x1d\x1e\x11")
        assert not re.search("[\x00\x03-\x08\x0b-\x10\x12-\x1c\x1f]", line)


@given(MARKDOWN_TEXTS)
def test_mrkdwn_has_no_angle_bracket_that_is_not_a_link_or_a_quote(text: str) -> None:
    rendered = re.sub(r"<(https?://|mailto:|tel:)[^<>|\s]+(\|[^<>]*)?>", "", render(text, MRKDWN), flags=re.I)
    assert "<" not in rendered
    assert not re.search(r"^(?![ \d.•]*>).*>", re.sub(r"^[> \d.•]+", "", rendered, flags=re.M), re.M)
