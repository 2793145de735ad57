"""Small files as cameras, recorders and people who mean harm make them."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from collections.abc import Callable

Recorder = Callable[[float], bytes]


def png(width: int = 2, height: int = 2) -> bytes:
    """A whole PNG where it is small; a large one has no points, only says so."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = b"".join(b"\0" + bytes(3 * width) for _ in range(height if width * height < 10_000 else 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def gif(width: int = 1, height: int = 1) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0)
    picture = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"
    return b"GIF89a" + screen + b"\0\0\0\xff\xff\xff" + picture + b";"


def jpeg(width: int = 1, height: int = 1, progressive: bool = False) -> bytes:
    """The parts before the picture itself, as cameras write them: a thumbnail's own size does not count."""
    thumbnail = b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03"
    first = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
    exif = b"\xff\xff\xe1" + struct.pack(">H", 8 + len(thumbnail)) + b"Exif\0\0" + thumbnail
    frame = (
        bytes([0xFF, 0xC2 if progressive else 0xC0]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\0"
    )
    return b"\xff\xd8" + first + exif + frame + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\x7f\xff\xd9"


def webp(width: int, height: int, form: str = "VP8X") -> bytes:
    bodies = {
        "VP8X": bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little"),
        "VP8L": b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14),
        "VP8 ": b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height),
    }
    body = bodies[form]
    inside = b"WEBP" + form.encode() + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


def ogg(seconds: float, packets: int = 1) -> bytes:
    """Opus in Ogg (RFC 7845), as messengers send it: silence of a few bytes takes hours."""
    head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, 48000, 0, 0)
    tags = b"OpusTags" + struct.pack("<II", 0, 0)
    speech = b"\xfc\xff\xfe"
    pages = ((2, 0, [head]), (0, 0, [tags]), (4, int(48000 * seconds), [speech] * packets))
    return b"".join(page(flag, at, number, parts) for number, (flag, at, parts) in enumerate(pages))


def page(flag: int, at: int, number: int, parts: list[bytes]) -> bytes:
    head = struct.pack("<BBqIII", 0, flag, at, 1, number, 0)
    return b"OggS" + head + bytes([len(parts), *map(len, parts)]) + b"".join(parts)


def wav(seconds: float, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(1)
        recording.setframerate(rate)
        recording.writeframes(bytes(int(rate * seconds)))
        return file.getvalue()


def flac(seconds: float, rate: int = 8000) -> bytes:
    """The header alone, which is what says how long it is (RFC 9639, section 8.2)."""
    packed = rate << 44 | 15 << 36 | int(rate * seconds)
    return b"fLaC\x80\0\0\x22" + struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
