"""The thread that owns a Tox: it runs toxcore, makes the calls that others hand over, and tells what comes in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from roost.channels.tox_core import (
    ADDRESS,
    FULL,
    GROUP,
    KEY,
    NAME_LENGTH,
    NO_FRIEND,
    NONE,
    STATUS_LENGTH,
    Failed,
    Tox,
    content,
    decoded,
)
from roost.channels.tox_files import File, Files
from roost.errors import ChannelError, MaybeSent, NotSent, Undeliverable

log = logging.getLogger(__name__)

T = TypeVar("T")
LOOK = 0.01  # seconds between two looks while something is going on; toxcore's own are up to 0.05
LIVELY = 2.0  # seconds after the last thing that was going on
ACCEPT = 10.0  # seconds that toxcore waits for a message to be safe
AGAIN = 30.0  # seconds offline after which the first nodes are asked again
KEEP = 600.0  # seconds between two times that known nodes are written


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the network that is known beforehand."""

    host: str
    port: int
    key: bytes


@dataclass(frozen=True, slots=True)
class Heard:
    """A message. `key` and `name` are the sender's, `group` the conference's id, all but the name in hexadecimal."""

    key: str
    name: str
    text: str
    action: bool = False
    group: str = ""
    file: File | None = None


Take = Callable[[Heard], Coroutine[Any, Any, Any]]
Welcome = Callable[[str, str], bool]
"""Whether who has this public key, and asks with these words, becomes a friend."""


def keep(path: Path, data: bytes) -> None:
    """Write a secret file, whole or not at all, and on the disk when this returns."""
    fresh = path.with_name(path.name + ".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


class Link:
    """Use `start`, then `call` from the event loop, and `stop`. `take`, `online` and `offline` run in the loop."""

    def __init__(
        self,
        make: Callable[[bytes], Tox],
        path: Path,
        nodes: Sequence[Node],
        relays: Sequence[Node],
        largest: int,
        take: Take,
        welcome: Welcome,
        online: Callable[[], None],
        offline: Callable[[], None],
    ) -> None:
        self._make, self._path, self._nodes, self._relays = make, path, nodes, relays
        self._largest, self._take, self._welcome = largest, take, welcome
        self._online, self._offline = online, offline
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stopping = self._gone = False
        self._lively = 0.0
        self._receipts: dict[tuple[int, int], Future[None]] = {}
        self.files: Files | None = None
        self._thread = threading.Thread(target=self._own, name="tox", daemon=True)
        self.ended: asyncio.Future[None] = self._loop.create_future()

    # For the event loop

    def start(self) -> None:
        self._thread.start()

    async def call(self, function: Callable[[], T]) -> T:
        """Have the thread call something. Raises NotSent when it has ended."""
        if self._stopping or self.ended.done():
            raise NotSent("The channel is not connected to Tox.")
        done: Future[T] = Future()

        def run() -> None:
            if done.set_running_or_notify_cancel():
                try:
                    if self._gone:
                        raise NotSent("The channel is not connected to Tox.")
                    done.set_result(function())
                except BaseException as error:
                    done.set_exception(error)

        self._calls.put(run)
        return await asyncio.wrap_future(done)

    def post(self, function: Callable[[], object]) -> None:
        """Have the thread call something, whatever becomes of it."""

        def run() -> None:
            with contextlib.suppress(ChannelError):
                if not self._gone:
                    function()

        if not (self._stopping or self._gone):
            self._calls.put(run)

    async def stop(self) -> None:
        """End the thread; what it knows is on the disk then."""
        self._stopping = True
        self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    # The thread

    def _own(self) -> None:
        problem: BaseException | None = None
        try:
            data = self._path.read_bytes() if self._path.exists() else b""
            self.tox = self._make(data)
            self.files = Files(self.tox, self._largest, self._file)
            try:
                self._listen(self.files)
                self._run()
                self._keep()
            finally:
                self.tox.kill()
        except BaseException as error:
            problem = error
        finally:
            self._let_go(problem)

    def _let_go(self, problem: BaseException | None) -> None:
        """Nobody waits for an answer of a thread that has ended."""
        self._stopping = self._gone = True
        self._lose(NONE)
        while not self._calls.empty():
            if waiting := self._calls.get():
                waiting()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end, problem)

    def _end(self, problem: BaseException | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(problem or ChannelError("The Tox thread has ended."))
            self.ended.exception()  # it may be that nobody asks

    def _listen(self, files: Files) -> None:
        self.tox.listen(
            {
                "friend_request": self._request,
                "friend_connection_status": self._friend_turned,
                "friend_message": self._message,
                "friend_read_receipt": self._receipt,
                "conference_invite": self._invited,
                "conference_message": self._group_message,
                "file_recv": files.offered,
                "file_recv_control": files.controlled,
                "file_recv_chunk": self._lively_for(files.chunk),
                "file_chunk_request": self._lively_for(files.asked),
            }
        )

    def _run(self) -> None:
        self._keep()
        asked, kept = -AGAIN, time.monotonic()
        while not self._stopping:
            now = time.monotonic()
            if self.tox.call("self_get_connection_status"):
                self._tell(self._online)
                asked = now
            elif now - asked > AGAIN:
                if asked > 0:
                    self._tell(self._offline)
                asked = now
                self._bootstrap()
            if now - kept > KEEP:
                kept = now
                self._keep()
            self.tox.call("iterate", None)
            self._serve(self._pause())

    def _pause(self) -> float:
        pause: float = self.tox.call("iteration_interval") / 1000
        return min(pause, LOOK) if time.monotonic() - self._lively < LIVELY or self._receipts else pause

    def _serve(self, seconds: float) -> None:
        """Make the calls that are waiting; wait for one when there is none."""
        with contextlib.suppress(queue.Empty):
            one = self._calls.get(timeout=seconds)
            while True:
                if one is not None:
                    self._lively = time.monotonic()
                    one()
                one = self._calls.get_nowait()

    def _bootstrap(self) -> None:
        for call, nodes in (("bootstrap", self._nodes), ("add_tcp_relay", self._relays)):
            for node in nodes:
                try:
                    self.tox.call(call, node.host.encode(), node.port, node.key)
                except Failed as error:
                    log.debug("The Tox node '%s' cannot be used: %s", node.host, error)

    def _keep(self) -> None:
        keep(self._path, self.tox.profile())

    def _tell(self, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)

    # What toxcore tells

    def _request(self, key: Any, words: Any, length: int) -> None:
        public = content(key, KEY)
        if self._welcome(public.hex().upper(), decoded(content(words, length))):
            self.tox.call("friend_add_norequest", public)
            self._keep()

    def _friend_turned(self, friend: int, status: int) -> None:
        self._lively = time.monotonic()
        if not status:
            self._lose(friend)

    def _lose(self, friend: int) -> None:
        """A friend is offline, or everybody is (NONE): what was not confirmed may have arrived."""
        for key in [key for key in self._receipts if friend in (key[0], NONE)]:
            receipt = self._receipts.pop(key)
            if not receipt.done():
                receipt.set_exception(MaybeSent("The connection was lost before the person's Tox confirmed a message."))
        if self.files is not None:
            self.files.gone(None if friend == NONE else friend)

    def _message(self, friend: int, kind: int, text: Any, length: int) -> None:
        self._hand_over(Heard(*self._person(friend), decoded(content(text, length)), kind == 1))

    def _lively_for(self, function: Callable[..., None]) -> Callable[..., None]:
        def call(*values: Any) -> None:
            self._lively = time.monotonic()
            function(*values)

        return call

    def _file(self, file: File) -> None:
        self._hand_over(Heard(*self._person(file.friend), "", file=file))

    def _person(self, friend: int) -> tuple[str, str]:
        key = self.tox.read("friend_get_public_key", KEY, friend)
        return key.hex().upper(), self.tox.text("friend_get_name", friend)

    def _receipt(self, friend: int, number: int) -> None:
        receipt = self._receipts.pop((friend, number), None)
        if receipt is not None and not receipt.done():
            receipt.set_result(None)

    def _invited(self, friend: int, kind: int, cookie: Any, length: int) -> None:
        if kind:
            log.info("An invitation to a Tox group with sound is passed over: it is for text that the bot is here.")
            return
        self.tox.call("conference_join", friend, content(cookie, length), length)
        self._keep()

    def _group_message(self, group: int, peer: int, kind: int, text: Any, length: int) -> None:
        if self.tox.call("conference_peer_number_is_ours", group, peer):
            return
        key = self.tox.read("conference_peer_get_public_key", KEY, group, peer).hex().upper()
        name = self.tox.text("conference_peer_get_name", group, peer)
        id = self.tox.read("conference_get_id", GROUP, group).hex().upper()
        self._hand_over(Heard(key, name, decoded(content(text, length)), kind == 1, id))

    def _hand_over(self, heard: Heard) -> None:
        """Wait until a message is safe on the disk.

        toxcore confirms it to the sender after this returns: a bot that is killed before has confirmed nothing.
        """
        self._lively = time.monotonic()
        taking = asyncio.run_coroutine_threadsafe(self._take(heard), self._loop)
        taking.add_done_callback(lambda _: self._calls.put(None))
        latest = time.monotonic() + ACCEPT
        while not (taking.done() or self._stopping) and time.monotonic() < latest:
            self._serve(1.0)
        if self._stopping:
            taking.cancel()
        elif taking.done() and not taking.cancelled() and (error := taking.exception()):
            log.error("A Tox message was not accepted: %s", error)

    # What the thread is asked for

    def address(self) -> str:
        return self.tox.read("self_get_address", ADDRESS).hex().upper()

    def introduce(self, name: str, status: str) -> None:
        for call, text, most in (("name", name, NAME_LENGTH), ("status_message", status, STATUS_LENGTH)):
            said = cut(text, most)
            self.tox.call(f"self_set_{call}", said, len(said))

    def befriend(self, keys: Sequence[str]) -> None:
        """Make people friends without being asked, so that they need not wait."""
        for key in keys:
            with contextlib.suppress(Failed):  # is one already
                self.tox.call("friend_add_norequest", bytes.fromhex(key))
        self._keep()

    def friend(self, key: str) -> int:
        """Raises Undeliverable."""
        try:
            return int(self.tox.call("friend_by_public_key", bytes.fromhex(key)))
        except (Failed, ValueError) as error:
            raise Undeliverable(f"'{key}' is no friend of the bot's on Tox.") from error

    def say(self, key: str, text: str, action: bool) -> tuple[int, Future[None]]:
        """Hand toxcore a message; the future is done when the person's Tox has it. Raises NotSent, Undeliverable."""
        friend, said = self.friend(key), text.encode()
        try:
            number = self.tox.call("friend_send_message", friend, int(action), said, len(said))
        except Failed as error:
            if error.code == NO_FRIEND or error.code > FULL:
                raise Undeliverable(f"Tox does not take the message: {error}") from error
            why = "too much is waiting" if error.code == FULL else "the person is not online"
            raise NotSent(f"Tox cannot take the message now: {why}, and it keeps nothing for later.") from error
        receipt: Future[None] = Future()
        self._receipts[friend, number] = receipt
        return number, receipt

    def say_in(self, group: str, text: str, action: bool) -> None:
        """Say something in a group. Raises NotSent, Undeliverable."""
        try:
            number = self.tox.call("conference_by_id", bytes.fromhex(group))
        except (Failed, ValueError) as error:
            raise Undeliverable(f"The bot is not in the Tox group '{group}' any more.") from error
        said = text.encode()
        try:
            self.tox.call("conference_send_message", number, int(action), said, len(said))
        except Failed as error:
            if error.code <= 2:
                raise Undeliverable(f"Tox does not take the message: {error}") from error
            raise NotSent("Nobody of the Tox group is connected to the bot now.") from error

    def typing(self, key: str, on: bool) -> None:
        with contextlib.suppress(Failed):
            self.tox.call("self_set_typing", self.friend(key), on)

    def send_file(self, key: str, name: str, data: bytes) -> Future[None]:
        if self.files is None:
            raise NotSent("The channel is not connected to Tox.")
        return self.files.send(self.friend(key), name, data)


def cut(text: str, most: int) -> bytes:
    """Text in at most so many bytes of UTF-8."""
    return text.encode()[:most].decode("utf-8", "ignore").encode()
