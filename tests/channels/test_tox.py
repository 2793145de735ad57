"""Tox: what the scenarios do not say."""

from __future__ import annotations

import asyncio
import base64
import ctypes
import ctypes.util
import stat
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.rig import LIMIT
from kit.talk import Talk
from rigs.tox import BOT, ToxRig

from roost.channels.tox import ToxChannel, ToxConfig, node, read, spoken_to, write
from roost.channels.tox_core import Tox, load
from roost.channels.tox_files import CANCEL, MOST, RESUME, File, Files
from roost.channels.tox_link import Heard, cut, keep
from roost.errors import LoginFailed, NotSent, Undeliverable
from roost.media import Media
from roost.values import Attachment, Message, Place, Reply

ANN = "AB" * 32
GROUP = "CD" * 32
system = pytest.mark.system("tox-bootstrapd", "toxcore-utils")


@pytest.fixture
def media(tmp_path: Path) -> Media:
    return Media(tmp_path / "media")


def said(heard: Heard, media: Media) -> Message:
    message = read(heard, "tox", BOT, media)
    assert message is not None
    return message


def test_a_friends_message_is_for_the_bot(media: Media) -> None:
    message = said(Heard(ANN, "Ann", "hello"), media)
    assert (message.place, message.place.kind, message.addressed) == (Place("tox", ANN), "direct", True)
    assert (message.sender.id, message.sender.name, message.text) == (ANN, "Ann", "hello")
    assert message.identity != said(Heard(ANN, "Ann", "hello"), media).identity, "Tox has no ids: both were said"


def test_who_has_no_name_is_called_by_the_key(media: Media) -> None:
    assert said(Heard(ANN, "", "hello"), media).sender.name == "ABABABAB"


@pytest.mark.parametrize(
    ("text", "heard", "addressed"),
    [
        ("Birdie: hi", "hi", True),
        ("@Birdie hi", "hi", True),
        ("birdie, hi", "hi", True),
        ("ask Birdie that", "ask Birdie that", True),
        ("Birdies fly", "Birdies fly", False),
        ("@Birdies fly", "@Birdies fly", False),
        ("lunch?", "lunch?", False),
    ],
)
def test_in_a_group_the_name_addresses_the_bot(text: str, heard: str, addressed: bool, media: Media) -> None:
    message = said(Heard(ANN, "Ann", text, group=GROUP), media)
    assert (message.place.chat, message.place.kind) == (f"g{GROUP}", "group")
    assert (message.text, message.addressed) == (heard, addressed)


@given(st.text(), st.text(min_size=1))
def test_any_text_and_any_name_can_be_looked_at(text: str, name: str) -> None:
    rest, _ = spoken_to(text, name)
    assert text.endswith(rest)


def test_an_action_is_slanted_and_goes_out_as_one(media: Media) -> None:
    assert said(Heard(ANN, "Ann", "waves", action=True), media).text == "*waves*"
    assert write(Reply("/me waves")) == ("waves", True)
    assert write(Reply("/me")) == ("/me", False)
    assert write(Reply("about /me ")) == ("about /me", False)


@pytest.mark.parametrize("text", ["", " \n", "\ufffd\ufffd"])
def test_what_has_no_content_is_passed_over(text: str, media: Media) -> None:
    assert read(Heard(ANN, "Ann", text), "tox", BOT, media) is None


async def test_a_file_is_kept_and_its_name_leads_nowhere(media: Media) -> None:
    message = said(Heard(ANN, "Ann", "", file=File(0, "../tea.png", 3, b"tea")), media)
    (one,) = message.attachments
    assert (one.kind, one.name, one.mime, one.size) == ("image", ".._tea.png", "image/png", 3)
    assert b"".join([chunk async for chunk in media.read(one.ref)]) == b"tea"


def test_a_file_that_was_not_taken_is_told_of(media: Media) -> None:
    message = said(Heard(ANN, "Ann", "", file=File(0, "tea.png", 10**12, why="too large")), media)
    assert (message.text, message.attachments) == ("[file 'tea.png', not taken: too large]", ())


@given(st.text(), st.integers(0, 200))
def test_a_name_is_cut_between_characters(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(short) <= most and text.startswith(short.decode())


def test_a_node_is_read_and_a_wrong_one_is_named() -> None:
    found = node(f"[::1]:33445:{ANN}")
    assert (found.host, found.port, found.key) == ("::1", 33445, bytes.fromhex(ANN))
    for wrong in ("", "host", f"host:0:{ANN}", f"host:99999:{ANN}", f"host:1:{ANN}0"):
        with pytest.raises(ValueError, match="HOST:PORT:PUBLIC_KEY"):
            node(wrong)


# Who becomes a friend


def channel(folder: Path, **keys: Any) -> ToxChannel:
    host: Any = SimpleNamespace(home=folder, bot_name=BOT, pulse=lambda: None)
    return ToxChannel("tox", ToxConfig(**keys), host)


def test_requests_are_accepted_as_the_configuration_says(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def welcomes(**keys: Any) -> bool:
        one = channel(tmp_path, **keys)
        return one._welcomes(ANN, "let me in", one._friends())

    assert welcomes()
    assert not caplog.records
    assert not welcomes(friends="ask")
    assert ANN in caplog.text and "[channels.tox]" in caplog.text and "let me in" not in caplog.text
    assert not welcomes(friends=[GROUP])
    assert welcomes(friends=[ANN.lower() + "0" * 12])


@pytest.mark.parametrize("keys", [{"friends": ["Ann"]}, {"nodes": ["nowhere"]}, {"relays": ["nowhere"]}])
async def test_a_wrong_key_of_the_table_stops_the_channel_with_a_sentence(keys: Any, tmp_path: Path) -> None:
    async def receive(item: object) -> bool:
        return True

    with pytest.raises(LoginFailed, match=r"bot\.toml: \[channels\.tox\]"):
        await channel(tmp_path, **keys).run(receive)


# The library


def test_without_the_library_a_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(file: str) -> None:
        raise OSError(file)

    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(LoginFailed, match=r"apt install libtoxcore2.*brew install toxcore.*\[channels\.tox\]"):
        load("tox")


@system
def test_a_profile_outlives_the_process_and_a_damaged_one_is_not_overwritten(tmp_path: Path) -> None:
    first = Tox("tox", b"", udp=False, local=False)
    address, profile = first.read("self_get_address", 38), first.profile()
    first.kill()
    keep(tmp_path / "profile.tox", profile)
    assert stat.S_IMODE((tmp_path / "profile.tox").stat().st_mode) == 0o600
    second = Tox("tox", (tmp_path / "profile.tox").read_bytes(), udp=False, local=False)
    assert second.read("self_get_address", 38) == address
    second.kill()
    for damaged, word in ((b"nonsense" * 20, "damaged"), (b"toxEsave" + bytes(200), "encrypted")):
        with pytest.raises(LoginFailed, match=word):
            Tox("tox", damaged, udp=False, local=False)


@system
async def test_a_channel_with_a_damaged_profile_stops_and_leaves_the_file(tmp_path: Path) -> None:
    (tmp_path / "profile.tox").write_bytes(b"nonsense" * 20)

    async def receive(item: object) -> bool:
        return True

    with pytest.raises(LoginFailed, match=r"profile\.tox"):
        await channel(tmp_path, udp=False, nodes=[], relays=[]).run(receive)
    assert (tmp_path / "profile.tox").read_bytes() == b"nonsense" * 20


# Files, chunk by chunk


class Calls:
    """A Tox that notes what it is asked for."""

    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def call(self, *values: Any) -> int:
        self.made.append(values)
        return 7


def offer(files: Files, number: int, size: int, kind: int = 0) -> None:
    files.offered(0, number, kind, size, b"tea.png", 7)


def test_files_are_taken_whole_within_limits(caplog: pytest.LogCaptureFixture) -> None:
    tox, taken = Calls(), list[File]()
    files = Files(tox, 10, taken.append)  # type: ignore[arg-type]
    offer(files, 1, 5)
    files.chunk(0, 1, 0, b"one", 3)
    files.chunk(0, 1, 3, b"tw", 2)
    files.chunk(0, 1, 5, None, 0)
    assert taken == [File(0, "tea.png", 5, b"onetw")]
    offer(files, 2, 11)
    offer(files, 3, 2**64 - 1)
    offer(files, 4, 3, kind=1)
    assert [one.why for one in taken[1:]] == ["too large", "too large"], "an avatar is not even told of"
    offer(files, 5, 2)
    files.chunk(0, 5, 0, b"three", 5)
    assert taken[-1].why == "larger than it said"
    for number in range(10, 10 + MOST + 1):
        offer(files, number, 1)
    assert taken[-1].why == "too many at once"
    files.gone(0)
    offer(files, 30, 1)
    assert [call[-1] for call in tox.made] == [RESUME, *[CANCEL] * 3, RESUME, CANCEL, *[RESUME] * MOST, CANCEL, RESUME]


def test_a_file_that_goes_out_ends_as_it_ended_for_the_person() -> None:
    tox = Calls()
    files = Files(tox, 10, lambda file: None)  # type: ignore[arg-type]

    def sent() -> Future[None]:
        return files.send(0, "ä" * 200, b"content")

    done = sent()
    assert len(tox.made[-1][-2]) <= 255
    files.asked(0, 7, 2, 3)
    assert tox.made[-1] == ("file_send_chunk", 0, 7, 2, b"nte", 3)
    assert not done.done()
    files.asked(0, 7, 7, 0)
    assert done.result(0) is None
    declined = sent()
    files.controlled(0, 7, CANCEL)
    with pytest.raises(Undeliverable):
        declined.result(0)
    lost = sent()
    files.gone(0)
    with pytest.raises(NotSent):
        lost.result(0)


# With Ann


@pytest.fixture
async def talk(tmp_path: Path) -> AsyncIterator[Talk]:
    folder = tmp_path / "platform"
    folder.mkdir()
    rig = ToxRig(folder)
    try:
        await rig.start()
        yield Talk(rig, tmp_path)
    finally:
        await rig.stop()


async def happens(rig: ToxRig, event: str, **more: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not any(more.items() <= one.items() for one in rig.of(event)):
            await rig.news()


async def bob_confirms(rig: Any) -> None:
    """Within as long as a Tox takes to confirm something."""
    since = len(rig._people.events)
    await rig.ask("say", friend=0, text="are you there?")
    await rig._people.happens(lambda event: (event["event"], event.get("friend")) == ("receipt", 0), since)


@system
async def test_what_only_toxcore_can_tell(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bot for all of it, since each takes ten seconds to be found."""
    rig: Any = talk.rig
    table = rig.table() | {"status": "at your service", "max_size": 5000}
    monkeypatch.setattr(rig, "table", lambda: table)
    async with talk.up() as stage:
        bot, ann = talk.channel(stage), await place(talk)
        await happens(rig, "name", text=BOT)
        await happens(rig, "status", text="at your service")
        # Actions go both ways, and the longest texts.
        await rig.ask("say", friend=rig._friend, text="waves", kind=1)
        await rig.until(lambda shown: any("waves" in one.text for one in shown))
        assert talk.said[-1].text == "*waves*"
        await bot.send(ann, Reply("/me bows"))
        await happens(rig, "message", text="bows", kind=1)
        longest = "x" * bot.limits.max_text
        await bot.send(ann, Reply(longest))
        await happens(rig, "message", text=longest)
        with pytest.raises(Undeliverable):
            await bot.send(ann, Reply("x" * 1373))
        await rig.meet()
        group = replace(ann, chat="g" + await group_id(talk))
        await bot.send(group, Reply(longest))
        await happens(rig, "group message", text=longest)
        await bot.send(group, Reply("see", (Attachment("file", "tea.txt", data=b"tea"),)))
        await happens(rig, "group message", text="see\n[file 'tea.txt']")
        # A file above the limit is refused, and told of.
        await rig.ask("file", friend=rig._friend, name="big.bin", content=base64.b64encode(bytes(5001)).decode())
        await happens(rig, "control", control=CANCEL)
        # What the core has not taken is not confirmed to the sender.
        release, reached, receive = asyncio.Event(), asyncio.Event(), stage.bot.pipeline._accept

        async def slowly(item: Any) -> Any:
            reached.set()
            await release.wait()
            return await receive(item)

        stage.bot.pipeline._accept = slowly  # type: ignore[method-assign,assignment]
        await stage.quiet(LIMIT)
        receipts = len(rig.of("receipt"))
        await rig.say("safe?")
        async with asyncio.timeout(LIMIT):
            await reached.wait()
        await bob_confirms(rig)
        await bob_confirms(rig)
        assert len(rig.of("receipt")) == receipts
        release.set()
        await rig.until(lambda shown: shown[-1].text == "echo safe?")
        # Who is not a friend any more cannot be written to, and who is offline not now.
        with pytest.raises(Undeliverable):
            await bot.send(replace(ann, chat=ANN), Reply("anybody there"))
        await rig.ask("remove", friend=rig._friend)
        async with asyncio.timeout(2 * LIMIT):
            while True:
                try:
                    await bot.send(ann, Reply("still there"))
                except NotSent:
                    break
                except Exception as error:
                    assert "confirmed" in str(error)


async def place(talk: Talk) -> Place:
    await talk.rig.say("hello")
    await talk.rig.answers(1)
    return talk.said[-1].place


async def group_id(talk: Talk) -> str:
    await talk.rig.say("hello there", "group", mention=True)
    await talk.rig.answers(1, "group")
    return talk.said[-1].place.chat[1:]
