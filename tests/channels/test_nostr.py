from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from nostr_sdk import (
    EventBuilder,
    Keys,
    Kind,
    LocalRelay,
    LocalRelayBuilder,
    LocalRelayBuilderNip42,
    LocalRelayBuilderNip42Mode,
    RateLimit,
    Tag,
    Timestamp,
    nip59_make_gift_wrap,
)
from rigs.nostr import wrap
from servers.apart import free_port

import roost.channels.nostr as nostr_module
import roost.channels.nostr_relay as relay_module
from roost.channels import nostr_seal as seal
from roost.channels.nostr import Nostr, check_relays, public, worst
from roost.channels.nostr_relay import Lost, Relay, first
from roost.errors import ConfigError, LoginFailed, MaybeSent, NotSent, Undeliverable
from roost.http import Http
from roost.values import Event, Message, Place, Reply, Sent

ANN, BOB, BOT = Keys.generate(), Keys.generate(), Keys.generate()
ME = BOT.public_key().to_hex()

# The example of NIP-17, which another implementation made.
RECEIVER = "nsec12ywtkplvyq5t6twdqwwygavp5lm4fhuang89c943nf2z92eez43szvn4dt"
EXAMPLE = json.loads((Path(__file__).parent / "nip17.json").read_text())


def npub(keys: Keys) -> str:
    return keys.public_key().to_bech32()


def rumor(
    text: str = "hello", kind: int = 14, tags: tuple[tuple[str, ...], ...] = (), author: Keys = ANN
) -> seal.Rumor:
    return seal.Rumor("id1", author.public_key().to_hex(), 100, kind, (("p", ME), *tags), text)


def read(one: seal.Rumor, **known: Any) -> Message:
    found = seal.read(one, "nostr", ME, "Roost", **known)
    assert isinstance(found, Message)
    return found


def gift(text: str, author: Keys = ANN, at: int = 0, to: Keys = BOT) -> dict[str, Any]:
    tags = [Tag.parse(["p", to.public_key().to_hex()])]
    builder = EventBuilder(Kind(14), text).tags(tags).custom_created_at(Timestamp.from_secs(at or int(time.time())))
    made = nip59_make_gift_wrap(author, to.public_key(), builder.finalize_unsigned(author.public_key()))
    found: dict[str, Any] = json.loads(made.as_json())
    return found


# What is read


def test_the_example_of_the_specification_is_opened() -> None:
    found = seal.opened(EXAMPLE, seal.keys_of(RECEIVER))
    assert (found.content, found.kind, found.at) == ("Hola, que tal?", 14, 1703172058)
    assert found.author == "44900586091b284416a0c001f677f9c49f7639a55c3f1e2ec130a8e1a7998e1b"


def test_nobody_speaks_for_somebody_else_and_nobody_chooses_an_id() -> None:
    bare = json.loads(EventBuilder(Kind(14), "I am Ann").finalize_unsigned(ANN.public_key()).as_json())
    with pytest.raises(ValueError, match="mismatch"):
        seal.opened(wrap(json.dumps(bare), BOB, BOT.public_key()), BOT)
    forged = seal.opened(wrap(json.dumps({**bare, "id": "00" * 32}), ANN, BOT.public_key()), BOT)
    assert forged.id != "00" * 32
    assert forged.id == seal.opened(wrap(json.dumps(bare), ANN, BOT.public_key()), BOT).id


def test_a_clock_far_ahead_makes_no_time_that_has_no_date() -> None:
    now = int(time.time())
    assert seal.opened(gift("soon", at=now + 300), BOT).at == now + 300
    assert now <= seal.opened(gift("in another age", at=10**18), BOT).at <= now + 2 * 86400


def test_an_old_message_must_be_signed() -> None:
    event = seal.written_old(ME, Reply("old words"), ANN)
    assert seal.opened(event, BOT).content == "old words"
    with pytest.raises(ValueError, match="signature"):
        seal.opened({**event, "pubkey": BOB.public_key().to_hex()}, BOT)


def test_two_people_are_a_direct_chat_and_more_are_a_group() -> None:
    direct = read(rumor())
    assert (direct.place.chat, direct.place.kind, direct.addressed) == (npub(ANN), "direct", True)
    group = read(rumor(tags=(("p", BOB.public_key().to_hex()),)))
    assert (group.place.kind, group.addressed) == ("group", False)
    assert Place.parse(str(group.place)) == group.place
    assert set(seal.members(group.place)) == {ANN.public_key().to_hex(), BOB.public_key().to_hex()}
    with pytest.raises(ValueError, match="public key"):
        seal.members(Place("nostr", "nobody"))


def test_in_a_group_the_name_the_key_or_a_reply_means_the_bot() -> None:
    tags = (("p", BOB.public_key().to_hex()),)
    for text in (f"nostr:{npub(BOT)} hi", f"@{npub(BOT)}: hi", "Roost, hi", "@roost hi"):
        assert (read(rumor(text, tags=tags)).text, read(rumor(text, tags=tags)).addressed) == ("hi", True)
    assert read(rumor(f"ask nostr:{npub(BOT)}", tags=tags)).addressed
    assert not read(rumor(f"ask nostr:{npub(BOB)}", tags=tags)).addressed
    assert not read(rumor("roosters crow", tags=tags)).addressed
    answer = rumor("why", tags=(*tags, ("e", "mine")))
    assert read(answer, own={"mine"}).addressed and not read(answer, own={"another"}).addressed
    assert read(answer).quote is not None


@given(st.text(min_size=1))
def test_a_text_without_a_mention_stays_as_it_is(text: str) -> None:
    if "roost" not in text.lower() and "npub1" not in text.lower():
        assert seal.without_mention(text, npub(BOT), "Roost") == (text, False)


def test_what_is_no_message() -> None:
    file = rumor("https://files.example.org/x", 15, (("file-type", "image/png"),))
    assert read(file).text == "[file image/png https://files.example.org/x]"
    liked = seal.read(rumor("+", 7, (("e", "m1"),)), "nostr", ME, "Roost")
    assert isinstance(liked, Event) and (liked.kind, liked.value, liked.message_id) == ("reacted", "👍", "m1")
    gone = seal.read(rumor("", 5, (("e", "m1"),)), "nostr", ME, "Roost")
    assert isinstance(gone, Event) and gone.kind == "deleted"
    assert seal.read(rumor("x", 30000), "nostr", ME, "Roost") is None
    assert seal.read(rumor("me", author=BOT), "nostr", ME, "Roost") is None


def test_the_newest_list_of_relays_counts_and_only_when_it_is_signed() -> None:
    def listed(url: str, at: int) -> dict[str, Any]:
        builder = EventBuilder(Kind(10050), "").tags([Tag.parse(["relay", url])])
        made: dict[str, Any] = json.loads(builder.custom_created_at(Timestamp.from_secs(at)).finalize(ANN).as_json())
        return made

    ann = ANN.public_key().to_hex()
    lists = [listed("wss://new.example.org", 2), listed("wss://old.example.org", 1)]
    assert seal.inboxes(lists, ann) == ("wss://new.example.org",)
    assert seal.inboxes([{**lists[0], "created_at": 3}], ann) == ()
    assert seal.inboxes(lists, ME) == ()


@pytest.mark.parametrize(
    "url", ["ws://relay.example.org", "wss://127.0.0.1", "wss://[::1]", "wss://localhost", "wss://"]
)
def test_a_stranger_cannot_have_the_bot_connect_to_this_machine(url: str) -> None:
    assert not public(url)
    assert public("wss://relay.example.org")


def test_the_error_is_the_one_that_can_be_mended() -> None:
    maybe, later, never = MaybeSent("m"), NotSent("n"), Undeliverable("u")
    assert worst([never, later, maybe]) is maybe
    assert worst([never, later]) is later
    assert worst([never]) is never


@pytest.mark.parametrize("relays", [[], ["relay.example.org"], ["https://relay.example.org"]])
def test_an_address_that_is_none_is_refused(relays: list[str]) -> None:
    with pytest.raises(ConfigError, match="relay"):
        check_relays(relays, "nostr")


# The channel on relays in this process. They are the SDK's own, whose cryptography the channel uses as well.


class Home:
    """What the core offers a channel."""

    bot_name = "Roost"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.up = asyncio.Event()

    def pulse(self) -> None:
        self.up.set()

    def trouble(self, why: str) -> None: ...


def channel(home: Path, *urls: str, key: Keys | None = BOT) -> Nostr:
    secret = key.secret_key().to_bech32() if key else ""
    return Nostr("nostr", Nostr.Config(relays=list(urls), secret_key=secret), Home(home))  # type: ignore[arg-type]


@asynccontextmanager
async def listening(one: Nostr) -> AsyncIterator[asyncio.Queue[Any]]:
    came: asyncio.Queue[Any] = asyncio.Queue()

    async def receive(item: Any) -> bool:
        await came.put(item)
        return True

    task = asyncio.create_task(one.run(receive))
    try:
        async with asyncio.timeout(30):
            yield came
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def local(builder: LocalRelayBuilder | None = None) -> AsyncIterator[tuple[LocalRelay, str]]:
    made = (builder or LocalRelayBuilder()).rate_limit(RateLimit(max_reqs=500, notes_per_minute=100_000)).build()
    await made.run()
    try:
        yield made, str(await made.url()).rstrip("/")
    finally:
        made.shutdown()


@asynccontextmanager
async def client(url: str, key: Keys = ANN) -> AsyncIterator[Relay]:
    """A connection for Ann."""
    relay = Relay(url, lambda challenge, at: seal.login(challenge, at, key))
    http = Http("Nostr")
    async with http.open(), relay.open(http):
        yield relay


async def test_a_message_by_two_relays_has_one_key_and_the_answer_goes_to_both(tmp_path: Path) -> None:
    async with local() as (_, one), local() as (_, two):
        bot = channel(tmp_path, one, two)
        event = gift("hello")
        async with listening(bot) as came, client(one) as first_relay, client(two) as second_relay:
            await first_relay.publish(event)
            await second_relay.publish(event)
            message = await came.get()
            await second_relay.publish(gift("next"))
            assert (await came.get()).text == "next", "the same wrap is not even handed over twice"
            sent = await bot.send(message.place, Reply("answer"))
            for relay in (first_relay, second_relay):
                (found,) = await relay.query([{"kinds": [1059], "#p": [ANN.public_key().to_hex()]}])
                assert (seal.opened(found, ANN).content, seal.opened(found, ANN).id) == ("answer", sent.ids[0])


async def test_one_relay_that_takes_it_is_enough_and_none_is_not_sent(tmp_path: Path) -> None:
    async with local() as (_, up):
        bot = channel(tmp_path, up, "ws://127.0.0.1:9")
        async with listening(bot) as came, client(up) as relay:
            await relay.publish(gift("hello"))
            message = await came.get()
            assert (await bot.send(message.place, Reply("answer"))).ids
    lonely = channel(tmp_path, "ws://127.0.0.1:9")
    async with listening(lonely):
        with pytest.raises(NotSent):
            await lonely.send(message.place, Reply("answer"))


async def test_a_second_try_is_the_same_message(tmp_path: Path) -> None:
    place = Place("nostr", npub(ANN))
    async with local() as (_, url), client(url) as relay:
        sent: list[Sent] = []
        for later in (0, 100):
            bot = channel(tmp_path, url)
            bot._last[place] = int(time.time()) + later
            async with listening(bot):
                await bot.host.up.wait()  # type: ignore[attr-defined]
                sent += [
                    await bot.send(place, Reply("answer", key="k1")),
                    await bot.send(place, Reply("more", key="k2")),
                ]
        assert sent[:2] == sent[2:]
        found = await relay.query([{"kinds": [1059], "#p": [ANN.public_key().to_hex()]}])
        rumors = [seal.opened(one, ANN) for one in found]
        assert len({one.id for one in rumors}) == 2
        assert len({one.at for one in rumors}) == 2, "and their times tell their order"


async def test_a_relay_that_wants_a_login_gets_one(tmp_path: Path) -> None:
    login = LocalRelayBuilder().nip42(LocalRelayBuilderNip42(mode=LocalRelayBuilderNip42Mode.BOTH))
    async with local(login) as (_, url):
        bot = channel(tmp_path, url)
        async with listening(bot) as came, client(url) as relay:
            await relay.publish(gift("hello"))
            message = await came.get()
            assert (await bot.send(message.place, Reply("answer"))).ids


@asynccontextmanager
async def scripted(serve: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """A relay that does what it is told; the address of it."""

    async def accept(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await serve(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", accept)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port := free_port()).start()
        yield f"ws://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_a_relay_may_ask_for_the_login_again_before_it_has_one() -> None:
    """One that asks with every question that it does not answer sends several challenges, and the last one counts."""
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))

    async def serve(socket: web.WebSocketResponse) -> None:
        for challenge in ("first", "second"):
            await socket.send_json(["AUTH", challenge])
        known = 0
        async for frame in socket:
            kind, event = json.loads(frame.data)
            if kind == "AUTH":
                known += 1
                done = ["challenge", "second"] in event["tags"]
                await socket.send_json(["OK", event["id"], done, "" if done else "auth-required: the other one"])
            else:
                await socket.send_json(["OK", event["id"], known == 2, "" if known == 2 else "auth-required: not yet"])

    async with scripted(serve) as url, client(url) as relay:
        await relay.publish(gift("hello"))
        await asyncio.gather(*relay._tasks)
    gc.collect()
    assert not failed


def no_end(*said: list[Any]) -> Callable[[web.WebSocketResponse], Awaitable[None]]:
    """A relay that says this to every question, `%` being its name, takes every event, and never says EOSE."""

    async def serve(socket: web.WebSocketResponse) -> None:
        async for frame in socket:
            kind, what, *_ = json.loads(frame.data)
            for kind_of_answer, *rest in said if kind == "REQ" else ():
                await socket.send_json([kind_of_answer, what, *rest])
            if kind == "EVENT":
                await socket.send_json(["OK", what["id"], True, ""])

    return serve


async def test_a_relay_that_never_says_that_it_was_all_is_read_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "ANSWER", 0.2)
    async with scripted(no_end(["EVENT", gift("hello", at=int(time.time()))])) as url:
        async with client(url) as relay:
            assert len(await relay.query([{"kinds": [seal.WRAP]}])) == 1
        async with listening(channel(tmp_path, url)) as came:
            assert (await came.get()).text == "hello"


async def test_a_relay_that_closes_the_subscription_and_wants_no_login_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relay_module, "ANSWER", 0.2)
    async with scripted(no_end(["CLOSED", "auth-required: login"])) as url, client(url) as relay:
        with pytest.raises(Lost, match="does not answer"):
            await relay.query([{"kinds": [seal.WRAP]}])


async def test_a_relay_that_does_not_know_who_reads_where_holds_no_answer_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nostr_module, "LIST_WAIT", 0.05)
    monkeypatch.setattr(relay_module, "ANSWER", 3600.0)
    async with local() as (_, url), scripted(no_end()) as mute, client(url) as ann:
        bot = channel(tmp_path, url, mute)
        async with listening(bot) as came:
            await ann.publish(gift("hello", at=int(time.time())))
            message = await came.get()
            assert (await bot.send(message.place, Reply("answer"))).ids


async def test_more_than_a_relay_gives_at_once_arrives_all_and_in_order(tmp_path: Path) -> None:
    now = int(time.time())
    async with local(LocalRelayBuilder().default_filter_limit(7).max_filter_limit(7)) as (_, url):
        async with client(url) as relay:
            for number in range(30):
                await relay.publish(gift(str(number), at=now + number))
        async with listening(channel(tmp_path, url)) as came:
            assert [(await came.get()).text for _ in range(30)] == [str(number) for number in range(30)]


async def test_an_old_message_is_answered_the_old_way(tmp_path: Path) -> None:
    async with local() as (_, url):
        bot = channel(tmp_path, url)
        async with listening(bot) as came, client(url) as relay:
            await relay.publish(seal.written_old(ME, Reply("hello"), ANN))
            message = await came.get()
            for _ in range(2):
                await bot.send(message.place, Reply("answer", ticket=message.ticket, key="k1"))
            (found,) = await relay.query([{"kinds": [4], "#p": [ANN.public_key().to_hex()]}])
            assert seal.opened(found, ANN).content == "answer"


async def test_the_profile_and_the_list_of_relays_are_published_once(tmp_path: Path) -> None:
    async with local() as (_, url), client(url) as relay:
        times: list[list[Any]] = []
        for _ in range(2):
            bot = channel(tmp_path, url)
            async with listening(bot) as came:
                while not bot._told.get(url):
                    await asyncio.sleep(0.01)
                await relay.publish(gift("hello"))
                await came.get()
            times.append(await relay.query([{"kinds": [0, 10050], "authors": [ME]}]))
        assert times[0] == times[1] and len(times[0]) == 2
        assert seal.inboxes(times[0], ME) == (url,)


async def test_a_key_is_made_up_kept_for_its_owner_and_used_again(tmp_path: Path) -> None:
    first_time, second_time = (channel(tmp_path, "ws://127.0.0.1:9", key=None) for _ in range(2))
    assert first_time._me == second_time._me
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "secret_key").write_text("spoilt")
    with pytest.raises(LoginFailed, match="secret_key"):
        channel(tmp_path, "ws://127.0.0.1:9", key=None)._identity()


async def test_messages_from_before_the_bot_got_a_known_key_are_not_answered(tmp_path: Path) -> None:
    async with local() as (_, url):
        async with client(url) as relay:
            await relay.publish(gift("long ago", at=int(time.time()) - 3600))
            await relay.publish(gift("just now"))
        async with listening(channel(tmp_path, url)) as came:
            assert (await came.get()).text == "just now"


async def test_what_could_not_be_stored_comes_again(tmp_path: Path) -> None:
    now = int(time.time())
    async with local() as (_, url), client(url) as relay:
        for number in range(3):
            await relay.publish(gift(str(number), at=now + number))
        bot = channel(tmp_path, url)
        tries: list[str] = []

        async def full(item: Any) -> bool:
            tries.append(item.text)
            if item.text == "1":
                raise OSError("The disk is full.")
            return True

        with pytest.raises(OSError, match="full"):
            await asyncio.wait_for(bot.run(full), 30)
        assert tries == ["0", "1"]
        async with listening(bot) as came:
            assert [(await came.get()).text for _ in range(2)] == ["1", "2"]


async def test_a_relay_that_falls_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection, and never answers a ping."""

    async def silent(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/", silent)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    monkeypatch.setattr(relay_module, "ANSWER", 0.2)
    relay = Relay(f"ws://127.0.0.1:{port}", lambda challenge, url: {}, ping=0.01)
    http = Http("Nostr")
    try:
        async with http.open(), relay.open(http) as reading:
            with pytest.raises(Lost, match="silent"):
                await asyncio.wait_for(reading, 30)
        async with http.open():
            relay = Relay(f"ws://127.0.0.1:{port}", lambda challenge, url: {}, ping=30)
            async with relay.open(http):
                with pytest.raises(MaybeSent):
                    await relay.publish(gift("hello"))
                with pytest.raises(Lost):
                    await relay.query([{"kinds": [0]}])
        with pytest.raises(NotSent):
            await relay.publish(gift("hello"))
    finally:
        await runner.cleanup()


async def test_several_works_end_with_the_first() -> None:
    async def fail() -> None:
        raise Lost("gone")

    with pytest.raises(Lost):
        await first(asyncio.sleep(3600), fail())


@given(st.sampled_from(['"', "\n", "\\", "x", "🦉"]))
def test_the_longest_text_fits_into_what_relays_take(letter: str) -> None:
    text = letter * (Nostr.limits.max_text // len(letter.encode()))
    one = seal.rumor(14, text, [["p", ANN.public_key().to_hex()]], 1, BOT)
    assert len(json.dumps(["EVENT", seal.wrapped(one, ANN.public_key().to_hex(), BOT)])) < 65536
