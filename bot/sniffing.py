"""What a file is by its first bytes, whatever its sender calls it; and how much it unpacks to, before anything does.

Signatures: https://www.iana.org/assignments/media-types and the formats' own pages, named below. Only what is asked
for here is in the table: what brains and speech engines take, and what pretends to be that.
"""

from __future__ import annotations

import io
import logging
import re
import struct
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger("roost.sniffing")

Sort = Literal["image", "audio", "video", "other"]
HEAD = 4096  # bytes that are looked at
JPEG_PARTS = 1000  # markers of a JPEG before its size


@dataclass(frozen=True, slots=True)
class Form:
    """What a file is: `words` are for people, "a PNG picture"; `ending` is what its name has behind the dot."""

    sort: Sort
    mime: str
    words: str
    ending: str = ""


PNG = Form("image", "image/png", "a PNG picture", "png")
JPEG = Form("image", "image/jpeg", "a JPEG picture", "jpg")
GIF = Form("image", "image/gif", "a GIF picture", "gif")
WEBP = Form("image", "image/webp", "a WebP picture", "webp")
OGG = Form("audio", "audio/ogg", "an Ogg recording", "ogg")
MP3 = Form("audio", "audio/mpeg", "an MP3 recording", "mp3")
MP4 = Form("video", "video/mp4", "an MP4 file", "mp4")
HEIC = Form("image", "image/heic", "a HEIC picture", "heic")
AVIF = Form("image", "image/avif", "an AVIF picture", "avif")
M4A = Form("audio", "audio/mp4", "an M4A recording", "m4a")
PAGE = Form("other", "text/html", "a web page")
SVG = Form("other", "image/svg+xml", "an SVG drawing, which is a program")

STARTS: dict[bytes, Form] = {
    b"\x89PNG\r\n\x1a\n": PNG,
    b"\xff\xd8\xff": JPEG,
    b"GIF87a": GIF,
    b"GIF89a": GIF,
    b"II*\0": Form("image", "image/tiff", "a TIFF picture", "tif"),
    b"MM\0*": Form("image", "image/tiff", "a TIFF picture", "tif"),
    b"OggS": OGG,
    b"ID3": MP3,
    b"\xff\xfb": MP3,
    b"\xff\xfa": MP3,
    b"\xff\xf3": MP3,
    b"\xff\xf2": MP3,
    b"\xff\xf1": Form("audio", "audio/aac", "an AAC recording", "aac"),
    b"\xff\xf9": Form("audio", "audio/aac", "an AAC recording", "aac"),
    b"fLaC": Form("audio", "audio/flac", "a FLAC recording", "flac"),
    b"#!AMR": Form("audio", "audio/amr", "an AMR recording", "amr"),
    b"caff": Form("audio", "audio/x-caf", "a CAF recording", "caf"),
    b"FORM": Form("audio", "audio/aiff", "an AIFF recording", "aiff"),
    b"\x1aE\xdf\xa3": Form("video", "video/webm", "a WebM file", "webm"),
    b"%PDF-": Form("other", "application/pdf", "a PDF document"),
    b"PK\x03\x04": Form("other", "application/zip", "a ZIP archive or an office document"),
    b"PK\x05\x06": Form("other", "application/zip", "a ZIP archive"),
    b"Rar!": Form("other", "application/vnd.rar", "a RAR archive"),
    b"7z\xbc\xaf\x27\x1c": Form("other", "application/x-7z-compressed", "a 7z archive"),
    b"\x1f\x8b": Form("other", "application/gzip", "a gzip archive"),
    b"BZh": Form("other", "application/x-bzip2", "a bzip2 archive"),
    b"\xfd7zXZ\0": Form("other", "application/x-xz", "an xz archive"),
    b"(\xb5/\xfd": Form("other", "application/zstd", "a zstd archive"),
    b"MZ": Form("other", "application/vnd.microsoft.portable-executable", "a program"),
    b"\x7fELF": Form("other", "application/x-elf", "a program"),
    b"\xcf\xfa\xed\xfe": Form("other", "application/x-mach-binary", "a program"),
    b"\xca\xfe\xba\xbe": Form("other", "application/x-mach-binary", "a program"),
    b"#!": Form("other", "text/x-script", "a program"),
}
RIFFS = {b"WEBP": WEBP, b"WAVE": Form("audio", "audio/wav", "a WAV recording", "wav")}
BRANDS = {b"M4A ": M4A, b"M4B ": M4A, b"heic": HEIC, b"heix": HEIC, b"mif1": HEIC, b"avif": AVIF, b"avis": AVIF}
SIZES: tuple[bytes, ...] = tuple(sorted(STARTS, key=len, reverse=True))  # "#!AMR" before "#!"
MARKUP = re.compile(rb"<(!doctype|\?xml|html|head|body|script|svg|!--)", re.IGNORECASE)


def form_of(content: bytes) -> Form | None:
    """What a file is; None for text and for whatever else is not in the table."""
    if content[:4] == b"RIFF":
        return RIFFS.get(content[8:12])
    if content[4:8] == b"ftyp":  # ISO/IEC 14496-12, section 4.3
        return BRANDS.get(content[8:12], MP4)
    found = next((STARTS[start] for start in SIZES if content.startswith(start)), None)
    return found or _markup(content[:HEAD])


def _markup(head: bytes) -> Form | None:
    text = head.removeprefix(b"\xef\xbb\xbf").replace(b"\0", b"").lstrip(b"\xff\xfe \t\r\n\f")
    if not MARKUP.match(text):
        return None
    return SVG if re.search(rb"<svg", text, re.IGNORECASE) and not re.search(rb"<html", text, re.IGNORECASE) else PAGE


# Pictures


def pixels(content: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, JPEG or WebP picture, by its header; None where there is no sound one."""
    form = form_of(content)
    try:
        found = MEASURES[form.mime](content) if form is not None and form.mime in MEASURES else None
    except (struct.error, IndexError):
        return None
    return found if found is not None and min(found) > 0 else None


def _png(content: bytes) -> tuple[int, int] | None:
    """IHDR comes first: https://www.w3.org/TR/png-3/#11IHDR"""
    length, name, width, height = struct.unpack_from(">I4sII", content, 8)
    return (width, height) if name == b"IHDR" and length == 13 else None


def _gif(content: bytes) -> tuple[int, int]:
    """The logical screen: https://www.w3.org/Graphics/GIF/spec-gif89a.txt, section 18"""
    width, height = struct.unpack_from("<HH", content, 6)
    return width, height


def _webp(content: bytes) -> tuple[int, int] | None:
    """https://developers.google.com/speed/webp/docs/riff_container and RFC 6386, section 9.1"""
    name = content[12:16]
    if name == b"VP8X":
        wide, high = content[24:27], content[27:30]
        return (int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1) if len(high) == 3 else None
    if name == b"VP8L" and content[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(content: bytes) -> tuple[int, int] | None:
    """The first frame header: ITU-T T.81, section B.2.2. Markers without a length, and fill bytes, are stepped over."""
    at = 2
    for _ in range(JPEG_PARTS):
        while content[at] == 0xFF and content[at + 1] == 0xFF:
            at += 1
        mark = content[at + 1]
        if content[at] != 0xFF or mark in (0xD9, 0xDA):
            return None
        if mark in (0x01, *range(0xD0, 0xD8)):
            at += 2
            continue
        (length,) = struct.unpack_from(">H", content, at + 2)
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        if length < 2:
            return None
        at += 2 + length
    return None


MEASURES = {"image/png": _png, "image/gif": _gif, "image/webp": _webp, "image/jpeg": _jpeg}


# Recordings


def seconds(content: bytes) -> float | None:
    """How long a recording plays, as it says itself; None where it does not say, or is damaged.

    Takes up to two seconds for 25 MB of somebody's making: do not call it in the event loop.
    """
    from tinytag import TinyTag, TinyTagException

    try:
        found = TinyTag.get(file_obj=io.BytesIO(content), tags=False, duration=True).duration
    except TinyTagException:
        return None
    except Exception as error:  # whatever a parser makes of what a stranger has sent
        log.debug("The length of a recording cannot be read: %s", type(error).__name__)
        return None
    return float(found) if found is not None and found > 0 else None
