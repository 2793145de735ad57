"""Files over Tox, in the thread that owns the Tox: whole ones, in memory, one chunk at a time as toxcore asks."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from roost.channels.tox_core import NO_FRIEND, OFFLINE, Failed, Tox, decoded
from roost.channels.tox_core import content as bytes_at
from roost.errors import NotSent, Undeliverable

RESUME, CANCEL = 0, 2  # Tox_File_Control
DATA = 0  # Tox_File_Kind; 1 is an avatar
MOST = 8  # files that come in at the same time
CHUNK_FULL = 7  # TOX_ERR_FILE_SEND_CHUNK_SENDQ
FILE_NAME = 255  # TOX_MAX_FILENAME_LENGTH, bytes

Key = tuple[int, int]
"""A friend's number, and the file's number with that friend."""


@dataclass(frozen=True, slots=True)
class File:
    """What a friend sent. `content` is None for what was not taken, and `why` says so."""

    friend: int
    name: str
    size: int
    content: bytes | None = field(default=None, repr=False)
    why: str = ""


@dataclass(slots=True)
class Coming:
    name: str
    size: int
    content: bytearray


@dataclass(slots=True)
class Going:
    content: bytes
    done: Future[None]


class Files:
    """`take` is called with every file that a friend sent, whole or refused."""

    def __init__(self, tox: Tox, largest: int, take: Callable[[File], None]) -> None:
        self._tox = tox
        self._largest = largest
        self._take = take
        self._coming: dict[Key, Coming] = {}
        self._going: dict[Key, Going] = {}

    # Coming in

    def offered(self, friend: int, number: int, kind: int, size: int, name: object, length: int) -> None:
        called = decoded(bytes_at(name, length))
        if kind != DATA:
            self._control(friend, number, CANCEL)
        elif size > self._largest:
            self._refuse(friend, number, called, size, "too large")
        elif len(self._coming) >= MOST:
            self._refuse(friend, number, called, size, "too many at once")
        else:
            self._coming[friend, number] = Coming(called, size, bytearray())
            self._control(friend, number, RESUME)

    def chunk(self, friend: int, number: int, position: int, data: object, length: int) -> None:
        """The next part; toxcore delivers them in order, and an empty one at the end."""
        coming = self._coming.get((friend, number))
        if coming is None or position != len(coming.content):
            return
        coming.content += bytes_at(data, length)
        if len(coming.content) > coming.size:
            del self._coming[friend, number]
            self._refuse(friend, number, coming.name, coming.size, "larger than it said")
        elif not length:
            del self._coming[friend, number]
            self._take(File(friend, coming.name, coming.size, bytes(coming.content)))

    def _refuse(self, friend: int, number: int, name: str, size: int, why: str) -> None:
        self._control(friend, number, CANCEL)
        self._take(File(friend, name, size, why=why))

    # Going out

    def send(self, friend: int, name: str, content: bytes) -> Future[None]:
        """Offer a file; the future is done when the friend has it. Raises NotSent, Undeliverable."""
        called = name.encode()[:FILE_NAME].decode("utf-8", "ignore").encode()
        try:
            number = self._tox.call("file_send", friend, DATA, len(content), None, called, len(called))
        except Failed as error:
            if error.code == NO_FRIEND:
                raise Undeliverable("The person is no friend of the bot's on Tox any more.") from error
            raise NotSent("The person is not online on Tox, or has too many files waiting.") from error
        going = self._going[friend, number] = Going(content, Future())
        return going.done

    def asked(self, friend: int, number: int, position: int, length: int) -> None:
        """The friend wants a part; none at all means that it has everything."""
        going = self._going.get((friend, number))
        if going is None:
            return
        if not length:
            self._finish((friend, number), None)
            return
        data = going.content[position : position + length]
        try:
            self._tox.call("file_send_chunk", friend, number, position, data, len(data))
        except Failed as error:  # toxcore asks again for what did not fit
            if error.code not in (OFFLINE, CHUNK_FULL):
                self._finish((friend, number), NotSent(str(error)))

    def controlled(self, friend: int, number: int, control: int) -> None:
        if control == CANCEL:
            self._coming.pop((friend, number), None)
            self._finish((friend, number), Undeliverable("The person declined the file."))

    # Both

    def gone(self, friend: int | None) -> None:
        """The friend is offline, or everybody is: toxcore forgets the files."""
        for key in [key for key in self._coming if friend in (key[0], None)]:
            del self._coming[key]
        for key in [key for key in self._going if friend in (key[0], None)]:
            self._finish(key, NotSent("The person went offline while a file was sent."))

    def withdraw(self, done: Future[None]) -> None:
        """Nobody waits for this file any more."""
        for (friend, number), going in list(self._going.items()):
            if going.done is done:
                del self._going[friend, number]
                self._control(friend, number, CANCEL)

    def _finish(self, key: Key, error: Exception | None) -> None:
        going = self._going.pop(key, None)
        if going is None or going.done.done():
            return
        if error is None:
            going.done.set_result(None)
        else:
            going.done.set_exception(error)

    def _control(self, friend: int, number: int, control: int) -> None:
        try:
            self._tox.call("file_control", friend, number, control)
        except Failed:
            self._coming.pop((friend, number), None)
