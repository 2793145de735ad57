"""Commands: a decorated function. Its docstring is the help, its hints parse the arguments, its answer is the reply."""

from __future__ import annotations

import inspect
import io
import re
import shlex
import types
import typing
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar, Union, overload

from roost.aside import aside
from roost.errors import PluginError
from roost.roles import Role
from roost.values import Attachment, Message, Reply

F = TypeVar("F", bound=Callable[..., Any])
INJECTED = ("message", "bot")
MOST = 20  # replies to one message
NO = {"no", "off", "false", "0"}
SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
PIECE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|sec\w*|m|min\w*|h|hours?|d|days?|w|weeks?)?(?![a-z])\s*(?:and\b)?")
YES = {"yes", "on", "true", "1"}


class UsageError(Exception):
    """The arguments do not fit; the text tells the person what would."""


@dataclass(slots=True)
class Command:
    """One command. `immediate` ones do not wait for the conversation's turn; `role` is who may use it."""

    name: str
    function: Callable[..., Any]
    aliases: tuple[str, ...] = ()
    immediate: bool = False
    role: Role = "guest"
    plugin: str = ""
    _signature: inspect.Signature | None = field(default=None, repr=False)

    @property
    def help(self) -> str:
        """The first line of the docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def signature(self) -> inspect.Signature:
        if self._signature is None:
            hints = parsed_hints(self.function)
            plain = inspect.signature(self.function)
            parameters = [one.replace(annotation=hints.get(one.name, str)) for one in plain.parameters.values()]
            self._signature = plain.replace(parameters=parameters)
        return self._signature

    @property
    def usage(self) -> str:
        """How to write it: `name <needed> [optional]`."""
        return " ".join([self.name, *(_show(one) for one in self.written())])

    def written(self) -> list[inspect.Parameter]:
        """Those that a person writes."""
        filled = (Attachment, list[Attachment])
        parameters = self.signature.parameters.values()
        return [one for one in parameters if one.name not in INJECTED and plain_hint(one.annotation) not in filled]

    def bind(self, text: str, message: Message, bot: Any) -> dict[str, Any]:
        """Turn the text behind the command's name into arguments. Raises UsageError."""
        values: dict[str, Any] = {}
        rest = text.strip()
        parameters = self.written()
        for number, parameter in enumerate(parameters):
            last = number == len(parameters) - 1
            word, rest = _take(rest, last and plain_hint(parameter.annotation) is str)
            if word is not None:
                values[parameter.name] = convert(word, parameter.annotation, f"'{parameter.name}'")
            elif parameter.default is inspect.Parameter.empty:
                raise UsageError(f"'{parameter.name}' is missing.")
        if rest:
            raise UsageError(f"'{shorten(rest)}' is too much.")
        values |= self._attached(message)
        injected = {"message": message, "bot": bot}
        return values | {name: injected[name] for name in INJECTED if name in self.signature.parameters}

    def _attached(self, message: Message) -> dict[str, Any]:
        """What parameters get of the files that came along: `Attachment` the first, a list of them all."""
        values: dict[str, Any] = {}
        for one in self.signature.parameters.values():
            if plain_hint(one.annotation) == list[Attachment]:
                values[one.name] = list(message.attachments)
            elif plain_hint(one.annotation) is Attachment and message.attachments:
                values[one.name] = message.attachments[0]
            elif plain_hint(one.annotation) is Attachment and one.default is inspect.Parameter.empty:
                raise UsageError("Send a file along with it.")
        return values

    async def run(self, text: str, message: Message, bot: Any, prefix: str = "/") -> AsyncGenerator[Reply, None]:
        """Parse, call, and give the replies as they come. Wrong arguments answer with the usage."""
        try:
            arguments = self.bind(text, message, bot)
        except UsageError as error:
            yield Reply(f"{error} Write it like this: `{prefix}{self.usage}`")
            return
        async with aclosing(replies(await self._call(arguments))) as answer:
            async for reply in answer:
                yield reply

    async def _call(self, arguments: dict[str, Any]) -> Any:
        """Call it. A plain `def` runs in a thread, so that it may take its time without stopping everybody."""
        if inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function):
            return self.function(**arguments)
        if inspect.isgeneratorfunction(self.function):
            return await aside(lambda: list(islice(self.function(**arguments), MOST)))
        return await aside(partial(self.function, **arguments))


@overload
def command(function: F, /) -> F: ...
@overload
def command(
    name: str | None = None, /, *, aliases: Iterable[str] = (), immediate: bool = False, role: Role = "guest"
) -> Callable[[F], F]: ...
def command(name: Any = None, /, *, aliases: Iterable[str] = (), immediate: bool = False, role: Role = "guest") -> Any:
    """Make a function a command of the bot.

        @command
        def hello(name: str = "you") -> str:
            \"\"\"Greet someone.\"\"\"
            return f"Hello, {name}!"

    `/hello Ann` answers "Hello, Ann!". Parameters named `message` and `bot` are filled in; the others are parsed
    by their hints: str, int, float, bool, timedelta ("1h30m"), Literal, and any of these or None. A last `str` takes
    the rest of the line. A parameter with the hint Attachment gets the file that came along, `list[Attachment]` all.
    Return a str, a Reply, None for silence, or yield several. A plain `def` runs in a thread and may take its time;
    use `async def` to await things of the bot, such as `message.ask`. `role` is who may use it at least: "guest"
    (whoever is answered at all), "person", "admin" or "owner".
    """

    def mark(function: F) -> F:
        own = called(name if isinstance(name, str) else function.__name__)
        one = Command(own, function, tuple(map(called, aliases)), immediate, role)
        function.__roost_command__ = one  # type: ignore[attr-defined]
        return function

    return mark(name) if callable(name) else mark


async def replies(answer: Any) -> AsyncGenerator[Reply, None]:
    """Read what a plugin's function returned: a text, a Reply, None, several in a list, or these to be awaited."""
    if inspect.isawaitable(answer):
        answer = await answer
    if inspect.isasyncgen(answer):
        async with aclosing(answer):
            async for one in answer:
                if one is not None:
                    yield as_reply(one)
        return
    for one in answer if inspect.isgenerator(answer) or isinstance(answer, list) else [answer]:
        if one is not None:
            yield as_reply(one)


def shorten(text: str, limit: int = 80) -> str:
    """What a person wrote, short enough to be quoted back."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def called(name: str) -> str:
    """A command's name as it is looked up: platforms differ in what they allow."""
    return name.strip("_").lower().replace("_", "-")


def as_reply(answer: Any) -> Reply:
    return answer if isinstance(answer, Reply) else Reply(str(answer))


def parsed_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The hints of the parameters a person fills in. Those of the others may be names for type checkers only.

    Raises PluginError.
    """
    skipped = (*INJECTED, "return")
    written = {name: hint for name, hint in function.__annotations__.items() if name not in skipped}
    holder = type("Hints", (), {"__annotations__": written})
    try:
        return typing.get_type_hints(holder, globalns=getattr(function, "__globals__", {}))
    except Exception as error:
        raise PluginError(f"A hint of '{function.__name__}' cannot be read: {error} ({where(function)}).") from error


def where(function: Callable[..., Any]) -> str:
    """Its file and line."""
    code = inspect.unwrap(function).__code__
    return f"{code.co_filename}, line {code.co_firstlineno}"


def convert(word: str, hint: Any, name: str) -> Any:
    """Turn a word into what a hint asks for; `name` is what it is for. Raises UsageError."""
    hint = plain_hint(hint)
    if typing.get_origin(hint) is Literal:
        return _choose(word, name, typing.get_args(hint))
    if hint is bool:
        return _truth(word, name)
    if hint is timedelta:
        return _duration(word, name)
    try:
        return hint(word) if hint in (int, float) else word
    except ValueError:
        kind = "whole number" if hint is int else "number"
        raise UsageError(f"'{shorten(word)}' is not a {kind} for {name}.") from None


def choices_of(hint: Any) -> tuple[str, ...]:
    """What a hint lets one choose from; nothing where anything goes."""
    hint = plain_hint(hint)
    if hint is bool:
        return ("yes", "no")
    return tuple(map(str, typing.get_args(hint))) if typing.get_origin(hint) is Literal else ()


def _duration(word: str, name: str) -> timedelta:
    """`90s`, `20m`, `1h30m`, `2 days`, `1w`; a number alone is minutes."""
    parts = PIECE.findall(word.lower())
    if not parts or PIECE.sub("", word.lower()).strip(" ,"):
        raise UsageError(f"'{shorten(word)}' is not a time for {name}: write 90s, 20m, 1h30m or 2 days.")
    try:
        return sum((timedelta(seconds=float(n) * SPANS[unit[:1] or "m"]) for n, unit in parts), timedelta())
    except OverflowError:
        raise UsageError(f"'{shorten(word)}' is too long for {name}.") from None


def _choose(word: str, name: str, choices: tuple[Any, ...]) -> Any:
    for choice in choices:
        if str(choice).lower() == word.lower():
            return choice
    raise UsageError(f"'{shorten(word)}' is not one of {', '.join(map(str, choices))} for {name}.")


def _truth(word: str, name: str) -> bool:
    if word.lower() in YES | NO:
        return word.lower() in YES
    raise UsageError(f"'{shorten(word)}' is neither yes nor no for {name}.")


def plain_hint(hint: Any) -> Any:
    """The hint without `| None`."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return next(one for one in typing.get_args(hint) if one is not type(None))
    return hint


def _take(rest: str, everything: bool) -> tuple[str | None, str]:
    """The next word, quotes honoured, and what is left; or everything."""
    rest = rest.lstrip()
    if not rest:
        return None, ""
    if everything:
        return _unquote(rest), ""
    source = io.StringIO(rest)
    lexer = shlex.shlex(source, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        word = lexer.get_token()
    except ValueError:
        word, _, after = rest.partition(" ")
        return word, after
    return word, source.read()


def _unquote(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _show(parameter: inspect.Parameter) -> str:
    hint = plain_hint(parameter.annotation)
    name = "|".join(map(str, typing.get_args(hint))) if typing.get_origin(hint) is Literal else parameter.name
    return f"<{name}>" if parameter.default is inspect.Parameter.empty else f"[{name}]"
