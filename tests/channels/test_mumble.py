from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.rig import LIMIT
from kit.talk import Talk
from rigs.mumble import Client, MumbleRig
from servers.murmur import ADMIN, NUMBERS, PASSWORD, PROGRAMS, Murmur, murmur

from roost.channels.mumble import Mumble, MumbleConfig, find, path, pictures, plain, read, shown, spoken_to
from roost.channels.mumble_link import NOTED, Link, Room, User, certificate, tls
from roost.channels.mumble_wire import HEAD, Fields, Type, decode, encode, frame, next_frame, varint
from roost.errors import LoginFailed, Undeliverable
from roost.media import Media
from roost.values import Event, Message, Place, Reply

ROOMS = {0: Room(0, "Root"), 1: Room(1, "Games", 0), 2: Room(2, "Chess", 1), 3: Room(3, "Tea", 0), 4: Room(4, "Tea", 1)}
ANN, ME = User(5, "Ann", hash="ab12"), User(9, "Roost")
USERS = {5: ANN, 9: ME}


# The wire


def test_fields_are_written_as_the_documentation_of_protocol_buffers_has_them() -> None:
    assert varint(150) == b"\x96\x01"
    assert encode([(1, 150)]) == b"\x08\x96\x01"
    assert encode([(2, "testing")]) == b"\x12\x07testing"
    assert decode(b"\x22\x06\x03\x8e\x02\x9e\xa7\x05").numbers(4) == [3, 270, 86942]
    assert decode(encode([(3, 1), (3, 2)])).numbers(3) == [1, 2]
    assert frame(Type.PING, [(1, 1)]) == b"\x00\x03\x00\x00\x00\x02\x08\x01"


def test_what_a_newer_server_adds_is_passed_over() -> None:
    fields = decode(b"\x41" + b"\0" * 8 + b"\x4d" + b"\0" * 4 + encode([(1, 7)]))
    assert fields.number(1) == 7
    assert (fields.number(30, 5), fields.text(31), 32 in fields) == (5, "", False)


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 2**64 - 1) | st.text())))
def test_what_is_written_is_read_again(values: list[tuple[int, int | str]]) -> None:
    fields = decode(encode(values))
    for field, value in dict(values).items():
        if all(isinstance(one, type(value)) for number, one in values if number == field):
            assert (fields.number(field) if isinstance(value, int) else fields.text(field)) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_a_value_error(data: bytes) -> None:
    try:
        fields = decode(data)
        for field in range(20):
            fields.text(field)
            fields.numbers(field)
    except ValueError:
        pass


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x05abc", b"\x0b", b"\xff" * 11, b"\x09\0"])
def test_a_message_that_ends_too_soon_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        decode(data)


async def test_a_length_that_nobody_may_send_is_refused() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(HEAD.pack(11, 1 << 31))
    with pytest.raises(ValueError, match="longer than Mumble allows"):
        await next_frame(reader)


# What is said


def text(*fields: tuple[int, int | str]) -> Fields:
    return decode(encode(fields))


def test_a_direct_text_and_one_in_a_channel(tmp_path: Path) -> None:
    direct = read(text((1, 5), (2, 9), (5, "hi<br />there")), USERS, 9, "mumble", Media(tmp_path))
    assert direct is not None
    assert (str(direct.place), direct.place.kind, str(direct.sender)) == ("mumble:ab12", "direct", "mumble:ab12")
    assert (direct.text, direct.addressed, direct.sender.name) == ("hi\nthere", True, "Ann")
    group = read(text((1, 5), (3, 2), (5, "roost: tea?")), USERS, 9, "mumble", Media(tmp_path))
    assert group is not None
    assert (str(group.place), group.place.kind, group.text, group.addressed) == ("mumble:c2", "group", "tea?", True)
    tree = read(text((1, 5), (4, 1), (5, "all of you")), USERS, 9, "mumble", Media(tmp_path))
    assert tree is not None and (str(tree.place), tree.addressed) == ("mumble:c1", False)


@pytest.mark.parametrize("actor", [(), ((1, 9),), ((1, 77),)])
def test_what_the_server_the_bot_or_nobody_says_is_no_message(tmp_path: Path, actor: Any) -> None:
    assert read(text(*actor, (5, "welcome")), USERS, 9, "mumble", Media(tmp_path)) is None


@pytest.mark.parametrize(
    ("said", "left", "addressed"),
    [
        ("Roost: hi", "hi", True),
        ("@roost hi", "hi", True),
        ("roost, hi", "hi", True),
        ("ask Roost about it", "ask Roost about it", True),
        ("Roosters: hi", "Roosters: hi", False),
        ("hi", "hi", False),
    ],
)
def test_who_is_spoken_to(said: str, left: str, addressed: bool) -> None:
    assert spoken_to(said, "Roost") == (left, addressed)


def test_plain_text_stays_and_html_becomes_markdown() -> None:
    assert shown("a &lt; b\n**c**") == "a < b\n**c**"
    assert shown("<b>x</b> 2 * 3") == r"**x** 2 * 3"
    assert shown("1 < 2") == "1 < 2"


def test_a_picture_in_a_text_is_an_attachment_and_a_broken_one_is_a_word(tmp_path: Path) -> None:
    left, (one,) = pictures('look <IMG alt="" SRC="data:image/PNG;base64,aGk%3D" />', Media(tmp_path))
    assert (left, one.name, one.mime, one.size) == ("look ", "image1.png", "image/png", 2)
    for odd in (
        "<img src='data:,x'>",
        "<img>",
        '<img src="http://evil.example/x.png">',
        '<img src="data:image/a;base64,%">',
    ):
        assert pictures(odd, Media(tmp_path)) == ("[image]", ())


def test_a_person_is_a_registration_or_a_certificate_before_a_name() -> None:
    assert replace(ANN, registered=0).id == "#0"
    assert (ANN.id, ME.id) == ("ab12", "~Roost")


def test_a_channel_is_found_by_path_before_name() -> None:
    assert path(ROOMS, ROOMS[2]) == "Games/Chess"
    assert [find(ROOMS, one) for one in ("Games/Chess", "Chess", "Tea", "games/tea", "Root", "Nowhere")] == [
        ROOMS[2],
        ROOMS[2],
        ROOMS[3],
        ROOMS[4],
        ROOMS[0],
        None,
    ]
    assert path({1: Room(1, "a", 2), 2: Room(2, "b", 1)}, Room(1, "a", 2)) == "b/a"


def test_a_server_without_html_gets_no_angle_bracket() -> None:
    assert plain("**1 < 2**") == "1 ＜ 2"


# On the server


class Desk:
    """A host that tells when the channel is alive."""

    bot_name = "Roost"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.alive = asyncio.Event()

    def pulse(self) -> None:
        self.alive.set()

    def trouble(self, why: str) -> None: ...


async def ignore(item: Message | Event) -> bool:
    return True


def channel(home: Path, **keys: Any) -> tuple[Mumble, Desk]:
    known = {"host": "127.0.0.1", "port": murmur().port, "password": PASSWORD, "username": f"Roost{next(NUMBERS)}"}
    desk = Desk(home)
    return Mumble("mumble", MumbleConfig(**(known | keys)), desk), desk  # type: ignore[arg-type]


@pytest.mark.system(*PROGRAMS[0])
@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"password": "wrong"}, r"The server's password is another than 'password' \(.+\)\."),
        ({"username": "a b\tc!"}, "does not take the 'username'"),
        ({"username": "SuperUser"}, "registered for another certificate"),
        ({"channel": "Nowhere"}, "no channel 'Nowhere'"),
        ({"fingerprint": "00:11"}, "shows another certificate"),
        ({"verify": True}, "Nobody vouches"),
    ],
)
async def test_what_will_never_work_is_said_in_a_sentence(tmp_path: Path, keys: dict[str, Any], why: str) -> None:
    one, _ = channel(tmp_path, **keys)
    with pytest.raises(LoginFailed, match=why) as refused:
        async with asyncio.timeout(30):
            await one.run(ignore)
    assert "bot.toml: [channels.mumble]" in str(refused.value)


@pytest.mark.system(*PROGRAMS[0])
async def test_the_bot_is_the_same_user_with_its_certificate_and_only_it_can_read_it(tmp_path: Path) -> None:
    ann, hashes = Client(f"Ann{next(NUMBERS)}"), []
    await ann.connect(murmur().port)
    one, desk = channel(tmp_path)
    for _ in range(2):
        desk.alive.clear()
        running = asyncio.create_task(one.run(ignore))
        async with asyncio.timeout(30):
            await desk.alive.wait()
        await ann.settled()
        hashes.append(
            next(known for who, known in ann.hashes.items() if ann.users.get(who, ("",))[0] == one.config.username)
        )
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await ann.close()
    assert hashes[0] and hashes[0] == hashes[1]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("certificate.pem", "server.sha256")} == {0o600}


@pytest.mark.system(*PROGRAMS[0])
async def test_a_text_is_sent_when_the_server_has_read_it_and_refused_when_it_refuses(tmp_path: Path) -> None:
    owner = Client("SuperUser", ADMIN)
    await owner.connect(murmur().port)
    one, desk = channel(tmp_path)
    running = asyncio.create_task(one.run(ignore))
    async with asyncio.timeout(30):
        await desk.alive.wait()
        await one.send(Place("mumble", "#0"), Reply("hello **there**"))
        await owner.settled()
        assert [said.text(5) for said in owner.texts] == ["<p>hello <strong>there</strong></p>"]
        with pytest.raises(Undeliverable, match="too long"):
            await one.send(Place("mumble", "#0"), Reply("x" * 5001))
        with pytest.raises(Undeliverable, match="no channel"):
            await one.send(Place("mumble", "c999", kind="group"), Reply("hello"))
        with pytest.raises(Undeliverable, match="is not on the Mumble server now"):
            await one.send(Place("mumble", "~Nobody"), Reply("hello"))
        await one.send(Place("mumble", "#0"), Reply("still here"))
        await owner.settled()
        assert len(owner.texts) == 2
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await owner.close()


@pytest.mark.system(*PROGRAMS[0])
async def test_a_server_that_takes_less_is_given_less(tmp_path: Path) -> None:
    strict = await asyncio.to_thread(Murmur, allowhtml="false", textmessagelength="300", imagemessagelength="1000")
    try:
        owner = Client("SuperUser", ADMIN)
        await owner.connect(strict.port)
        one, desk = channel(tmp_path, port=strict.port)
        running = asyncio.create_task(one.run(ignore))
        async with asyncio.timeout(30):
            await desk.alive.wait()
            assert (one.limits.max_text, one.limits.media) == (300, {})
            await one.send(Place("mumble", "#0"), Reply("**1 < 2** & 3"))
            await owner.settled()
        assert [said.text(5) for said in owner.texts] == ["1 ＜ 2 & 3"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await owner.close()
    finally:
        await asyncio.to_thread(strict.stop)


@pytest.mark.system(*PROGRAMS[0])
async def test_nothing_is_dropped_by_a_server_that_limits_how_fast_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await asyncio.to_thread(Murmur, messageburst="3", messagelimit="1")
    monkeypatch.setattr("rigs.mumble.murmur", lambda: slow)
    rig = MumbleRig(tmp_path)
    await rig.start()
    talk = Talk(rig, tmp_path)
    table = {name: value for name, value in rig.table().items() if name != "rate"}
    try:
        async with talk.up(table=table) as stage:
            await rig.say("hello")
            await rig.answers(1)
            for number in range(7):
                await stage.bot.send(talk.said[-1].place, f"n{number}")
            shown = await rig.answers(8)
            assert [one.text for one in shown[1:]] == [f"n{number}" for number in range(7)]
            await stage.quiet(LIMIT)
    finally:
        await rig.stop()
        await asyncio.to_thread(slow.stop)


def test_a_name_that_is_in_use_is_tried_again_and_a_wrong_password_is_not(tmp_path: Path) -> None:
    link = Link("mumble", MumbleConfig(host="localhost"), tmp_path)
    for passing in (0, 5, 6, 8, 9):
        with pytest.raises(ConnectionError, match=r"^it lets the bot in later \(Username already in use\)$"):
            NOTED[Type.REJECT](link, text((1, passing), (2, "Username already in use")))
    for lasting in (1, 2, 3, 4, 7):
        with pytest.raises(LoginFailed, match=r"\(Go away\)\. Correct it in bot\.toml: \[channels\.mumble\]\.$"):
            NOTED[Type.REJECT](link, text((1, lasting), (2, "Go away.")))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([(5, 1), (1, 0x4)], "I may not go into that channel"),
        ([(5, 1), (1, 0x200)], "I may not write there"),
        ([(5, 1)], "I may not do that"),
        ([(5, 9)], "the channel is full"),
        ([(5, 4)], "it is too long for the server"),
        ([(5, 0), (4, "Not today")], "Not today"),
    ],
)
async def test_a_refusal_says_what_was_refused(tmp_path: Path, fields: list[tuple[int, int | str]], why: str) -> None:
    link = Link("mumble", MumbleConfig(host="localhost"), tmp_path)
    mark = link._marks[1] = asyncio.get_running_loop().create_future()
    NOTED[Type.PERMISSION_DENIED](link, text(*fields))
    NOTED[Type.PING](link, text((1, 1)))
    assert mark.result() == why


def test_a_server_that_wants_another_version_does_not_say_which_is_older(tmp_path: Path) -> None:
    link = Link("mumble", MumbleConfig(host="localhost"), tmp_path)
    with pytest.raises(LoginFailed, match="not the version of Mumble"):
        NOTED[Type.REJECT](link, text((1, 1), (2, "Server requires 1.6")))


async def test_a_certificate_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "certificate.pem"
    assert isinstance(tls(file, "Roost", verify=False), ssl.SSLContext)
    first = file.read_text()
    tls(file, "Roost", verify=True)
    assert file.read_text() == first != certificate("Roost")
