"""Mumble's control messages: a type, a length, and fields as Protocol Buffers write them.

https://github.com/mumble-voip/mumble/blob/master/src/Mumble.proto and
https://protobuf.dev/programming-guides/encoding/. Text needs ten of the messages, all of them flat, so the wire format
is here rather than a library with its compiler.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable
from enum import IntEnum

LONGEST = 8 * 1024 * 1024 - 1  # bytes of one message, as the server and the clients have it
HEAD = struct.Struct(">HI")
WIDTHS = {1: 8, 5: 4}  # bytes of numbers of a fixed width, by wire type
MOST = 10  # bytes of a varint


class Type(IntEnum):
    """What kind of message it is: src/MumbleProtocol.h."""

    VERSION = 0
    AUTHENTICATE = 2
    PING = 3
    REJECT = 4
    SERVER_SYNC = 5
    CHANNEL_REMOVE = 6
    CHANNEL_STATE = 7
    USER_REMOVE = 8
    USER_STATE = 9
    TEXT_MESSAGE = 11
    PERMISSION_DENIED = 12
    SERVER_CONFIG = 24


class Fields:
    """The fields of a message by number. Those that are absent have no value."""

    def __init__(self, values: dict[int, list[int | bytes]]) -> None:
        self._values = values

    def __contains__(self, field: int) -> bool:
        return field in self._values

    def numbers(self, field: int) -> list[int]:
        """A repeated number, also a packed one. Raises ValueError."""
        found: list[int] = []
        for value in self._values.get(field, ()):
            found += [value] if isinstance(value, int) else unpacked(value)
        return found

    def number(self, field: int, default: int = 0) -> int:
        return (self.numbers(field) or [default])[-1]

    def text(self, field: int) -> str:
        value = self._values.get(field, [b""])[-1]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises ValueError."""
    value = 0
    for number, byte in enumerate(data[at : at + MOST]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at + number + 1
    raise ValueError("A number in the message has no end.")


def unpacked(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = read_varint(data, at)
        found.append(value)
    return found


def encode(fields: Iterable[tuple[int, int | str | bytes]]) -> bytes:
    """Fields as (number, value); a repeated field comes once for each value."""
    written = bytearray()
    for field, value in fields:
        if isinstance(value, int):
            written += varint(field << 3) + varint(value)
        else:
            content = value.encode() if isinstance(value, str) else value
            written += varint(field << 3 | 2) + varint(len(content)) + content
    return bytes(written)


def decode(data: bytes) -> Fields:
    """The fields of a message. Raises ValueError for what is none."""
    values: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        value: int | bytes
        if tag & 7 == 0:
            value, at = read_varint(data, at)
        else:
            if tag & 7 == 2:
                length, at = read_varint(data, at)
            elif (length := WIDTHS.get(tag & 7, -1)) < 0:
                raise ValueError(f"The message has a field of the unknown wire type {tag & 7}.")
            value, at = data[at : at + length], at + length
            if at > len(data):
                raise ValueError("The message ends within a field.")
        values.setdefault(tag >> 3, []).append(value)
    return Fields(values)


def frame(kind: Type, fields: Iterable[tuple[int, int | str | bytes]]) -> bytes:
    content = encode(fields)
    return HEAD.pack(kind, len(content)) + content


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next message. Raises EOFError at the end, ValueError for one that is too long."""
    kind, length = HEAD.unpack(await reader.readexactly(HEAD.size))
    if length > LONGEST:
        raise ValueError(f"A message of {length} bytes is longer than Mumble allows.")
    return kind, await reader.readexactly(length)
