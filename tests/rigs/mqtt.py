"""Mosquitto, with Ann as another client of it; and Mosquitto as a broker that knows no MQTT 5 is."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

import aiomqtt
from kit.gate import CHUNK, Gate, Way
from kit.rig import LIMIT, Chat, Rig, Shown
from servers.apart import free_port


class OldGate(Gate):
    """Refuses MQTT 5 as brokers do that do not know it: section 3.1.2.2 of MQTT 3.1.1."""

    async def _up(self, way: Way, reader: asyncio.StreamReader) -> None:
        assert way.server is not None
        first = await reader.read(CHUNK)
        await self._open.wait()
        if first[4:9] == b"MQTT\5":
            way.client.write(b"\x20\x02\x00\x01")
            await way.client.drain()
            way.client.close()
            return
        way.server.write(first)
        await super()._up(way, reader)


class MqttRig(Rig):
    kind = "mqtt"
    written_by_others = True
    groups = False
    programs = (("mosquitto", "mosquitto"),)
    sending = b"roost/ann/out"
    door: ClassVar[type[Gate]] = Gate

    @property
    def server(self) -> str:
        told = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False).stdout
        return f"Mosquitto {told.split()[2]}"

    async def start(self) -> None:
        self._port = free_port()
        self.folder.chmod(0o755)
        passwords = self.folder / "passwords"
        for name in ("bot", "ann"):
            flags = ["-b"] if passwords.exists() else ["-c", "-b"]
            subprocess.run(["mosquitto_passwd", *flags, passwords, name, "secret"], check=True, capture_output=True)
        passwords.chmod(0o644)
        config = self.folder / "mosquitto.conf"
        config.write_text(
            f"listener {self._port} 127.0.0.1\npassword_file {passwords}\nallow_anonymous false\nuser root\n"
            "persistence false\nmax_queued_messages 5000\nmax_inflight_messages 100\n"
        )
        program = shutil.which("mosquitto") or "mosquitto"
        self._server = await asyncio.create_subprocess_exec(
            program, "-c", config, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        self.gate = await self.door("127.0.0.1", self._port).__aenter__()
        self._shown: list[Shown] = []
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._last = b""
        self._ann = asyncio.create_task(self._be_ann())
        async with asyncio.timeout(LIMIT):
            await self._ready.wait()

    async def stop(self) -> None:
        self._ann.cancel()
        await asyncio.gather(self._ann, return_exceptions=True)
        if self.gate is not None:
            await self.gate.__aexit__()
        self._server.terminate()
        await self._server.wait()

    async def _be_ann(self) -> None:
        while True:
            with suppress(aiomqtt.MqttError):
                async with aiomqtt.Client("127.0.0.1", self._port, username="ann", password="secret") as self._client:
                    await self._client.subscribe("roost/ann/out", qos=1)
                    self._ready.set()
                    async for message in self._client.messages:
                        self._take(bytes(message.payload))
            await asyncio.sleep(0.05)  # the broker is not up yet

    def _take(self, payload: bytes) -> None:
        self._shown.append(Shown(str(len(self._shown)), payload.decode(), raw=payload))
        self._news.set()

    async def news(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), 0.05)
        self._news.clear()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {"host": "127.0.0.1", "port": self.gate.port, "username": "bot", "password": "secret"}

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-password"}

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        id = uuid.uuid4().hex
        self._last = json.dumps({"id": id, "text": text, "name": "Ann"}).encode()
        await self._client.publish("roost/ann/in", self._last, qos=1)
        return id

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return self._shown

    async def again(self) -> None:
        await self._client.publish("roost/ann/in", self._last, qos=1)

    async def garbage(self) -> None:
        for payload in (b"", b" ", b"{}", b'{"text": 3}', b'{"text": null, "id": []}'):
            await self._client.publish("roost/ann/in", payload, qos=1)


class OldMqttRig(MqttRig):
    """What speaks no MQTT 5: amqtt, Aedes and Node-RED with it, Mosquitto before 1.6."""

    mode = "MQTT 3.1.1"
    door = OldGate
    burst = 200


RIG = MqttRig
MODES = (OldMqttRig,)
