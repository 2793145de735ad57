from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import irctokens
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.listener import listening
from rigs.ear import Ear, running
from rigs.irc import Client, registration
from servers.inspircd import NUMBERS, PASSWORD, PROGRAMS, Network, certificate, network

from roost.channels import irc, irc_link
from roost.channels.irc import Irc, IrcConfig
from roost.channels.irc_lines import CODES, Line, build, cut, fold, parse, plain, to_markdown, write
from roost.channels.irc_read import Around, follow, read, read_reaction
from roost.dialects import IRC, render
from roost.errors import LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.values import Event, Message, Place, Reply

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=300)
NEEDED = [pytest.mark.system(*program) for program in PROGRAMS]


def needs_servers(test: Any) -> Any:
    for mark in NEEDED:
        test = mark(test)
    return test


# -------------------------------------------------------------------------------------------------- lines


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["msgid", "+draft/reply", "time"]), WORDS), WORDS)
def test_what_is_written_is_read_by_others_as_it_was_meant(tags: dict[str, str], text: str) -> None:
    raw = build("PRIVMSG", "#tea", text, tags=tags).removesuffix(b"\r\n")
    theirs, ours = irctokens.tokenise(raw), parse(raw)
    assert ours is not None
    assert theirs.params == ["#tea", text] == list(ours.params)
    assert (theirs.tags or {}) == tags == ours.tags


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(raw: bytes) -> None:
    line = parse(raw)
    assert line is None or line.command


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"PRIVMSG", b"TAGMSG", b"NICK", b"KICK", b"JOIN", b"BATCH", b"QUIT"]))
def test_no_line_breaks_what_reads_it(rest: bytes, command: bytes) -> None:
    around = Around("irc", "roost")
    line = parse(b":a!b@c " + command + b" " + rest)
    assert line is not None
    for one in (read, read_reaction, follow):
        try:
            one(line, around)
        except (ValueError, IndexError, KeyError):
            continue  # the channel leaves such a line out


def test_a_line_that_would_become_two_is_refused() -> None:
    with pytest.raises(ValueError, match="line breaks"):
        build("PRIVMSG", "#tea", "hi\r\nQUIT")
    with pytest.raises(ValueError, match="last parameter"):
        build("JOIN", "#a b", "key")


def test_text_that_is_not_utf_8_is_read_as_western() -> None:
    line = parse(b":a!b@c PRIVMSG roost :caf\xe9")
    assert line is not None and line.params[1] == "café"


def test_nicks_are_compared_as_the_server_does() -> None:
    assert fold("Ann[1]^") == "ann{1}~"
    assert fold("Ann[1]^", "strict-rfc1459") == "ann{1}^"
    assert fold("ÄNN[", "ascii") == "Änn["


# --------------------------------------------------------------------------------------------- formatting


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("\x02bold\x02 and \x1dslanted\x1d and \x11a_b*c\x11", "**bold** and *slanted* and `a_b*c`"),
        ("\x02 spaces \x02around", "**spaces** around"),
        ("\x0304,12red\x03 on \x04ff0000,00ff00blue\x0f, \x1funder\x1f \x16back\x16", "red on blue, under back"),
        ("\x02all \x1eof it\x0f none", "**all ~~of it~~** none"),
        ("2 * 3 and *so* on", "2 * 3 and \\*so\\* on"),
        ("\x02\x02", ""),
    ],
)
def test_control_codes_become_markdown(said: str, text: str) -> None:
    assert to_markdown(said) == text


@settings(deadline=None)
@given(st.text(st.sampled_from("ab \x02\x03\x04\x0f\x11\x16\x1d\x1e\x1f,1f*_`"), max_size=60))
def test_no_mixture_of_codes_loses_a_word_or_leaves_a_code(said: str) -> None:
    text = to_markdown(said)
    assert not re.search(r"[\x00-\x1f]", text)
    assert letters(text) == letters(plain(said))


def letters(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["word ", "a", "é", "👩‍👩‍👧", "好", "\x02", "\x1d", "\x11", " "]), max_size=120),
    st.integers(32, 80),
)
def test_pieces_fit_and_say_everything_in_the_same_style(parts: list[str], room: int) -> None:
    line = "".join(parts)
    pieces = list(cut(line, room))
    assert all(len(piece.encode()) <= room and plain(piece).strip() for piece in pieces)
    styled = [one for piece in pieces for one in styles(piece)]
    assert styled == styles(line)


def styles(text: str) -> list[tuple[str, frozenset[str]]]:
    """Every character that is not a space, with the codes that are on."""
    found, on = [], frozenset[str]()
    for part in CODES.split(text):
        if CODES.fullmatch(part):
            on ^= {part}
        else:
            found += [(char, on) for char in part if char != " "]
    return found


def test_a_message_becomes_lines_without_empty_ones() -> None:
    assert write("# Tea\n\n```\na\n\nb\n```\n\n- **one**", 400) == [
        "\x02Tea\x02",
        "\x11a\x11",
        "\x11b\x11",
        "- \x02one\x02",
    ]
    assert write(" \n\n", 400) == []


# ------------------------------------------------------------------------------------------------ reading


def line(text: str, target: str = "roost", source: str = "ann!a@host", command: str = "PRIVMSG", **tags: str) -> Line:
    return Line(command, (target, text), source, {name.replace("__", "/"): value for name, value in tags.items()})


def around(**fields: Any) -> Around:
    return Around("irc", "roost", support={"STATUSMSG": "@+", "CASEMAPPING": "rfc1459"}, **fields)


def said(*args: str, **tags: str) -> Message:
    message = read(line(*args, **tags), around())
    assert message is not None
    return message


def test_a_person_is_their_account_or_else_their_whole_mask() -> None:
    assert said("hi", account="ann").sender.id == "ann"
    assert said("hi").sender.id == "ann!a@host"
    assert said("hi", account="ann").place == Place("irc", "ann")
    assert said("hi", "#Tea[1]").place == Place("irc", "#tea{1}")
    assert said("hi", "@#tea").place == Place("irc", "#tea")


@pytest.mark.parametrize(
    ("text", "addressed", "left"),
    [
        ("roost: hello", True, "hello"),
        ("Roost, hello", True, "hello"),
        ("@roost hello", True, "hello"),
        ("what does @roost think", True, "what does @roost think"),
        ("roost hello", False, "roost hello"),
        ("rooster: hello", False, "rooster: hello"),
        ("tell @roosters", False, "tell @roosters"),
        ("roost:", True, ""),
    ],
)
def test_who_is_meant_in_a_channel(text: str, addressed: bool, left: str) -> None:
    message = said(text, "#tea")
    assert (message.addressed, message.text) == (addressed, left)


def test_a_bot_whose_nick_has_marks_in_it_is_called_by_it() -> None:
    message = read(line("_bot_[x]: hi", "#tea"), Around("irc", "_bot_[x]"))
    assert message is not None and message.text == "hi" and message.addressed


def test_what_is_done_rather_than_said_is_told() -> None:
    assert said("\x01ACTION waves_at *you*\x01").text == "*waves_at \\*you\\**"
    assert said("\x01DCC SEND cat.png 1 2 3\x01").text == "[dcc SEND cat.png 1 2 3]"


@pytest.mark.parametrize("text", ["\x01VERSION\x01", "\x01\x01", "", "\x02\x02", "\x01ACTION \x01"])
def test_what_says_nothing_is_no_message(text: str) -> None:
    assert read(line(text), around()) is None


def test_own_words_and_those_of_other_bots_are_not_delivered() -> None:
    assert read(line("hi", source="ROOST!r@host"), around()) is None
    assert read(line("hi", account="mine"), around(account="mine")) is None
    assert read(line("hi", bot=""), around()) is None


def test_a_quote_has_the_words_it_refers_to() -> None:
    here = around()
    read(line("first", msgid="m1"), here)
    answer = read(Line("PRIVMSG", ("#tea", "why"), "bob!b@host", {"+draft/reply": "m1"}), here)
    assert answer is not None and answer.quote is not None
    assert (answer.quote.id, answer.quote.text, answer.quote.author) == ("m1", "first", "ann")
    assert not answer.addressed
    here.note_own(["m1"])
    again = read(Line("PRIVMSG", ("#tea", "why"), "bob!b@host", {"+draft/reply": "m1"}), here)
    assert again is not None and again.addressed


def test_of_a_history_only_what_is_new_is_read() -> None:
    here = around(seen={"#tea": 1_700_000_000.0}, batches={"b": "chathistory"})
    old, new = (line("hi", "#tea", time=f"2023-11-14T22:13:{second}.000Z", batch="b") for second in (19, 21))
    assert read(old, here) is None
    first, second = read(new, here), read(new, here)
    assert first is not None and second is not None and first.identity == second.identity
    assert read(line("hi", "#other", time="2023-11-14T22:13:21.000Z", batch="b"), here) is None


def test_people_are_followed_through_changes_of_their_nicks() -> None:
    here = around()
    read(line("hi", account="ann"), here)
    follow(Line("NICK", ("ann_away",), "ann!a@host"), here)
    assert here.nicks["ann"][0] == "ann_away"
    follow(Line("QUIT", ("bye",), "ann_away!a@host"), here)
    assert "ann" not in here.nicks


def test_coming_and_going_are_events_except_the_bots_own_coming() -> None:
    here = around()
    assert follow(Line("JOIN", ("#tea",), "roost!r@host"), here) is None
    assert here.joined == {"#tea"}
    came = follow(Line("JOIN", ("#tea",), "bob!b@host", {"account": "bob"}), here)
    assert isinstance(came, Event) and came.person is not None
    assert (came.kind, came.person.id, came.value) == ("joined", "bob", "bob")
    out = follow(Line("KICK", ("#tea", "roost", "no"), "bob!b@host"), here)
    assert isinstance(out, Event) and (out.kind, out.value) == ("left", "roost")
    assert here.joined == set()


def test_a_nick_that_changed_hands_is_not_the_same_person() -> None:
    here = around(accounts=True)
    assert here.is_same("ann", "ann!x@y", "Ann")
    assert not here.is_same("ann", "ann!x@y", "")
    assert here.is_same("ann!a@host", "ann!a@host", "") and not here.is_same("ann!a@host", "ann!x@y", "")
    assert here.is_same("ann!", "ann!x@y", "")


# -------------------------------------------------------------------------------------- with real servers


class Party:
    """One test's bot and people on a real network, all with names of their own."""

    def __init__(self, folder: Path, network: Network) -> None:
        self.folder = folder
        self.network = network
        number = next(NUMBERS)
        self.bot, self.channel = f"roost{number}", f"#tea{number}"
        self.people: list[Client] = []

    def table(self, **keys: Any) -> IrcConfig:
        plain = {"host": "127.0.0.1", "port": self.network.port, "tls": False, "nick": self.bot, "rate": 0.0}
        return IrcConfig(**{**plain, **keys})

    def make(self, **keys: Any) -> tuple[Irc, Ear]:
        ear = Ear(self.folder)
        return Irc("irc", self.table(**keys), ear), ear  # type: ignore[arg-type]

    @asynccontextmanager
    async def run(self, **keys: Any) -> AsyncIterator[tuple[Irc, Ear]]:
        channel, ear = self.make(**keys)
        async with running(channel, ear):
            yield channel, ear

    async def person(self, name: str, **options: Any) -> Client:
        one = Client(f"{name}{next(NUMBERS)}")
        self.people.append(one)
        await one.connect(self.network.port, **options)
        return one


@pytest.fixture
async def party(tmp_path: Path) -> AsyncIterator[Party]:
    one = Party(tmp_path, network())
    yield one
    for person in one.people:
        await person.close()


def private(nick: str) -> Any:
    return lambda line: line.command == "PRIVMSG" and line.params[0] == nick


@needs_servers
async def test_a_certificate_is_checked_and_one_of_your_own_can_be_named(party: Party) -> None:
    ca = str(party.network.folder / "server.pem")
    async with party.run(port=party.network.tls_port, tls=True, ca=ca) as (channel, _):
        assert channel._link is not None and channel._link._writer.get_extra_info("cipher")


@needs_servers
async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(party: Party) -> None:
    channel, ear = party.make(port=party.network.tls_port, tls=True)
    task = asyncio.create_task(channel.run(ear.receive))  # type: ignore[arg-type]
    await ear.until(lambda: "cannot be trusted" in ear.problem)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not ear.up.is_set()


@needs_servers
async def test_a_certificate_of_the_bots_own_logs_it_in(party: Party) -> None:
    mine = party.folder / "bot"
    certificate(mine, "bot")
    print_ = hashlib.sha1(ssl.PEM_cert_to_DER_cert(mine.with_suffix(".pem").read_text())).hexdigest()
    keeper = Client(party.bot)
    party.people.append(keeper)
    await keeper.connect(party.network.port)
    await keeper.ask(*registration(party.bot))
    await keeper.ask(f"PRIVMSG NickServ :CERT ADD {print_}", lambda line: "Added" in line.params[-1])
    await keeper.ask(f"NICK {party.bot}old", lambda line: line.command == "NICK")
    ca = str(party.network.folder / "server.pem")
    keys = {"certificate": str(mine.with_suffix(".both")), "account": party.bot}
    async with party.run(port=party.network.tls_port, tls=True, ca=ca, **keys) as (channel, _):
        assert channel._link is not None and channel._link.account == party.bot


@pytest.mark.parametrize("keys", [{"ca": "/none.pem"}, {"certificate": "/none.pem"}])
async def test_files_that_are_not_there_are_named(keys: dict[str, str], tmp_path: Path) -> None:
    channel = Irc("irc", IrcConfig(host="127.0.0.1", port=1, nick="roost", **keys), Ear(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(LoginFailed, match=rf"\[channels.irc\] {next(iter(keys))} = '/none.pem' cannot be read"):
        await channel.run(None)  # type: ignore[arg-type]


async def test_a_password_is_not_sent_in_clear_over_a_network(tmp_path: Path) -> None:
    config = IrcConfig(host="irc.example.org", tls=False, nick="roost", password="s3cret")
    with pytest.raises(LoginFailed, match="for everybody to read") as failed:
        await Irc("irc", config, Ear(tmp_path)).run(None)  # type: ignore[arg-type]
    assert "s3cret" not in str(failed.value)


@needs_servers
async def test_a_nick_that_is_taken_is_won_back(party: Party) -> None:
    await party.network.account(party.bot)
    thief = Client(party.bot)
    party.people.append(thief)
    await thief.connect(party.network.port)
    async with party.run(password=PASSWORD) as (channel, ear):
        await ear.until(lambda: channel._link is not None and channel._link.nick == party.bot)
        assert channel._link is not None and channel._link.account == party.bot


@needs_servers
async def test_nickserv_takes_a_password_where_sasl_is_not_wanted(party: Party) -> None:
    await party.network.account(party.bot)
    async with party.run(password=PASSWORD, login="nickserv") as (channel, ear):
        await ear.until(lambda: channel._link is not None and channel._link.account == party.bot)


@needs_servers
async def test_questions_of_clients_are_answered_but_not_without_end(party: Party) -> None:
    ann = await party.person("Ann")
    async with party.run() as (_, ear):
        answer = await ann.ask(f"PRIVMSG {party.bot} :\x01PING 12 34\x01", lambda line: line.command == "NOTICE")
        assert answer.params[1] == "\x01PING 12 34\x01"
        for _ in range(20):
            ann.send(f"PRIVMSG {party.bot} :\x01VERSION\x01")
        ann.send(f"PRIVMSG {party.bot} :\x01ACTION waves\x01")
        await ear.until(lambda: [one.text for one in ear.heard] == ["*waves*"])
        await ann.ask("PING here", lambda line: line.command == "PONG")
        notices = [line for line in ann.lines if line.command == "NOTICE" and line.source and party.bot in line.source]
        assert len(notices) <= 4


@needs_servers
async def test_a_line_uses_the_room_that_the_server_leaves_and_no_more(party: Party) -> None:
    ann = await party.person("Ann")
    async with party.run(channels=[party.channel]) as (channel, ear):
        await ear.until(lambda: channel._around.joined)
        await ann.ask(f"JOIN {party.channel}", lambda line: line.command == "366")
        place = Place("irc", party.channel, kind="group")
        text = "".join("好" if number % 7 else "👩‍👩‍👧" for number in range(1200))
        start = len(ann.lines)
        sent = await channel.send(place, Reply(text))
        await ann.ask("PING here", lambda line: line.command == "PONG")
        came = [line for line in ann.lines[start:] if line.command == "PRIVMSG"]
        assert "".join(line.params[1] for line in came) == text
        assert [line.tags["msgid"] for line in came] == list(sent.ids)
        lengths = [len(f":{line.source} PRIVMSG {party.channel} :{line.params[1]}\r\n".encode()) for line in came]
        assert all(512 - 18 - 4 < length <= 512 for length in lengths[:-1]), lengths


@needs_servers
async def test_an_answer_in_a_channel_names_who_asked(party: Party) -> None:
    ann = await party.person("Ann")
    async with party.run(channels=[party.channel]) as (channel, ear):
        await ear.until(lambda: channel._around.joined)
        await ann.ask(f"JOIN {party.channel}", lambda line: line.command == "366")
        ann.send(f"PRIVMSG {party.channel} :{party.bot}: tea?")
        (asked,) = await ear.until(lambda: [one for one in ear.heard if isinstance(one, Message)])
        await channel.send(asked.place, Reply("yes", quote=asked.id, ticket=asked.ticket))
        answer = await ann.seen(lambda line: line.command == "PRIVMSG" and line.hostmask.nickname == party.bot)
        assert answer.params[1] == f"{ann.nick}: yes"
        assert answer.tags["+draft/reply"] == asked.id


@needs_servers
async def test_what_a_channel_kept_while_the_bot_was_away_is_read_once(party: Party) -> None:
    ann = await party.person("Ann")
    await ann.ask(f"JOIN {party.channel}", lambda line: line.command == "366")
    await ann.ask(f"MODE {party.channel} +H 50:1d", lambda line: line.command == "MODE" and "+H" in line.params[1])
    await echoed(ann, party.channel, "before its time")
    keys = {"channels": [party.channel]}
    async with party.run(**keys) as (channel, ear):
        await ear.until(lambda: channel._around.joined)
        await echoed(ann, party.channel, "one")
        await ear.until(lambda: texts(ear) == ["one"])
        await channel.send(Place("irc", party.channel, kind="group"), Reply("mine"))
    await echoed(ann, party.channel, "two")
    async with party.run(**keys) as (_, ear):
        await ear.until(lambda: "two" in texts(ear))
        await echoed(ann, party.channel, "three")
        await ear.until(lambda: texts(ear)[-1] == "three")
        assert [text for text in texts(ear) if text != "one"] == ["two", "three"]
        assert "mine" not in texts(ear) and "before its time" not in texts(ear)
    identities = [one.identity for one in ear.heard if isinstance(one, Message)]
    assert len(set(identities)) == len(identities)


async def echoed(person: Client, target: str, text: str) -> None:
    await person.ask(f"PRIVMSG {target} :{text}", lambda line: line.command == "PRIVMSG" and line.params[1] == text)


def texts(ear: Ear) -> list[str]:
    return [one.text for one in ear.heard if isinstance(one, Message)]


@needs_servers
async def test_nobody_gets_what_was_meant_for_who_had_the_nick_before(party: Party) -> None:
    ann = await party.person("Ann")
    await ann.ask(*registration(ann.nick))
    async with party.run() as (channel, ear):
        ann.send(f"PRIVMSG {party.bot} :hello")
        (message,) = await ear.until(lambda: list(ear.heard))
        assert message.sender.id == ann.nick
        await ann.close()
        with pytest.raises(NotSent, match="not on IRC now"):
            await channel.send(message.place, Reply("secret"))
        mallory = Client(ann.nick)
        party.people.append(mallory)
        await mallory.connect(party.network.port)
        with pytest.raises(Undeliverable, match="somebody else"):
            await channel.send(message.place, Reply("secret"))
        ann.nick = f"{ann.nick}x"
        await ann.connect(party.network.port, account=message.sender.id)
        ann.send(f"PRIVMSG {party.bot} :me again")
        await ear.until(lambda: len(ear.heard) == 2)
        assert ear.heard[1].place == message.place
        await channel.send(message.place, Reply("secret"))
        await ann.seen(private(ann.nick))
        assert not [line for line in mallory.lines if "secret" in line.params[-1]]


@needs_servers
async def test_what_a_channel_refuses_is_undeliverable_in_the_servers_words(party: Party) -> None:
    ann = await party.person("Ann")
    await ann.ask(f"JOIN {party.channel}", lambda line: line.command == "366")
    await ann.ask(f"MODE {party.channel} +m", lambda line: line.command == "MODE")
    async with party.run(channels=[party.channel]) as (channel, ear):
        await ear.until(lambda: channel._around.joined)
        with pytest.raises(Undeliverable, match="404"):
            await channel.send(Place("irc", party.channel, kind="group"), Reply("hush"))
        ann.send(f"KICK {party.channel} {party.bot}")
        await ear.until(lambda: not channel._around.joined)
        with pytest.raises(NotSent, match="not in"):
            await channel.send(Place("irc", party.channel, kind="group"), Reply("hush"))


@needs_servers
async def test_a_channel_with_a_password_is_joined(party: Party) -> None:
    ann = await party.person("Ann")
    await ann.ask(f"JOIN {party.channel}", lambda line: line.command == "366")
    await ann.ask(f"MODE {party.channel} +k sesame", lambda line: line.command == "MODE")
    async with party.run(channels=[party.channel], channel_keys={party.channel: "sesame"}) as (channel, ear):
        await ear.until(lambda: channel._around.joined)


@needs_servers
async def test_lines_keep_to_their_pace(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = await party.person("Ann")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    real = asyncio.sleep
    async with party.run(rate=0.5, burst=3) as (channel, _):
        monkeypatch.setattr(irc.asyncio, "sleep", sleep)
        await channel.send(Place("irc", f"{ann.nick}!"), Reply("\n\n".join(f"line {number}" for number in range(6))))
        monkeypatch.undo()
    waited = [round(pause) for pause in pauses if pause < 50]
    assert waited[:6] == [0, 0, 0, 2, 4, 6], waited


@needs_servers
async def test_a_server_without_extensions_will_do(tmp_path: Path) -> None:
    plain_network = Network(modules=())
    party = Party(tmp_path, plain_network)
    try:
        ann = await party.person("Ann", caps="")
        async with party.run(channels=[party.channel]) as (channel, ear):
            ann.send(f"PRIVMSG {party.bot} :hello")
            (message,) = await ear.until(lambda: [one for one in ear.heard if isinstance(one, Message)])
            assert message.sender.id.startswith(f"{ann.nick}!")
            sent = await channel.send(message.place, Reply("one\n\ntwo", quote=message.id))
            assert len(sent.ids) == 2
            await ann.seen(lambda line: line.command == "PRIVMSG" and line.params[1] == "two")
            with pytest.raises(Undeliverable, match="no reactions"):
                await channel.react(message.place, message.id, "👍")
            await channel.type(message.place)
            await ann.close()
            with pytest.raises(Undeliverable, match="has left"):
                await channel.send(message.place, Reply("three"))
    finally:
        plain_network.stop()


# ------------------------------------------------------------------------------- with a server that breaks


@asynccontextmanager
async def breaking(folder: Path, lines: int, echo: bool) -> AsyncIterator[tuple[Irc, Ear, list[str]]]:
    """A server that closes the connection after so many lines of a message; `echo` gives them back before."""
    got: list[str] = []
    left = itertools.count(lines, -1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caps = "echo-message" if echo else ""
        while raw := await reader.readline():
            said = irctokens.tokenise(raw.rstrip(b"\r\n"))
            match said.command:
                case "CAP" if said.params[0] == "LS":
                    writer.write(f"CAP * LS :{caps}\r\n".encode())
                case "CAP" if said.params[0] == "REQ":
                    writer.write(f"CAP * ACK :{caps}\r\n".encode())
                case "CAP":
                    writer.write(b":s 001 roost :hi\r\n:s 376 roost :end\r\n")
                case "PING":
                    writer.write(f":s PONG s :{said.params[0]}\r\n".encode())
                case "PRIVMSG":
                    if next(left) == 0:
                        break
                    got.append(said.params[1])
                    if echo:
                        writer.write(b":roost!r@h " + raw)
        writer.close()

    async with listening(serve) as port:
        ear = Ear(folder)
        config = IrcConfig(host="127.0.0.1", port=port, tls=False, nick="roost", rate=1000.0, burst=1)
        channel = Irc("irc", config, ear)  # type: ignore[arg-type]
        async with running(channel, ear):
            yield channel, ear, got


THREE = Reply("one\n\ntwo\n\nthree", key="k")


async def test_a_message_that_broke_off_unseen_may_have_been_sent(tmp_path: Path) -> None:
    async with breaking(tmp_path, 2, echo=False) as (channel, _, got):
        with pytest.raises(MaybeSent):
            await channel.send(Place("irc", "#tea", kind="group"), THREE)
        assert got == ["one", "two"]


async def test_a_message_that_broke_off_between_lines_goes_on_where_it_was(tmp_path: Path) -> None:
    async with breaking(tmp_path, 100, echo=True) as (channel, ear, got):
        wait = channel._wait
        calls = itertools.count(1)

        async def cut_before_the_third() -> None:
            if next(calls) == 3:
                link = channel._link
                assert link is not None
                await ear.until(lambda: channel._pending is not None and len(channel._pending.ids) == 2)
                link._writer.transport.abort()
                await ear.until(lambda: channel._link is not link)
            await wait()

        channel._wait = cut_before_the_third  # type: ignore[method-assign]
        place = Place("irc", "#tea", kind="group")
        with pytest.raises(NotSent):
            await channel.send(place, THREE)
        await ear.until(lambda: channel._link is not None)
        sent = await channel.send(place, THREE)
        assert got == ["one", "two", "three"] and len(sent.ids) == 3


async def test_a_server_that_swallows_a_line_is_found_out(tmp_path: Path) -> None:
    async with breaking(tmp_path, 100, echo=True) as (channel, _, _):
        link = channel._link
        assert link is not None
        write = link.write

        def swallow(*words: str, **more: Any) -> None:
            if "two" not in words:
                write(*words, **more)

        link.write = swallow  # type: ignore[method-assign]
        with pytest.raises(Undeliverable, match="did not pass 1 lines"):
            await channel.send(Place("irc", "#tea", kind="group"), THREE)


# --------------------------------------------------------------------------- with what other servers say


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("*status!znc@znc.in", "roost"),
        ("***!znc@znc.in", "#tea"),
        ("irc.example.org", "roost"),
        ("oper!o@host", "$$*"),
    ],
)
def test_machines_and_notices_to_everybody_are_not_answered(source: str, target: str) -> None:
    assert read(line("You have no unread messages", target, source), around()) is None


def test_a_batch_of_any_kind_needs_no_times() -> None:
    here = around(batches={"b": "chathistory", "m": "draft/multiline"}, seen={"#tea": 1.0})
    first, second = (read(line("hi", batch="m"), here) for _ in range(2))
    assert first is not None and second is not None and first.identity != second.identity
    assert read(line("hi", "#tea", batch="b"), here) is not None


@asynccontextmanager
async def scripted(
    folder: Path, *, welcome: str = "", caps: str | None = "", answers: dict[str, str] | None = None, **keys: Any
) -> AsyncIterator[tuple[Irc, Ear, list[str]]]:
    """A channel, and a server that says `welcome` behind the greeting, and to what begins with a key its answer."""
    got: list[str] = []
    greeting = f":s 001 roost :hi\r\n:s 376 roost :end\r\n{welcome}"
    known = {"CAP REQ": f"CAP * ACK :{caps}\r\n", "CAP :END": greeting, **(answers or {})}
    if caps is None:
        known["USER"] = f":s 421 roost CAP :Unknown command\r\n{greeting}"
    else:
        known["CAP LS"] = f"CAP * LS :{caps}\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while raw := await reader.readline():
            said = raw.decode().rstrip("\r\n")
            got.append(said)
            if said.startswith("PING"):
                writer.write(f":s PONG s {said.removeprefix('PING ')}\r\n".encode())
            for begun, answer in known.items():
                if f"{said} ".startswith(f"{begun} "):
                    writer.write(answer.encode())
        writer.close()

    async with listening(serve) as port:
        ear = Ear(folder)
        config = IrcConfig(host="127.0.0.1", port=port, tls=False, nick="roost", rate=1000.0, burst=10, **keys)
        channel = Irc("irc", config, ear)  # type: ignore[arg-type]
        task = asyncio.create_task(channel.run(ear.receive))
        try:
            yield channel, ear, got
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("news", "mask"),
    [
        (
            ":s 396 roost user/roost/with/a/long/cloak :is now your hidden host\r\n",
            "roost!r@user/roost/with/a/long/cloak",
        ),
        (":s 396 roost x@cloak :is now your displayed host\r\n", "roost!x@cloak"),
        (":roost!r@h NICK :Guest4711\r\n", "Guest4711!r@h"),
        (":roost NICK :Guest4711\r\n", "Guest4711!r@h"),
    ],
)
async def test_the_room_in_a_line_follows_the_bots_own_name_and_host(tmp_path: Path, news: str, mask: str) -> None:
    welcome = f":roost!r@h JOIN #tea\r\n{news}:ann!a@h PRIVMSG #tea :now\r\n"
    async with scripted(tmp_path, welcome=welcome) as (channel, ear, got):
        await ear.until(lambda: ear.texts)
        link = channel._link
        assert link is not None and link.mask == mask
        await channel.send(Place("irc", "#tea", kind="group"), Reply("word " * 150))
        said = [one for one in got if one.startswith("PRIVMSG")]
        assert len(said) > 1 and all(len(f":{mask} {one}\r\n") <= 512 for one in said)


async def test_a_server_without_capabilities_does_not_leave_the_bot_logged_out_unseen(tmp_path: Path) -> None:
    async with scripted(tmp_path, caps=None, password="secret") as (_, ear, _):
        await ear.until(lambda: "no SASL" in ear.problem or ear.up.is_set())
        assert not ear.up.is_set()


async def test_a_login_that_the_server_breaks_off_is_tried_again(tmp_path: Path) -> None:
    answers = {"AUTHENTICATE :PLAIN": ":s 906 roost :SASL authentication aborted\r\n"}
    async with scripted(tmp_path, caps="sasl", password="secret", answers=answers) as (_, ear, got):
        await ear.until(lambda: got.count("AUTHENTICATE :PLAIN") == 2)
        assert "broke the login off" in ear.problem


@pytest.mark.parametrize("number", ["439", "707"])
async def test_a_server_that_wants_more_time_between_two_people_is_given_it(tmp_path: Path, number: str) -> None:
    answers = {"PRIVMSG ann": f":s {number} roost ann :Target change too fast\r\n"}
    async with scripted(tmp_path, welcome=":ann!a@h PRIVMSG roost :hi\r\n", answers=answers) as (channel, ear, _):
        await ear.until(lambda: ear.texts)
        with pytest.raises(NotSent) as caught:
            await channel.send(Place("irc", "ann!a@h"), Reply("hello"))
        assert caught.value.retry_after


async def test_every_reason_to_be_kept_out_of_a_channel_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(irc, "TICK", 0.05)
    answers = {"JOIN": ":s 480 roost #tea :Cannot join channel (+j) - throttle exceeded\r\n"}
    welcome = ":s 477 roost bob :You need to be identified\r\n"
    async with scripted(tmp_path, welcome=welcome, answers=answers, channels=["#tea"]) as (_, ear, got):
        await ear.until(lambda: len([one for one in got if one.startswith("JOIN")]) >= 3)
    told = [one.getMessage() for one in caplog.records if "cannot join" in one.getMessage()]
    assert told == [
        "irc: The bot cannot join '#tea': Cannot join channel (+j) - throttle exceeded. It tries again every minute."
    ]


async def test_a_nick_that_services_keep_for_its_owner_is_waited_for_under_another(tmp_path: Path) -> None:
    """432 is what InspIRCd answers while NickServ's enforcer has the nick, and for what is no nick at all."""
    answers = {
        "NICK :roost": ":s 432 * roost :Invalid nickname: Nickname Enforcer\r\n",
        "NICK :roost_": ":s 001 roost_ :hi\r\n:s 376 roost_ :end\r\n",
        "CAP :END": "",
    }
    async with scripted(tmp_path, answers=answers) as (channel, ear, got):
        await ear.until(ear.up.is_set)
        assert channel._link is not None and channel._link.nick == "roost_"
        await ear.until(lambda: got.count("NICK :roost") == 2)


async def test_what_is_no_nick_with_another_letter_either_stops_the_channel(tmp_path: Path) -> None:
    erroneous = ":s 432 * roost :Erroneous Nickname\r\n"
    answers = {"NICK :roost": erroneous, "NICK :roost_": erroneous, "CAP :END": ""}
    async with scripted(tmp_path, answers=answers) as (channel, ear, _):
        with pytest.raises(LoginFailed, match="'roost' is no nick on this server"):
            await asyncio.wait_for(channel.run(ear.receive), 30)


@pytest.mark.parametrize("keys", [{"nick": "my bot"}, {"nick": "roost", "username": "my bot"}])
async def test_a_name_that_a_line_cannot_carry_is_refused_before_anything_is_connected(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    ear = Ear(tmp_path)
    channel = Irc("irc", IrcConfig(host="127.0.0.1", port=1, tls=False, **keys), ear)  # type: ignore[arg-type]
    with pytest.raises(LoginFailed, match=f"{list(keys)[-1]} = 'my bot' has a space in it"):
        await asyncio.wait_for(channel.run(ear.receive), 30)


async def test_a_port_that_says_nothing_in_tls_is_named_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server's plain port waits for a whole line, which the beginning of TLS is not."""
    monkeypatch.setattr(irc_link, "HANDSHAKE", 0.05)

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    ear = Ear(tmp_path)
    async with listening(wait) as port:
        channel = Irc("irc", IrcConfig(host="127.0.0.1", port=port, nick="roost"), ear)  # type: ignore[arg-type]
        task = asyncio.create_task(channel.run(ear.receive))
        await ear.until(lambda: ear.problem)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert ear.problem.startswith(f"Nothing at '127.0.0.1' answers in TLS on port {port}.")
    assert "tls = false in bot.toml: [channels.irc]" in ear.problem


def test_the_dialect_is_the_one_that_is_measured() -> None:
    assert Irc.limits.markup is IRC and render("**a**", IRC) == "\x02a\x02"
