"""What brokers other than Mosquitto do, by a small broker that is told what to do."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kit.listener import listening
from rigs.ear import Ear, running
from servers.inspircd import certificate

from roost.channels import mqtt
from roost.channels.mqtt import Mqtt, MqttConfig
from roost.errors import LoginFailed, NotSent, Undeliverable
from roost.values import Place, Reply

FIVE = 5
PLACE = Place("mqtt", "ann")


class Broker:
    """One client, and what it sends: `versions` it logs in with, `said` to topics, `open` of which wait for a PUBACK.

    `properties` are those of CONNACK, already written down; `suback` and `puback` are reason codes.
    """

    def __init__(
        self,
        old: bytes | None = None,
        properties: bytes = b"",
        suback: int = 1,
        puback: int = 0,
        echo: bool = False,
        takes: int = 1000,
    ) -> None:
        self.old, self.properties, self.suback, self.puback, self.echo = old, properties, suback, puback, echo
        self.takes = takes
        self.versions: list[int] = []
        self.said: list[tuple[str, bytes, int]] = []
        self.open: list[int] = []
        self.most = 0
        self.news = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        try:
            while await self._take(*await packet(reader), writer):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _take(self, kind: int, body: bytes, writer: asyncio.StreamWriter) -> bool:
        five = bool(self.versions) and self.versions[-1] == FIVE
        if kind >> 4 == 1:
            self.versions.append(body[6])
            if body[6] == FIVE and self.old is not None:
                writer.write(self.old)
                return False
            given = bytes([len(self.properties)]) + self.properties if body[6] == FIVE else b""
            writer.write(framed(0x20, b"\0\0" + given))
        elif kind >> 4 == 8:
            writer.write(framed(0x90, body[:2] + (b"\0" if five else b"") + bytes([self.suback])))
        elif kind >> 4 == 3:
            self._published(kind, body, five, writer)
        return kind >> 4 != 14

    def _published(self, kind: int, body: bytes, five: bool, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(body[:2], "big")
        topic, rest, qos = body[2 : 2 + size].decode(), body[2 + size :], kind >> 1 & 3
        number, rest = (int.from_bytes(rest[:2], "big"), rest[2:]) if qos else (0, rest)
        payload = rest[1 + rest[0] :] if five else rest
        self.said.append((topic, payload, qos))
        if self.echo:
            self.publish(topic, payload)
        if qos:
            self.open.append(number)
            self.most = max(self.most, len(self.open))
        if len(self.open) >= self.takes or len(self.said) >= self.takes:
            self.confirm(five, writer)
        self.news.set()

    def confirm(self, five: bool, writer: asyncio.StreamWriter) -> None:
        for number in self.open:
            told = bytes([self.puback]) if five and self.puback else b""
            writer.write(framed(0x40, number.to_bytes(2, "big") + told))
        self.open.clear()

    def publish(self, topic: str, payload: bytes) -> None:
        """To the bot, as 3.1.1 does."""
        self.writer.write(framed(0x30, len(topic).to_bytes(2, "big") + topic.encode() + payload))


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind, size, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(size)


def framed(kind: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([kind, len(body)]) + body


@pytest.fixture
def ear(tmp_path: Path) -> Ear:
    return Ear(tmp_path)


Made = Callable[..., Mqtt]


@pytest.fixture
def made(ear: Ear) -> Made:
    def make(port: int, **keys: Any) -> Mqtt:
        return Mqtt("mqtt", MqttConfig(**{"host": "127.0.0.1", "port": port, **keys}), ear)

    return make


@pytest.mark.parametrize(
    "refusal",
    [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b""],
    ids=["as 3.1.1 does", "as 5 does", "by closing"],
)
async def test_a_broker_that_knows_no_mqtt_5_is_spoken_to_in_3_1_1(refusal: bytes, ear: Ear, made: Made) -> None:
    broker = Broker(old=refusal, takes=1)
    async with listening(broker.serve) as port:
        channel = made(port)
        async with running(channel, ear):
            assert broker.versions == [5, 4]
            broker.publish("roost/ann/in", b"hello")
            await ear.until(lambda: ear.texts == ["hello"])
            await channel.send(PLACE, Reply("hi"))
            assert broker.said == [("roost/ann/out", b"hi", 1)]


async def test_a_cut_does_not_turn_a_broker_that_knows_mqtt_5_into_an_old_one(ear: Ear, made: Made) -> None:
    broker = Broker()
    async with listening(broker.serve) as port, running(made(port), ear):
        broker.old = b""  # from now on it closes, as one that is just starting does
        broker.writer.close()
        await ear.until(lambda: len(broker.versions) > 2)
        assert set(broker.versions) == {5}


async def test_a_broker_that_knows_neither_version_is_told_of_in_words(ear: Ear, made: Made) -> None:
    broker = Broker(old=b"\x20\x02\x00\x01")
    broker.serve = refusing  # type: ignore[method-assign]
    async with listening(broker.serve) as port:
        task = asyncio.create_task(made(port).run(ear.receive))
        await ear.until(lambda: ear.problem)
        assert ear.problem == "The broker closed the connection without an answer."
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await packet(reader)
    writer.close()


async def test_where_the_bot_speaks_on_the_topic_it_listens_on_its_own_words_are_no_message(
    ear: Ear, made: Made
) -> None:
    broker = Broker(old=b"", echo=True, takes=1)
    async with listening(broker.serve) as port:
        channel = made(port, listen="tea", speak="tea")
        async with running(channel, ear):
            await channel.send(Place("mqtt", "tea"), Reply("mine"))
            broker.publish("tea", b"mine")
            broker.publish("tea", b"yours")
            await ear.until(lambda: ear.texts[-1:] == ["yours"])
            assert ear.texts == ["mine", "yours"], "people may say what the bot said"


@pytest.mark.parametrize(("code", "raised"), [(0x87, Undeliverable), (0x97, NotSent)])
async def test_what_the_broker_does_not_take_is_not_called_sent(
    code: int, raised: type[Exception], ear: Ear, made: Made
) -> None:
    broker = Broker(puback=code, takes=1)
    async with listening(broker.serve) as port:
        channel = made(port)
        async with running(channel, ear):
            with pytest.raises(raised, match="'roost/ann/out'"):
                await channel.send(PLACE, Reply("hi"))


async def test_a_topic_that_the_bot_may_not_listen_on_stops_the_channel(ear: Ear, made: Made) -> None:
    async with listening(Broker(suback=0x87).serve) as port:
        with pytest.raises(LoginFailed, match=r"does not let the bot listen on 'roost/\+/in'"):
            await made(port).run(ear.receive)


async def test_a_topic_that_the_bot_cannot_listen_on_just_now_is_trouble(ear: Ear, made: Made) -> None:
    broker = Broker(old=b"", suback=0x80)
    async with listening(broker.serve) as port:
        task = asyncio.create_task(made(port).run(ear.receive))
        await ear.until(lambda: ear.problem)
        assert ear.problem.startswith("The broker does not let the bot listen on 'roost/+/in'")
        broker.suback = 1
        await ear.until(ear.up.is_set)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_no_more_is_on_its_way_than_the_broker_takes_at_once(ear: Ear, made: Made) -> None:
    broker = Broker(properties=b"\x21\x00\x02", takes=2)
    async with listening(broker.serve) as port:
        channel = made(port)
        async with running(channel, ear):
            await asyncio.gather(*(channel.send(PLACE, Reply(f"n{number}")) for number in range(10)))
            assert (len(broker.said), broker.most) == (10, 2)


async def test_a_broker_without_confirmations_is_not_asked_for_them(ear: Ear, made: Made) -> None:
    broker = Broker(properties=b"\x24\x00")
    async with listening(broker.serve) as port:
        channel = made(port)
        async with running(channel, ear):
            await channel.send(PLACE, Reply("hi"))
            await asyncio.wait_for(broker.news.wait(), 30)
            assert broker.said == [("roost/ann/out", b"hi", 0)]


async def test_an_answer_is_cut_to_what_the_broker_takes(ear: Ear, made: Made) -> None:
    broker = Broker(properties=b"\x27" + (2000).to_bytes(4, "big"), takes=1)
    async with listening(broker.serve) as port:
        channel = made(port)
        async with running(channel, ear):
            await channel.send(PLACE, Reply("x" * channel.limits.max_text))
            assert 1000 < channel.limits.max_text < 2000
            with pytest.raises(Undeliverable, match="no more than 2000 bytes"):
                await channel.send(PLACE, Reply("x" * 2000))
            assert len(broker.said) == 1


async def test_two_programs_with_one_client_id_are_told_of(
    ear: Ear, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    broker = Broker()
    async with listening(broker.serve) as port, running(made(port), ear):
        with caplog.at_level(logging.WARNING):
            broker.writer.write(framed(0xE0, b"\x8e\x00"))
            await ear.until(lambda: len(broker.versions) == 2)
    assert "Another program uses the broker with the client_id 'roost'" in caplog.text


async def test_two_programs_that_push_each_other_out_without_a_word_are_told_of(
    ear: Ear, made: Made, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mosquitto 2.0 closes the older connection, and gives no reason."""
    monkeypatch.setattr(mqtt, "pauses", lambda: itertools.repeat(0.0))
    broker = Broker()
    async with listening(broker.serve) as port, running(made(port), ear):
        with caplog.at_level(logging.WARNING):
            for times in range(2, 7):
                ear.up.clear()
                broker.writer.close()
                await ear.until(lambda times=times: len(broker.versions) == times and ear.up.is_set())
    told = [one.getMessage() for one in caplog.records]
    assert len(told) == 1 and "client_id 'roost'" in told[0]


async def test_a_broker_that_is_lost_once_in_a_while_is_no_second_program(
    ear: Ear, made: Made, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "pauses", lambda: itertools.repeat(0.0))
    monkeypatch.setattr(mqtt, "STEADY", 0.0)
    broker = Broker()
    async with listening(broker.serve) as port, running(made(port), ear):
        with caplog.at_level(logging.WARNING):
            for times in range(2, 7):
                ear.up.clear()
                broker.writer.close()
                await ear.until(lambda times=times: len(broker.versions) == times and ear.up.is_set())
    assert not caplog.records


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused socket open
async def test_a_broker_that_made_its_own_certificate_is_believed_when_it_is_named(
    ear: Ear, made: Made, tmp_path: Path
) -> None:
    certificate(tmp_path / "server", "localhost")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    broker = Broker()
    async with listening(broker.serve, context) as port:
        async with running(made(port, tls=True, ca=str(tmp_path / "server.pem")), ear):
            assert broker.versions == [FIVE]
        stranger = asyncio.create_task(made(port, tls=True).run(ear.receive))
        await ear.until(lambda: "'ca' in bot.toml: [channels.mqtt]" in ear.problem)
        stranger.cancel()
        await asyncio.gather(stranger, return_exceptions=True)
    gc.collect()


async def test_a_file_that_holds_no_certificates_stops_the_channel_with_a_sentence(
    ear: Ear, made: Made, tmp_path: Path
) -> None:
    (tmp_path / "odd.pem").write_text("nothing")
    for file in ("odd.pem", "nowhere.pem"):
        with pytest.raises(LoginFailed, match=f"{file}' cannot be read as certificates"):
            await made(1883, tls=True, ca=str(tmp_path / file)).run(ear.receive)
