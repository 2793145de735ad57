"""A small Tox network in one process: Debian's tox-bootstrapd as its relay, three nodes, and Ann and Bob.

Ann and Bob are clients written from tox.h of libtoxcore 0.2.18, with nothing of the channel's. Commands come as lines
of JSON on the standard input, what happens goes as lines of JSON to the standard output.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from ctypes import POINTER, byref, c_bool, c_char_p, c_int, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

HOME = "127.0.0.1"
NODES = 3
PROGRAM = "tox-bootstrapd"
CONFIG = """
port = {port}
keys_file_path = "{folder}/keys"
pid_file_path = "{folder}/pid"
enable_ipv6 = false
enable_ipv4_fallback = false
enable_lan_discovery = false
enable_tcp_relay = true
tcp_relay_ports = [{relay}]
enable_motd = false
"""
FAIL = 0xFFFF_FFFF
U32, Ptr, Err = c_uint32, c_void_p, POINTER(c_int)


def library() -> ctypes.CDLL:
    tox = ctypes.CDLL("libtoxcore.so.2")
    functions: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "options_new": (Ptr, (Err,)),
        "options_set_udp_enabled": (None, (Ptr, c_bool)),
        "options_set_ipv6_enabled": (None, (Ptr, c_bool)),
        "options_set_local_discovery_enabled": (None, (Ptr, c_bool)),
        "new": (Ptr, (Ptr, Err)),
        "iterate": (None, (Ptr, Ptr)),
        "bootstrap": (c_bool, (Ptr, c_char_p, c_uint16, c_char_p, Err)),
        "add_tcp_relay": (c_bool, (Ptr, c_char_p, c_uint16, c_char_p, Err)),
        "self_get_connection_status": (c_int, (Ptr,)),
        "self_get_address": (None, (Ptr, c_char_p)),
        "self_get_dht_id": (None, (Ptr, c_char_p)),
        "self_get_udp_port": (c_uint16, (Ptr, Err)),
        "self_set_name": (c_bool, (Ptr, c_char_p, c_size_t, Err)),
        "friend_add": (U32, (Ptr, c_char_p, c_char_p, c_size_t, Err)),
        "friend_add_norequest": (U32, (Ptr, c_char_p, Err)),
        "friend_delete": (c_bool, (Ptr, U32, Err)),
        "friend_get_connection_status": (c_int, (Ptr, U32, Err)),
        "friend_get_public_key": (c_bool, (Ptr, U32, c_char_p, Err)),
        "friend_send_message": (U32, (Ptr, U32, c_int, c_char_p, c_size_t, Err)),
        "friend_send_lossless_packet": (c_bool, (Ptr, U32, c_char_p, c_size_t, Err)),
        "friend_send_lossy_packet": (c_bool, (Ptr, U32, c_char_p, c_size_t, Err)),
        "file_send": (U32, (Ptr, U32, U32, c_uint64, c_char_p, c_char_p, c_size_t, Err)),
        "file_send_chunk": (c_bool, (Ptr, U32, U32, c_uint64, c_char_p, c_size_t, Err)),
        "file_control": (c_bool, (Ptr, U32, U32, c_int, Err)),
        "conference_new": (U32, (Ptr, Err)),
        "conference_delete": (c_bool, (Ptr, U32, Err)),
        "conference_invite": (c_bool, (Ptr, U32, U32, Err)),
        "conference_join": (U32, (Ptr, U32, c_char_p, c_size_t, Err)),
        "conference_peer_get_public_key": (c_bool, (Ptr, U32, U32, c_char_p, Err)),
        "conference_send_message": (c_bool, (Ptr, U32, c_int, c_char_p, c_size_t, Err)),
    }
    for name, (result, takes) in functions.items():
        function = getattr(tox, f"tox_{name}")
        function.restype, function.argtypes = result, takes
    tox.tox_options_free.argtypes = (Ptr,)
    return tox


TOX = library()
HEARD: dict[str, tuple[Any, ...]] = {
    "friend_request": (Ptr, Ptr, c_size_t),
    "friend_connection_status": (U32, c_int),
    "friend_message": (U32, c_int, Ptr, c_size_t),
    "friend_typing": (U32, c_bool),
    "friend_read_receipt": (U32, U32),
    "friend_name": (U32, Ptr, c_size_t),
    "friend_status_message": (U32, Ptr, c_size_t),
    "conference_invite": (U32, c_int, Ptr, c_size_t),
    "conference_message": (U32, U32, c_int, Ptr, c_size_t),
    "conference_peer_name": (U32, U32, Ptr, c_size_t),
    "file_recv": (U32, U32, U32, c_uint64, Ptr, c_size_t),
    "file_recv_chunk": (U32, U32, c_uint64, Ptr, c_size_t),
    "file_recv_control": (U32, U32, c_int),
    "file_chunk_request": (U32, U32, c_uint64, c_size_t),
}


def tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


class Node:
    """A Tox on this machine; with `udp` it makes the network, without it needs the relay."""

    def __init__(self, udp: bool) -> None:
        options = TOX.tox_options_new(None)
        TOX.tox_options_set_udp_enabled(options, udp)
        TOX.tox_options_set_ipv6_enabled(options, False)
        TOX.tox_options_set_local_discovery_enabled(options, False)
        error = c_int()
        self.tox = TOX.tox_new(options, byref(error))
        assert self.tox, f"tox_new: {error.value}"
        TOX.tox_options_free(options)
        self.port: int = TOX.tox_self_get_udp_port(self.tox, None) if udp else 0
        self.id = self.get("self_get_dht_id", 32)

    def get(self, name: str, size: int, *values: Any) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        getattr(TOX, f"tox_{name}")(self.tox, *values, buffer, *([None] if values else []))
        return buffer.raw

    def know(self, port: int, id: bytes) -> None:
        assert TOX.tox_bootstrap(self.tox, HOME.encode(), port, id, None)

    def online(self) -> bool:
        return bool(TOX.tox_self_get_connection_status(self.tox))

    def iterate(self) -> None:
        TOX.tox_iterate(self.tox, None)


class Person(Node):
    def __init__(self, name: str, relay: int, port: int, id: bytes) -> None:
        super().__init__(udp=False)
        self.name = name
        self.know(port, id)
        assert TOX.tox_add_tcp_relay(self.tox, HOME.encode(), relay, id, None)
        TOX.tox_self_set_name(self.tox, name.encode(), len(name), None)
        self.address = self.get("self_get_address", 38)
        self.waiting: deque[tuple[str, int, int, bytes]] = deque()
        self.unconfirmed: dict[tuple[int, int], tuple[str, int, int, bytes]] = {}
        self.going: dict[tuple[int, int], bytes] = {}
        self.coming: dict[tuple[int, int], bytearray] = {}
        self._callbacks = []
        for what, takes in HEARD.items():
            callback = ctypes.CFUNCTYPE(None, Ptr, *takes, Ptr)(self._safe(getattr(self, f"on_{what}", None), what))
            self._callbacks.append(callback)
            setter = getattr(TOX, f"tox_callback_{what}")
            setter.restype, setter.argtypes = None, (Ptr, Ptr)
            setter(self.tox, ctypes.cast(callback, Ptr))

    def _safe(self, function: Any, what: str) -> Any:
        def call(_tox: Any, *values: Any) -> None:
            if function is not None:
                function(*values[:-1])

        return call

    def tell(self, event: str, **more: Any) -> None:
        tell(event=event, who=self.name, **more)

    # What happens to this person

    def on_friend_request(self, key: Any, words: Any, size: int) -> None:
        TOX.tox_friend_add_norequest(self.tox, ctypes.string_at(key, 32), None)

    def on_friend_connection_status(self, friend: int, status: int) -> None:
        if not status:
            lost = sorted(key for key in self.unconfirmed if key[0] == friend)
            self.waiting.extendleft(self.unconfirmed.pop(key) for key in reversed(lost))
        self.tell("online", friend=friend, status=status)

    def on_friend_message(self, friend: int, kind: int, text: Any, size: int) -> None:
        self.tell("message", friend=friend, kind=kind, text=ctypes.string_at(text, size).decode())

    def on_friend_typing(self, friend: int, on: bool) -> None:
        self.tell("typing", friend=friend, on=on)

    def on_friend_read_receipt(self, friend: int, number: int) -> None:
        self.unconfirmed.pop((friend, number), None)
        self.tell("receipt", friend=friend, number=number)

    def on_friend_name(self, friend: int, name: Any, size: int) -> None:
        self.tell("name", friend=friend, text=ctypes.string_at(name, size).decode())

    def on_friend_status_message(self, friend: int, text: Any, size: int) -> None:
        self.tell("status", friend=friend, text=ctypes.string_at(text, size).decode())

    def on_conference_invite(self, friend: int, kind: int, cookie: Any, size: int) -> None:
        TOX.tox_conference_join(self.tox, friend, ctypes.string_at(cookie, size), size, None)

    def on_conference_message(self, group: int, peer: int, kind: int, text: Any, size: int) -> None:
        key = self.get("conference_peer_get_public_key", 32, group, peer).hex().upper()
        self.tell("group message", group=group, key=key, kind=kind, text=ctypes.string_at(text, size).decode())

    def on_conference_peer_name(self, group: int, peer: int, name: Any, size: int) -> None:
        key = self.get("conference_peer_get_public_key", 32, group, peer).hex().upper()
        self.tell("peer name", group=group, key=key, text=ctypes.string_at(name, size).decode())

    def on_file_recv(self, friend: int, number: int, kind: int, size: int, name: Any, length: int) -> None:
        self.coming[friend, number] = bytearray()
        self.tell("offer", friend=friend, number=number, name=ctypes.string_at(name, length).decode(), size=size)
        TOX.tox_file_control(self.tox, friend, number, 0, None)

    def on_file_recv_chunk(self, friend: int, number: int, position: int, data: Any, size: int) -> None:
        content = self.coming[friend, number]
        assert position == len(content)
        if size:
            content += ctypes.string_at(data, size)
        else:
            self.tell("file", friend=friend, content=base64.b64encode(content).decode())

    def on_file_recv_control(self, friend: int, number: int, control: int) -> None:
        self.tell("control", friend=friend, number=number, control=control)

    def on_file_chunk_request(self, friend: int, number: int, position: int, size: int) -> None:
        data = self.going[friend, number][position : position + size]
        if size:
            TOX.tox_file_send_chunk(self.tox, friend, number, position, data, len(data), None)
        else:
            self.tell("file sent", friend=friend, number=number)

    # What this person does

    def do_add(self, address: str, words: str = "hello") -> int:
        said, error = words.encode(), c_int()
        friend = TOX.tox_friend_add(self.tox, bytes.fromhex(address), said, len(said), byref(error))
        assert friend != FAIL, f"tox_friend_add: {error.value}"
        return int(friend)

    def do_remove(self, friend: int) -> None:
        self.waiting = deque(one for one in self.waiting if one[1] != friend)
        self.unconfirmed = {key: one for key, one in self.unconfirmed.items() if key[0] != friend}
        TOX.tox_friend_delete(self.tox, friend, None)

    def do_say(self, friend: int, text: str, kind: int = 0) -> None:
        self.waiting.append(("friend_send_message", friend, kind, text.encode()))
        self.flush()

    def do_say_in(self, group: int, text: str, kind: int = 0) -> None:
        self.waiting.append(("conference_send_message", group, kind, text.encode()))
        self.flush()

    def flush(self) -> None:
        """Hand toxcore what it takes, in order; the rest waits, and so what was lost, as in people's clients."""
        while self.waiting:
            call, to, kind, said = self.waiting[0]
            error = c_int()
            number = getattr(TOX, f"tox_{call}")(self.tox, to, kind, said, len(said), byref(error))
            if error.value:
                return
            one = self.waiting.popleft()
            if call == "friend_send_message":
                self.unconfirmed[to, number] = one

    def do_raw(self, friend: int, content: str, lossy: bool = False) -> bool:
        data = bytes.fromhex(content)
        call = TOX.tox_friend_send_lossy_packet if lossy else TOX.tox_friend_send_lossless_packet
        return bool(call(self.tox, friend, data, len(data), None))

    def do_raw_text(self, friend: int, content: str) -> None:
        self.waiting.append(("friend_send_message", friend, 0, bytes.fromhex(content)))
        self.flush()

    def do_file(self, friend: int, name: str, content: str, kind: int = 0, size: int = -1) -> int:
        data, called, error = base64.b64decode(content), name.encode(), c_int()
        total = len(data) if size < 0 else size
        number = TOX.tox_file_send(self.tox, friend, kind, total, None, called, len(called), byref(error))
        assert number != FAIL, f"tox_file_send: {error.value}"
        self.going[friend, number] = data
        return int(number)

    def do_group(self) -> int:
        group = TOX.tox_conference_new(self.tox, None)
        assert group != FAIL
        return int(group)

    def do_invite(self, group: int, friend: int) -> None:
        error = c_int()
        TOX.tox_conference_invite(self.tox, friend, group, byref(error))
        assert not error.value, f"tox_conference_invite: {error.value}"

    def do_leave(self, group: int) -> None:
        self.waiting = deque(one for one in self.waiting if one[0] != "conference_send_message")
        TOX.tox_conference_delete(self.tox, group, None)


def relay(folder: Path, port: int, tcp: int) -> tuple[subprocess.Popen[str], bytes]:
    """tox-bootstrapd, and its public key, which it writes to its log."""
    config = folder / "config"
    config.write_text(CONFIG.format(port=port, relay=tcp, folder=folder))
    program = subprocess.Popen(
        [PROGRAM, "--config", str(config), "--foreground", "--log-backend", "stdout"], stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    seen = []
    for line in program.stdout:
        seen.append(line)
        if found := re.search(r"Public Key: ([0-9A-F]{64})", line):
            threading.Thread(target=program.stdout.read, daemon=True).start()
            return program, bytes.fromhex(found[1])
    raise AssertionError("".join(seen))


def commands() -> queue.SimpleQueue[dict[str, Any] | None]:
    found: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            found.put(json.loads(line))
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    return found


def until(nodes: list[Node], condition: Any) -> None:
    latest = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < latest, "The Tox network did not come up."
        for node in nodes:
            node.iterate()
        time.sleep(0.005)


def main() -> None:
    port, tcp = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        program, key = relay(Path(folder), port, tcp)
        try:
            live(port, tcp, key)
        finally:
            program.kill()
            program.wait()


def live(port: int, tcp: int, key: bytes) -> None:
    asked = commands()
    nodes = [Node(udp=True) for _ in range(NODES)]
    for number, node in enumerate(nodes):
        node.know(port, key)
        node.know(nodes[number - 1].port, nodes[number - 1].id)
    people = {name: Person(name, tcp, port, key) for name in ("Ann", "Bob")}
    everybody = [*nodes, *people.values()]
    until(everybody, lambda: all(node.online() for node in everybody))
    people["Ann"].do_add(people["Bob"].address.hex())
    until(everybody, lambda: TOX.tox_friend_get_connection_status(people["Ann"].tox, 0, None))
    tell(event="up", key=key.hex().upper())
    while True:
        for node in everybody:
            node.iterate()
        for person in people.values():
            person.flush()
        with contextlib.suppress(queue.Empty):
            one = asked.get(timeout=0.005)
            while True:
                if one is None or os.getppid() == 1:
                    return
                obey(people, one)
                one = asked.get_nowait()


def obey(people: dict[str, Person], one: dict[str, Any]) -> None:
    try:
        result = getattr(people[one["who"]], f"do_{one['do']}")(**one["with"])
    except (AssertionError, TypeError, ValueError) as error:
        tell(event="answer", to=one["id"], error=str(error))
    else:
        tell(event="answer", to=one["id"], result=result)


if __name__ == "__main__":
    main()
