"""Strategies for property tests of plugins and channels, made with hypothesis, which is imported when one is asked for.

https://hypothesis.readthedocs.io
"""

from __future__ import annotations

import shlex
import typing
from collections.abc import Callable
from datetime import timedelta
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Literal

from roost.commands import Command, plain_hint
from roost.errors import RoostError
from roost.updates import HARD
from roost.values import Attachment, Mention, Message, Person, Place, Quote

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy


def _hypothesis() -> Any:
    try:
        import hypothesis.strategies
    except ModuleNotFoundError as error:
        raise RoostError("Property tests need the package 'hypothesis'. Install it: pip install hypothesis") from error
    return hypothesis.strategies


def texts(most: int = 60) -> SearchStrategy[str]:
    """Texts as people and programs send them: emoji of several parts, other scripts and directions, combining marks,
    control characters, Markdown, markup, paths; valid Unicode, about `most` characters and rarely thousands.
    """
    st = _hypothesis()
    any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=most)
    mixed = st.lists(st.sampled_from(HARD) | any_text, min_size=1, max_size=4).map("".join)
    return typing.cast("SearchStrategy[str]", any_text | st.sampled_from(HARD) | mixed)


def people(channel: str = "stage") -> SearchStrategy[Person]:
    """People of a channel; some have neither a name nor a handle."""
    st = _hypothesis()
    ids = st.sampled_from(("1", "ann", "@ann:b.org", "+15005550006")) | texts(8).filter(bool)
    return typing.cast("SearchStrategy[Person]", st.builds(Person, st.just(channel), ids, texts(8), texts(8)))


def places(channel: str = "stage") -> SearchStrategy[Place]:
    """Places of a channel, of every kind, with threads and without."""
    st = _hypothesis()
    chats = st.sampled_from(("1", "-100123", "!room:b.org", "#tea")) | texts(8).filter(bool)
    kinds = st.sampled_from(typing.get_args(typing.get_type_hints(Place)["kind"]))
    threads = st.just("") | texts(8)
    return typing.cast("SearchStrategy[Place]", st.builds(Place, st.just(channel), chats, threads, kinds))


def attachments(most: int = 1000) -> SearchStrategy[Attachment]:
    """Files of at most `most` bytes, with their data; their names and types are anything."""
    st = _hypothesis()

    def made(kind: Any, name: str, mime: str, data: bytes) -> Attachment:
        return Attachment(kind, name, mime, len(data), data=data)

    kinds = st.sampled_from(typing.get_args(typing.get_type_hints(Attachment)["kind"]))
    names = st.sampled_from(("photo.jpg", "", ".", "a" * 300, "no ending", "../x")) | texts(8)
    mimes = st.sampled_from(("image/png", "audio/ogg", "application/octet-stream", "", "nonsense"))
    return typing.cast("SearchStrategy[Attachment]", st.builds(made, kinds, names, mimes, st.binary(max_size=most)))


def messages(channel: str = "stage", text: SearchStrategy[str] | None = None) -> SearchStrategy[Message]:
    """What people say, in places of every kind: with quotes, mentions and files, addressed or not, edited or not.

    `text` is what they say; `texts()` when it is left out.
    """
    st = _hypothesis()
    said = texts() if text is None else text

    @st.composite  # type: ignore[untyped-decorator]
    def made(draw: DrawFn) -> Message:
        own = draw(said)
        start = draw(st.integers(0, len(own)))
        mention = Mention(start, draw(st.integers(start, len(own))), draw(people(channel)).id)
        return Message(
            id=draw(st.integers(1, 2**53).map(str)),
            place=draw(places(channel)),
            sender=draw(people(channel)),
            text=own,
            at=draw(st.floats(0, 2**32)),
            addressed=draw(st.booleans()),
            edited=draw(st.booleans()),
            mentions=draw(st.sampled_from(((), (mention,)))),
            quote=draw(st.none() | st.builds(Quote, st.just("q1"), texts(20), texts(8))),
            attachments=tuple(draw(st.lists(attachments(), max_size=2))),
        )

    return typing.cast("SearchStrategy[Message]", made())


def arguments(function: Callable[..., Any]) -> SearchStrategy[str]:
    """What may be written behind a command so that it is understood; `function` is one with `@command`.

    For what is not understood, `texts()` will do: that is answered with the usage.
    """
    st = _hypothesis()
    command = getattr(function, "__roost_command__", None)
    if not isinstance(command, Command):
        raise TypeError(f"{function!r} is no command. Write @command above it.")
    written = command.written()

    @st.composite  # type: ignore[untyped-decorator]
    def made(draw: DrawFn) -> str:
        words: list[str] = []
        for number, one in enumerate(written):
            if one.default is not Parameter.empty and draw(st.booleans()):
                break
            rest = number == len(written) - 1
            words.append(draw(_word(one.annotation, rest)))
        return " ".join(words)

    return typing.cast("SearchStrategy[str]", made())


def _word(hint: Any, rest: bool) -> SearchStrategy[str]:
    """What is written for one parameter."""
    st = _hypothesis()
    hint = plain_hint(hint)
    if typing.get_origin(hint) is Literal:
        found = st.sampled_from([str(one) for one in typing.get_args(hint)]).map(shlex.quote)
    elif hint is bool:
        found = st.sampled_from(("yes", "no", "on", "off", "true", "false"))
    elif hint is int:
        found = st.integers().map(str)
    elif hint is float:
        found = st.floats(allow_nan=False).map(str)
    elif hint is timedelta:
        found = st.builds("{}{}".format, st.integers(0, 999), st.sampled_from(("s", "m", "h", "d")))
    elif rest:
        found = texts().filter(str.strip)
    else:
        found = texts(20).map(shlex.quote)
    return typing.cast("SearchStrategy[str]", found)
