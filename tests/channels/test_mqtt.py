from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiomqtt
import pytest
from kit.talk import Talk
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rigs.mqtt import MqttRig

from roost.channels.mqtt import Mqtt, Stored, pattern, read, target, ticket, write
from roost.errors import ConfigError
from roost.media import Media
from roost.values import Reply

pytestmark = [pytest.mark.system("mosquitto", "mosquitto")]


def stored(payload: bytes, topic: str = "roost/ann/in", **fields: Any) -> Stored:
    return Stored(topic, payload, 1, False, 1, False, SimpleNamespace(**fields))


@pytest.mark.parametrize(
    ("listen", "topic", "chat"),
    [
        ("roost/{chat}/in", "roost/ann/in", "ann"),
        ("roost/{chat}/in", "roost/ann/b/in", None),
        ("home/+/say", "home/kitchen/say", ""),
        ("home/#", "home/kitchen/say", ""),
    ],
)
def test_the_chat_is_one_level_of_the_topic(listen: str, topic: str, chat: str | None) -> None:
    found = pattern(listen, "mqtt").fullmatch(topic)
    assert (found and found.groupdict().get("chat", "")) == chat


@pytest.mark.parametrize("listen", ["", "roost/x{chat}", "{chat}/{chat}"])
def test_a_topic_that_cannot_be_listened_to_is_refused(listen: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        pattern(listen, "mqtt")


def test_a_text_and_an_object_are_messages(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    plain = read(stored("grüß dich".encode()), "mqtt", "ann", "k1", media)
    assert (plain.text, plain.id, str(plain.sender), str(plain.place)) == ("grüß dich", "k1", "mqtt:ann", "mqtt:ann")
    rich = read(stored(b'{"text": "hi", "id": "m1", "person": "bob", "name": "Bob"}'), "mqtt", "ann", "k1", media)
    assert (rich.text, rich.identity, str(rich.sender), rich.sender.name) == ("hi", "m1", "mqtt:bob", "Bob")
    number = read(stored(b"21.5"), "mqtt", "ann", "k1", media)
    assert number.text == "21.5"


async def test_bytes_that_are_no_text_are_a_file(tmp_path: Path) -> None:
    media = Media(tmp_path / "media")
    message = read(stored(b"\xff\x00\xfe"), "mqtt", "ann", "k1", media)
    (attachment,) = message.attachments
    assert b"".join([chunk async for chunk in media.read(attachment.ref)]) == b"\xff\x00\xfe"


def test_a_sender_that_names_where_to_answer_is_answered_there() -> None:
    kept = ticket(SimpleNamespace(ResponseTopic="ann/answers", CorrelationData=b"\x00\xff"))
    topic, properties = target(kept, "elsewhere")
    assert (topic, properties.CorrelationData) == ("ann/answers", b"\x00\xff")
    assert target(ticket(SimpleNamespace()), "elsewhere")[0] == "elsewhere"
    assert base64.b64encode(b"\x00\xff").decode() in kept


def test_a_reply_is_plain_text_or_an_object() -> None:
    reply = Reply("**hi** [a](https://b.c)", quote="m1")
    assert write(reply, "k", "text") == b"hi a (https://b.c)"
    assert json.loads(write(reply, "k", "json")) == {"id": "k", "text": reply.text, "quote": "m1"}


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[MqttRig]:
    folder = tmp_path / "platform"
    folder.mkdir()
    one = MqttRig(folder)
    await one.start()
    yield one
    await one.stop()


async def test_what_the_broker_keeps_for_newcomers_is_no_message(rig: MqttRig, tmp_path: Path) -> None:
    await rig._client.publish("roost/ann/in", b"said long ago", qos=1, retain=True)
    talk = Talk(rig, tmp_path)
    async with talk.up():
        await rig.say("now")
        await rig.answers(1)
        assert [message.text for message in talk.said] == ["now"]


async def test_a_request_is_answered_where_it_says(rig: MqttRig, tmp_path: Path) -> None:
    async with Talk(rig, tmp_path).up():
        await rig._client.subscribe("roost/ann/out/aside", qos=1)
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic, properties.CorrelationData = "roost/ann/out/aside", b"7"
        async with aiomqtt.Client(
            "127.0.0.1", rig._port, username="ann", password="secret", protocol=aiomqtt.ProtocolVersion.V5
        ) as five:
            await five.subscribe("roost/ann/out/aside", qos=1)
            await five.publish("roost/ann/in", b"quietly", qos=1, properties=properties)
            answer = await anext(aiter(five.messages))
            assert (answer.payload, answer.properties.CorrelationData) == (b"echo quietly", b"7")


async def test_a_message_that_comes_again_with_its_number_has_the_same_name(rig: MqttRig, tmp_path: Path) -> None:
    channel = Mqtt("mqtt", Mqtt.Config(host="x"), SimpleNamespace(home=tmp_path))  # type: ignore[arg-type]
    first = stored(b"hi")
    key = channel._key(first)
    restarted = Mqtt("mqtt", Mqtt.Config(host="x"), SimpleNamespace(home=tmp_path))  # type: ignore[arg-type]
    assert restarted._key(first._replace(again=True)) == key
    assert restarted._key(first) != key, "a number is used again for another message"
    assert restarted._key(first._replace(again=True, payload=b"ho")) != key
