"""What IRC's lines say, in the words of the core, and who is around to say it."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zlib import crc32

from roost import writing
from roost.channels.irc_lines import CODES, Line, fold, plain, to_markdown
from roost.values import Event, Message, Person, Place, Quote

REMEMBERED = 2000  # messages that a reply may refer to, and people that may be answered
HISTORY = {"chathistory", "znc.in/playback"}
MADE = "~"  # what ids begin with that no server gave
_NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Around:
    """What must be known to read a line: the bot's own names, the server's ways, and who is where.

    `nicks` are the nicks by which people were last seen, with a steady clock's time, by chat. `seen` is the time of
    the newest message of each channel, which tells what of a channel's history is new. `texts` are the messages seen
    last, with their authors, and `own` the ids of the bot's.
    """

    name: str
    nick: str = ""
    account: str = ""
    support: Mapping[str, str] = field(default_factory=dict)
    accounts: bool = False
    joined: set[str] = field(default_factory=set)
    nicks: dict[str, tuple[str, float]] = field(default_factory=dict)
    seen: dict[str, float] = field(default_factory=dict)
    texts: dict[str, tuple[str, str]] = field(default_factory=dict)
    own: dict[str, None] = field(default_factory=dict)
    batches: dict[str, str] = field(default_factory=dict)

    def begin(self, support: Mapping[str, str], accounts: bool, seen: Mapping[str, float]) -> None:
        """A new connection: nothing of who was where is known any more. `accounts` says that the server tells them."""
        self.support, self.accounts, self.seen = support, accounts, dict(seen)
        for forgotten in (self.joined, self.nicks, self.batches):
            forgotten.clear()

    def fold(self, name: str) -> str:
        return fold(name, self.support.get("CASEMAPPING", "rfc1459"))

    def is_me(self, nick: str) -> bool:
        return self.fold(nick) == self.fold(self.nick)

    def is_same(self, chat: str, mask: str, account: str) -> bool:
        """Whether who is there is who `chat` means. A nick alone, `ann!`, means whoever has it."""
        if "!" in chat:
            return chat.endswith("!") or self.fold(chat) == self.fold(mask)
        return self.fold(account) == self.fold(chat) or not self.accounts

    def channel(self, target: str) -> str:
        """The channel that a target names, `@#tea` for its operators included; empty when it is a nick."""
        bare = target.lstrip(self.support.get("STATUSMSG", "")) if self.support.get("STATUSMSG") else target
        return self.fold(bare) if bare[:1] and bare[0] in self.support.get("CHANTYPES", "#&") else ""

    def note_own(self, ids: Iterable[str]) -> None:
        self.own.update(dict.fromkeys(ids))
        trim(self.own)

    def note_seen(self, message: Message) -> None:
        chat = message.place.chat
        if message.place.kind == "group" and message.at > self.seen.get(chat, 0.0):
            self.seen[chat] = message.at


def trim(kept: dict[str, Any]) -> None:
    while len(kept) > REMEMBERED:
        del kept[next(iter(kept))]


def is_given(id: str) -> bool:
    """Whether the server gave this id, so that others know it too."""
    return not id.startswith(MADE)


def made() -> str:
    """An id for a message that the server gave none."""
    return f"{MADE}{time.time_ns()}.{next(_NUMBERS)}"


# ---------------------------------------------------------------------------------------------- messages


def read(line: Line, around: Around) -> Message | None:
    """Read a PRIVMSG. None for the bot's own words, other bots, clients' questions and what was seen already."""
    command, argument = ctcp(line.param(1))
    bare = None if command else called(line.param(1), around.nick)
    text = aside(command, argument) if command else to_markdown(line.param(1))
    if is_own(line, around) or is_machine(line) or "bot" in line.tags or not text:
        return None
    at = moment(line)
    place, sender = read_place(line, around), read_person(line, around)
    if is_old(line, around, place, at):
        return None
    quoted = line.tags.get("+draft/reply", "") or line.tags.get("+reply", "")
    id = line.tags.get("msgid") or (f"{MADE}{at}.{digest(line)}" if is_history(line, around) else made())
    around.texts[id] = text, line.nick
    trim(around.texts)
    if place.kind == "direct":
        around.nicks[place.chat] = line.nick, time.monotonic()
        trim(around.nicks)
    return Message(
        id=id,
        place=place,
        sender=sender,
        text=text if bare is None else to_markdown(bare),
        at=at,
        addressed=place.kind == "direct" or bare is not None or quoted in around.own,
        quote=Quote(quoted, *around.texts.get(quoted, ("", ""))) if quoted else None,
        ticket=line.nick,
        raw=line,
    )


def is_own(line: Line, around: Around) -> bool:
    return around.is_me(line.nick) or bool(around.account and line.tags.get("account") == around.account)


def is_machine(line: Line) -> bool:
    """Whether a server, a bouncer (ZNC's `*status`, `***`) or a notice to everybody (`$$*`) speaks, not a person.

    No nick has a star or a dot in it. A bouncer answers what it does not know, so answering it would have no end.
    """
    server = "!" not in line.source and "." in line.source
    return server or "*" in line.nick or line.param(0).startswith("$")


def is_history(line: Line, around: Around) -> bool:
    return around.batches.get(line.tags.get("batch", "")) in HISTORY and "time" in line.tags


def is_old(line: Line, around: Around, place: Place, at: float) -> bool:
    """Whether a line of a history is one that the bot heard when it was said, or was not there to hear."""
    if not is_history(line, around):
        return False
    newest = around.seen.get(place.chat, time.time())
    # InspIRCd's history has no parts of a second. What is told again has its id, by which the core knows it.
    return at < math.floor(newest) if "msgid" in line.tags else at <= newest


def digest(line: Line) -> str:
    return f"{crc32(f'{line.source} {line.params}'.encode()):x}"


def moment(line: Line) -> float:
    """https://ircv3.net/specs/extensions/server-time"""
    try:
        return datetime.fromisoformat(line.tags["time"].replace("Z", "+00:00")).timestamp()
    except (KeyError, ValueError):
        return time.time()


def read_place(line: Line, around: Around) -> Place:
    channel = around.channel(line.param(0))
    return Place(around.name, channel or identity(line), kind="group" if channel else "direct")


def read_person(line: Line, around: Around) -> Person:
    return Person(around.name, identity(line), line.nick, line.source)


def identity(line: Line) -> str:
    """The account somebody is logged in to, which nobody else can take; else the whole mask, which may change."""
    return line.tags.get("account") or line.source


def called(text: str, nick: str) -> str | None:
    """What is said to the bot: "nick: ...", "nick, ..." or "@nick ..."; None when it is not called by name."""
    name = re.escape(nick)
    begun = re.match(rf"{CODES.pattern}*(?:@{name}[:,]?(?:\s+|$)|{name}[:,](?:\s+|$))", text, re.IGNORECASE)
    if begun:
        return text[begun.end() :]
    return text if re.search(rf"@{name}(?![\w\[\]\\`^{{}}|-])", text, re.IGNORECASE) else None


def ctcp(text: str) -> tuple[str, str]:
    r"""The command and argument of `\x01COMMAND argument\x01`; both empty when it is none."""
    if not text.startswith("\x01"):
        return "", ""
    command, _, argument = text.strip("\x01").partition(" ")
    return command.upper(), argument


def aside(command: str, argument: str) -> str:
    """What a person did rather than said, as text; empty for what only clients say to one another."""
    if command == "ACTION":
        words = writing.escape(plain(argument).strip())
        return f"*{words}*" if words else ""
    return f"[dcc {writing.escape(plain(argument))}]" if command == "DCC" else ""


# ------------------------------------------------------------------------------------------ what happens


def read_reaction(line: Line, around: Around) -> Event | None:
    """A TAGMSG (https://ircv3.net/specs/client-tags/react); None for what is no reaction, such as typing."""
    id = line.tags.get("+draft/reply", "") or line.tags.get("+reply", "")
    emoji = line.tags.get("+draft/react", "")
    if is_own(line, around) or not id or not (emoji or "+draft/unreact" in line.tags):
        return None
    return Event("reacted", read_place(line, around), read_person(line, around), moment(line), id, emoji, line)


def follow(line: Line, around: Around) -> Event | None:
    """Keep up with who is where; tell who came into a channel and who left it."""
    match line.command:
        case "BATCH":
            around.batches[line.param(0)[1:]] = line.param(1)
            if line.param(0).startswith("-"):
                del around.batches[line.param(0)[1:]]
        case "NICK":
            rename(around, line.nick, line.param(0))
        case "QUIT":
            rename(around, line.nick, "")
        case "JOIN" | "PART" | "KICK" if "batch" not in line.tags:
            return read_traffic(line, around)
    return None


def rename(around: Around, old: str, new: str) -> None:
    for chat, (nick, at) in list(around.nicks.items()):
        if around.fold(nick) == around.fold(old):
            del around.nicks[chat]
            if new:
                around.nicks[chat] = new, at


def read_traffic(line: Line, around: Around) -> Event | None:
    """Who came or went. That the bot itself comes is no news, as it does with every connection."""
    place = read_place(line, around)
    came = line.command == "JOIN"
    who = line.param(1) if line.command == "KICK" else line.nick
    if around.is_me(who):
        (around.joined.add if came else around.joined.discard)(place.chat)
        if came:
            around.seen.setdefault(place.chat, moment(line))
            return None
    person = read_person(line, around) if who == line.nick else Person(around.name, f"{who}!", who)
    return Event("joined" if came else "left", place, person, moment(line), value=who, raw=line)
