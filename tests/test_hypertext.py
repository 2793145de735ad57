from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost import hypertext
from roost.dialects import HTML_CHAT, PLAIN, render
from roost.hypertext import to_markdown


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<p>Hi <b> bold </b>and <em>it<strong>alic</strong></em></p>", "Hi **bold** and *it**alic***"),
        ("one<br>two<br/><br>three", "one\ntwo\n\nthree"),
        ("<pre><code class='language-python'>x = 1 &lt; 2\n  y\n</code></pre>", "```python\nx = 1 < 2\n  y\n```"),
        ("<ul><li>one<li>two<ul><li>in</ul></ul>", "- one\n- two\n  - in"),
        ("<ol start=3><li><p>a</p><p>b</p></li></ol>", "3. a\n\n   b"),
        ("<table><tr><th>a<td>b<tr><td>c<td>d</table>", "a | b\nc | d"),
        ("<table><tr><td><p>a</p></td><td><div>b</div></td></tr></table>", "a\n\nb"),
        ("<blockquote><p>q</p>r</blockquote>", "> q\n>\n> r"),
        ("<h2>t <code>a*b</code></h2><hr>", "## t `a*b`\n\n___"),
        ('see <a href="https://e.org/a_b">here</a>', "see [here](https://e.org/a_b)"),
        ('<a href="javascript:alert(1)">press</a> <a href="data:x">me</a>', "press me"),
        ("<del>old</del> <s>er</s> <u>new</u>", "~~old~~ ~~er~~ new"),
        ("<p>a<p>b", "a\n\nb"),
        ("a  *not bold* &amp; &lt;b&gt;\n1 &#x1F9C9;", "a \\*not bold\\* & \\<b> 1 🧉"),
        ("<mx-reply><blockquote>old</blockquote></mx-reply>new", "new"),
        ("<style>p{}</style><script>x()</script><!-- no --><p style='display:none'>hid</p><b hidden>h</b>seen", "seen"),
        ("<img src=x alt=':tea:'> and <img src=y>", ":tea: and"),
        ("</b></p>still <b>here", "still **here**"),
    ],
)
def test_html_becomes_the_markdown_that_means_the_same(html: str, markdown: str) -> None:
    assert to_markdown(html) == markdown


def test_a_link_may_be_replaced_by_its_address_and_words() -> None:
    seen: list[tuple[str, str]] = []

    def replace(href: str, label: str) -> str | None:
        seen.append((href, label))
        return "@ann" if "ann" in href else None

    html = '<a href="https://x/ann"><b>Ann</b></a>, <a href="https://x/tea">tea</a>'
    assert to_markdown(html, replace) == "@ann, [tea](https://x/tea)"
    assert seen == [("https://x/ann", "Ann"), ("https://x/tea", "tea")]


@pytest.mark.parametrize("html", ["<div>" * 5000 + "x", "<b>" * 5000 + "x" + "</b>" * 5000, "<ul><li>" * 2000 + "x"])
def test_elements_within_elements_without_end_are_read(html: str) -> None:
    assert "x" in to_markdown(html)


@given(st.text(alphabet="<>/&;=\"'! \nabpiulhrdtcox#1é😀-", max_size=80))
def test_anything_is_html(text: str) -> None:
    to_markdown(text)


WORDS = st.text(alphabet="abc *_`<>[]()#&!~\\-+.1", min_size=1, max_size=20)


@given(
    st.lists(st.tuples(st.sampled_from(["{}", "**{}**", "- {}", "> {}", "`{}`", "```\n{}\n```"]), WORDS), max_size=4)
)
def test_what_we_write_as_html_reads_as_the_same_words(parts: list[tuple[str, str]]) -> None:
    markdown = "\n\n".join(form.format(words) for form, words in parts)
    back = to_markdown(render(markdown, HTML_CHAT))
    assert letters(render(back, PLAIN)) == letters(render(markdown, PLAIN))


def letters(text: str) -> str:
    return "".join(letter for letter in text if letter.isalnum())


def test_a_large_mail_is_read_in_one_go() -> None:
    html = "<table>" + "<tr><td>cell</td><td><b>bold</b></td></tr>" * 5000 + "</table>"
    assert to_markdown(html).count("cell") == 5000
    assert hypertext.read(html)
