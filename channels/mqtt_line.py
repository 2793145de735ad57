"""A connection to a broker, by aiomqtt. Section numbers are those of MQTT 5.

https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, NamedTuple

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessage
from paho.mqtt.properties import Properties

from roost.errors import NotSent, Undeliverable

# paho says at this logger what is raised anyway.
logging.getLogger("mqtt").setLevel(logging.CRITICAL)

FIVE, OLD = aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311
UNSUPPORTED = 0x84  # the reason code of CONNACK that means the version; paho gives it for 3.1.1's 1 as well
TAKEN_OVER = 0x8E
ATONCE = 20  # messages on their way to the broker, unless it says that it takes fewer
ROOM = 100  # bytes of a PUBLISH packet beside its topic and its payload
# Reason codes of PUBACK that no second try mends: section 3.4.2.1.
UNWANTED = {0x87, 0x90, 0x99}


class Stored(NamedTuple):
    """One message of the broker; `number` is its packet identifier, which a second delivery repeats."""

    topic: str
    payload: bytes
    number: int
    again: bool
    qos: int
    retained: bool
    properties: Any


class Silent(aiomqtt.MqttError):
    """The broker closed the connection instead of answering CONNECT."""


def number(code: Any) -> int:
    """A reason code as the number that it is."""
    return int(getattr(code, "value", code) or 0)


def older(error: aiomqtt.MqttError) -> bool:
    """Whether a broker that knows no MQTT 5 would refuse it like this."""
    return isinstance(error, Silent) or (isinstance(error, MqttConnectError) and number(error.rc) == UNSUPPORTED)


class Line(aiomqtt.Client):
    """A connection that acknowledges a message when it is told to, not when it has arrived.

    `largest` is the size in bytes of the largest packet that the broker takes, 0 where it does not say.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.version = options["protocol"]
        self.stored: asyncio.Queue[Stored] = asyncio.Queue()
        self.largest = 0
        self._qos = 2
        self._room = asyncio.Semaphore(ATONCE)
        self._outcomes: dict[int, asyncio.Future[Any]] = {}
        self._client.manual_ack_set(True)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        """Note what the broker does not take: section 3.2.2.3."""
        self.largest = getattr(properties, "MaximumPacketSize", 0)
        self._qos = getattr(properties, "MaximumQoS", 2)
        self._room = asyncio.Semaphore(min(ATONCE, getattr(properties, "ReceiveMaximum", ATONCE)))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():
            self._connected.set_exception(Silent("The broker closed the connection without an answer"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_message(self, client: Any, userdata: Any, message: MQTTMessage) -> None:
        self.stored.put_nowait(
            Stored(
                message.topic,
                bytes(message.payload),
                message.mid,
                message.dup,
                message.qos,
                message.retain,
                message.properties,
            )
        )

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        outcome = self._outcomes.get(mid)
        if outcome is not None and not outcome.done():
            outcome.set_result(reason_code)

    def acknowledge(self, message: Stored) -> None:
        self._client.ack(message.number, message.qos)

    async def next(self) -> Stored:
        """The next message. Raises MqttError when the connection is lost."""
        found: Stored = await self._while_connected(self.stored.get())
        return found

    async def say(self, topic: str, payload: bytes, qos: int, properties: Properties) -> None:
        """Publish, and wait until the broker confirms.

        Raises MqttError as soon as it cannot any more; NotSent or Undeliverable when the broker does not want it.
        """
        if self.largest and len(payload) + len(topic.encode()) + ROOM > self.largest:
            raise Undeliverable(f"The broker takes no more than {self.largest} bytes at once.")
        async with self._room:
            code = await self._while_connected(self._published(topic, payload, min(qos, self._qos), properties))
        if number(code) in UNWANTED:
            raise Undeliverable(f"The broker does not take a message on '{topic}': {code}.")
        if number(code) >= 0x80:
            raise NotSent(f"The broker takes no message on '{topic}' now: {code}.")

    async def _published(self, topic: str, payload: bytes, qos: int, properties: Properties) -> Any:
        """The reason code that the broker gives; 0 where it gives none."""
        told = self._client.publish(topic, payload, qos, properties=properties)
        if told.rc != MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(told.rc, "Could not publish message")
        if told.is_published():
            return 0
        outcome = self._outcomes[told.mid] = asyncio.get_running_loop().create_future()
        try:
            return await self._wait_for(outcome, timeout=None)
        finally:
            del self._outcomes[told.mid]

    async def _while_connected(self, work: Coroutine[Any, Any, Any]) -> Any:
        doing = asyncio.ensure_future(work)
        try:
            await asyncio.wait([doing, self._disconnected], return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise aiomqtt.MqttError("The connection is lost.") from self._disconnected.exception()
        finally:
            doing.cancel()
