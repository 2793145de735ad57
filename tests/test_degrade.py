from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_markdown import MARKDOWN_TEXTS

from roost.contracts import Limits
from roost.degrade import choose, fit
from roost.dialects import HTML, HTML_SUBSET, IRC, MARKDOWN, MRKDWN, PLAIN, render
from roost.split import length
from roost.values import Attachment, Button, Reply
from roost.writing import escape

YES, NO = Button("Yes", "yes!"), Button("No")
SHOP = Button("The shop", url="https://shop.example")


def test_a_reply_that_fits_goes_as_it_is() -> None:
    reply = Reply("hi", (Attachment("image", data=b"x"),), (YES,), quote="q", ticket="t", key="k")
    assert fit(reply, Limits(buttons=1, quotes=True, media={"image": 1})) == [reply]


def test_an_empty_reply_gives_nothing() -> None:
    assert fit(Reply("", quote="q", ticket="t"), Limits()) == []
    assert fit(Reply(" \n"), Limits()) == []


def test_a_reply_of_attachments_only_is_one_message() -> None:
    reply = Reply(attachments=(Attachment("image", data=b"x"),))
    assert fit(reply, Limits(media={"image": 10})) == [reply]


def test_buttons_ride_on_the_last_part_and_the_quote_on_the_first() -> None:
    reply = Reply("one two three four", (Attachment("image", data=b"x"),), (YES,), "q", "t", "k")
    first, last = fit(reply, Limits(max_text=10, buttons=3, quotes=True, media={"image": 10}))
    assert first == Reply("one two", quote="q", ticket="t", key="k")
    assert last == replace(reply, text="three four", quote="")


def test_a_quote_is_dropped_where_there_are_none() -> None:
    assert fit(Reply("a", quote="q"), Limits()) == [Reply("a")]


@pytest.mark.parametrize(("text", "start"), [("Sure?", "Sure?\n\n"), ("", ""), ("```\ncode", "code\n\n")])
def test_buttons_become_a_numbered_list(text: str, start: str) -> None:
    (part,) = fit(Reply(text, buttons=(YES, NO, SHOP)), Limits(buttons=2))
    assert render(part.text, PLAIN) == start + "1. Yes\n2. No\n3. The shop (https://shop.example)"
    assert part.buttons == ()


@pytest.mark.parametrize("text", ["1. a\n2. b", "- a", "> a", "a\n1. b", "# a"])
def test_the_list_of_buttons_stands_alone(text: str) -> None:
    (part,) = fit(Reply(text, buttons=(YES, NO)), Limits())
    assert render(part.text, PLAIN) == render(text, PLAIN) + "\n\n1. Yes\n2. No"
    assert render(part.text, HTML).endswith("<ol><li>Yes</li><li>No</li></ol>")


def test_a_label_is_no_markdown() -> None:
    (part,) = fit(Reply("x", buttons=(Button("*2* [a](b)\n# c"),)), Limits())
    assert render(part.text, PLAIN) == "x\n\n1. *2* [a](b) # c"


def test_buttons_without_a_text_get_one() -> None:
    (part,) = fit(Reply(buttons=(YES, NO)), Limits(buttons=2))
    assert (part.text, part.buttons) == ("Yes, No", (YES, NO))


def test_an_attachment_that_cannot_be_carried_becomes_a_link_or_a_line() -> None:
    limits = Limits(media={"image": 1000})
    files = (
        Attachment("file", "a.pdf", data=b"x" * 12_345),
        Attachment("image", "b.png", data=b"x" * 2000),
        Attachment("video", "c.mp4", url="https://a.b/c.mp4"),
        Attachment("image", url="https://a.b/d.png", size=5000),
        Attachment("image", "e.png", data=b"x"),
    )
    (part,) = fit(Reply("Here:", files), limits)
    assert part.attachments == files[-1:]
    assert render(part.text, PLAIN).split("\n\n") == [
        "Here:",
        "[file a.pdf, 12 kB: this chat cannot carry it]",
        "[image b.png, 2 kB: too large for this chat]",
        "c.mp4 (https://a.b/c.mp4)",
        "https://a.b/d.png",
    ]


def test_a_file_too_large_says_so() -> None:
    (part,) = fit(Reply("", (Attachment("file", "name.pdf", size=12_000),)), Limits(media={"file": 10}))
    assert render(part.text, PLAIN) == "[file name.pdf, 12 kB: too large for this chat]"


def test_an_image_travels_as_a_file_where_only_files_are_carried() -> None:
    (part,) = fit(Reply("", (Attachment("image", "a.png", data=b"x"),)), Limits(media={"file": 10}))
    assert part.attachments == (Attachment("file", "a.png", data=b"x"),)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "yes!"),
        (" 1. ", "yes!"),
        ("2)", "No"),
        ("#2", "No"),
        ("2️⃣", "No"),
        ("２", "No"),
        ("yes", "yes!"),
        (" YES ", "yes!"),
        ("no", "No"),
        ("3", None),
        ("the  shop", None),
        ("0", None),
        ("4", None),
        ("", None),
        ("maybe", None),
        ("2 apples", None),
        ("-1", None),
    ],
)
def test_a_number_or_a_label_is_a_choice(text: str, value: str | None) -> None:
    assert choose(text, (YES, NO, SHOP)) == value


def test_a_number_with_a_point_is_a_choice_as_channels_write_it() -> None:
    for typed in ("2.", "2)", "no", "1."):
        expected = choose(typed, (YES, NO))
        assert expected is not None
        assert choose(escape(typed), (YES, NO)) == expected
    assert choose(escape("a_b"), (Button("a_b", "x"),)) == "x"


def test_a_label_comes_before_a_number() -> None:
    assert choose("2", (Button("2"), Button("1"))) == "2"
    assert choose("1", (Button("2"), Button("1"))) == "1"


ATTACHMENTS = st.builds(
    Attachment,
    kind=st.sampled_from(["image", "audio", "voice", "video", "sticker", "file"]),
    name=st.text(max_size=9),
    size=st.none() | st.integers(0, 10**10),
    url=st.sampled_from(["", "https://a.b/c"]),
    data=st.none() | st.binary(max_size=30),
)
BUTTONS = st.builds(
    Button, text=st.text(max_size=9), value=st.text(max_size=3), url=st.sampled_from(["", "https://a.b"])
)
LIMITS = st.builds(
    Limits,
    max_text=st.integers(20, 200),
    unit=st.sampled_from(["graphemes", "characters", "utf16", "bytes"]),
    max_bytes=st.just(0) | st.integers(100, 400),
    markup=st.sampled_from([PLAIN, MARKDOWN, HTML, HTML_SUBSET, MRKDWN, IRC]),
    media=st.dictionaries(st.sampled_from(["image", "audio", "file"]), st.integers(0, 20)),
    files=st.integers(0, 3),
    urls=st.booleans(),
    buttons=st.integers(0, 4),
    quotes=st.booleans(),
)
REPLIES = st.builds(
    Reply,
    text=MARKDOWN_TEXTS,
    attachments=st.lists(ATTACHMENTS, max_size=5).map(tuple),
    buttons=st.lists(BUTTONS, max_size=5).map(tuple),
    quote=st.sampled_from(["", "q"]),
    ticket=st.just("t"),
    key=st.just("k"),
)


@given(REPLIES, LIMITS)
def test_every_part_fits_its_channel(reply: Reply, limits: Limits) -> None:
    parts = fit(reply, limits)
    for place, part in enumerate(parts):
        shown = render(part.text, limits.markup)
        assert length(shown, limits.unit) <= limits.max_text
        assert not limits.max_bytes or length(shown, "bytes") <= limits.max_bytes
        assert len(part.buttons) <= limits.buttons
        assert part.text or part.attachments
        assert (part.ticket, part.key) == ("t", "k")
        assert not part.quote or (limits.quotes and place == 0)
        assert not (part.buttons or part.attachments) or not any(later.text for later in parts[place + 1 :])
        assert not limits.files or len(part.attachments) <= limits.files
        for attachment in part.attachments:
            assert limits.urls or attachment.data is not None or not attachment.url
            size = attachment.size if attachment.data is None else len(attachment.data)
            assert size is None or size <= limits.media[attachment.kind]


def test_more_files_than_one_message_takes_go_on_in_further_messages() -> None:
    files = tuple(Attachment("image", f"{number}.png", data=b"x") for number in range(5))
    parts = fit(Reply("look", files, (YES,), quote="q"), Limits(media={"image": 9}, files=2, buttons=1, quotes=True))
    assert [(part.text, len(part.buttons), part.quote) for part in parts] == [
        ("look", 1, "q"),
        ("", 0, ""),
        ("", 0, ""),
    ]
    assert ["".join(one.name[0] for one in part.attachments) for part in parts] == ["01", "23", "4"]


def test_a_file_that_is_only_an_address_is_a_link_where_the_platform_fetches_nothing() -> None:
    film = Attachment("video", "film", url="https://a.b/film")
    (part,) = fit(Reply("see", (film,)), Limits(media={"video": 9}, urls=False))
    assert (part.text, part.attachments) == ("see\n\n[film](https://a.b/film)", ())
    (part,) = fit(Reply("see", (film,)), Limits(media={"video": 9}))
    assert (part.text, part.attachments) == ("see", (film,))


@given(REPLIES, LIMITS)
def test_nothing_is_lost(reply: Reply, limits: Limits) -> None:
    parts = fit(reply, limits)
    kept = sum(len(part.attachments) for part in parts)
    text = "".join("".join(render(part.text, PLAIN).split()) for part in parts)
    assert kept + text.count("thischat") + text.count("https://a.b/c") >= len(reply.attachments)
    assert bool(parts) or not (reply.attachments or any(button.text.strip() for button in reply.buttons))


@given(st.lists(BUTTONS, min_size=1), st.text())
def test_a_choice_is_one_of_the_buttons(buttons: list[Button], text: str) -> None:
    assert choose(text, buttons) in {None, *(button.value or button.text for button in buttons)}
    assert choose(str(len(buttons)), buttons) is not None or any(button.url for button in buttons)
