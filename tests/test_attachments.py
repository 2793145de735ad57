"""Files from people: what they call a file, and how large they say it is, counts for nothing."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kit import samples
from servers.openai import KEY, OpenAIServer
from servers.transcription import TranscriptionServer

from roost import Attachment, media
from roost.looking import MAX_BYTES
from roost.rows import FILES
from roost.testing import Stage

ROOT = Path(__file__).parent.parent
PAGE = b"<!DOCTYPE html><script>alert(1)</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
ZIP = b"PK\x03\x04" + bytes(100)
ELF = b"\x7fELF\x02\x01\x01" + bytes(100)


@pytest.fixture
async def eyes() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as one:
        yield one


@pytest.fixture
async def ears() -> AsyncIterator[TranscriptionServer]:
    async with TranscriptionServer() as one:
        yield one


def sees(server: OpenAIServer) -> str:
    return f'[brain]\nuse = "openai"\nmodel = "gpt-test"\nbase_url = "{server.url}"\napi_key = "{KEY}"\nvision = true\n'


def hears(server: TranscriptionServer, more: str = "") -> str:
    return f'[hearing]\nuse = "openai"\nbase_url = "{server.url}"\napi_key = "{server.key}"\n{more}\n'


def picture(content: bytes, mime: str = "image/jpeg", name: str = "photo.jpg") -> Attachment:
    return Attachment("image", name, mime, data=content)


class Liar:
    """A platform that says one thing about a file and gives another, in chunks, as long as it is listened to."""

    def __init__(self, chunk: bytes = bytes(1_000_000), chunks: int = 10_000) -> None:
        self.chunk, self.chunks = chunk, chunks
        self.given, self.ended = 0, False

    async def open(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(self.chunks):
                self.given += len(self.chunk)
                yield self.chunk
        finally:
            self.ended = True


# Pictures


@pytest.mark.parametrize(
    ("content", "what"),
    [(PAGE, "a web page"), (SVG, "an SVG drawing"), (ZIP, "a ZIP archive"), (ELF, "a program"), (b"tea", "none that")],
    ids=["page", "drawing", "archive", "program", "text"],
)
@pytest.mark.parametrize("text", ["", "What is this?"], ids=["alone", "with text"])
async def test_what_is_called_a_picture_and_is_none_is_refused(
    tmp_path: Path, eyes: OpenAIServer, content: bytes, what: str, text: str
) -> None:
    async with Stage(tmp_path, config=sees(eyes)) as stage:
        said = await stage.talk(text, attachments=(picture(content),))
        assert "'photo.jpg' says that it is a picture" in said and what in said
        assert not eyes.asked


@pytest.mark.parametrize(
    "bomb",
    [
        samples.png(60_000, 60_000),
        samples.gif(65_535, 65_535),
        samples.jpeg(65_000, 65_000),
        samples.webp(16_000, 16_000),
        samples.png(1, 4_000_000_000),
    ],
    ids=["png", "gif", "jpeg", "webp", "line"],
)
async def test_a_small_file_that_is_a_huge_picture_is_refused_by_its_header(
    tmp_path: Path, eyes: OpenAIServer, bomb: bytes
) -> None:
    assert len(bomb) < 1000
    async with Stage(tmp_path, config=sees(eyes)) as stage:
        assert "Please send it smaller" in await stage.talk("Look", attachments=(picture(bomb),))
        assert not eyes.asked


async def test_a_damaged_picture_is_refused_and_one_with_another_name_is_shown(
    tmp_path: Path, eyes: OpenAIServer
) -> None:
    async with Stage(tmp_path, config=sees(eyes)) as stage:
        assert "damaged" in await stage.talk("Look", attachments=(picture(samples.png()[:20]),))
        assert not eyes.asked
        await stage.talk("Look", attachments=(picture(samples.png()),))  # a PNG that is called photo.jpg
        assert "image/png" in str(eyes.asked[-1]["messages"][-1]["content"])


@pytest.mark.parametrize(
    ("mime", "content"),
    [("image/heic", b"\0\0\0\x20ftypheic\0\0\0\0"), ("image/svg+xml", SVG), ("image/jxl", b"\xff\x0a")],
    ids=["heic", "svg", "jxl"],
)
async def test_a_picture_of_a_kind_that_brains_do_not_take_is_said_to_be_one(
    tmp_path: Path, eyes: OpenAIServer, mime: str, content: bytes
) -> None:
    async with Stage(tmp_path, config=sees(eyes)) as stage:
        honest = picture(content, mime, "x")
        assert "I know PNG, JPEG, GIF and WebP" in await stage.talk("", attachments=(honest,))
        await stage.talk("My cat", attachments=(honest,))
        assert eyes.asked[-1]["messages"][-1]["content"] == "My cat\n[image x]"


async def test_no_more_is_read_of_pictures_than_they_may_have_whatever_their_size_was_said_to_be(
    tmp_path: Path, eyes: OpenAIServer
) -> None:
    liar = Liar()
    async with Stage(tmp_path, config=sees(eyes)) as stage:
        one = Attachment("image", "photo.png", "image/png", 10, "ref", open=liar.open)
        assert f"more than {MAX_BYTES} bytes" in await stage.talk("Look", attachments=(one,))
        assert liar.given <= MAX_BYTES + len(liar.chunk) and liar.ended, "it is told to stop, at once"
        large = picture(samples.png() + bytes(9_000_000))
        said = await stage.talk("Look", attachments=(large, large, large))
        assert "too much with the others of this message" in said
        assert not eyes.asked


async def test_a_platform_that_never_ends_to_hand_over_a_file_is_not_waited_for(
    tmp_path: Path, eyes: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "PATIENCE", 0.1)

    async def never() -> AsyncIterator[bytes]:
        yield b"\x89PNG"
        await asyncio.Event().wait()

    async with Stage(tmp_path, config=sees(eyes)) as stage:
        slow = Attachment("image", "photo.png", "image/png", ref="ref", open=never)
        assert "did not come within 0.1 seconds" in await stage.talk("Look", attachments=(slow,))


# Recordings


@pytest.mark.parametrize(
    ("content", "what"),
    [(PAGE, "a web page"), (ELF, "a program"), (samples.png(), "a PNG picture"), (b"tea", "none that I know")],
    ids=["page", "program", "picture", "text"],
)
async def test_what_is_called_a_recording_and_is_none_is_refused(
    tmp_path: Path, ears: TranscriptionServer, content: bytes, what: str
) -> None:
    async with Stage(tmp_path, config=hears(ears)) as stage:
        fake = Attachment("voice", "memo.ogg", "audio/ogg", data=content)
        said = await stage.talk("", attachments=(fake,))
        assert "'memo.ogg' says that it is a recording" in said and what in said
        assert not ears.asked


@pytest.mark.parametrize(
    "recording", [samples.ogg(36_000), samples.flac(36_000), samples.wav(40)], ids=["opus", "flac", "wav"]
)
async def test_ten_hours_of_silence_in_a_few_bytes_are_refused(
    tmp_path: Path, ears: TranscriptionServer, recording: bytes
) -> None:
    async with Stage(tmp_path, config=hears(ears, "max_seconds = 30.0")) as stage:
        long = Attachment("voice", "memo.ogg", "audio/ogg", data=recording)
        assert "'memo.ogg' is too long" in await stage.talk("", attachments=(long,))
        assert not ears.asked


async def test_all_recordings_of_a_message_together_have_the_room_of_one(
    tmp_path: Path, ears: TranscriptionServer
) -> None:
    async with Stage(tmp_path, config=hears(ears, "max_seconds = 30.0\nmax_bytes = 1000")) as stage:
        short = Attachment("voice", "memo.ogg", "audio/ogg", data=samples.ogg(20))
        assert "too long" in await stage.talk("", attachments=(short, short))
        large = Attachment("voice", "memo.ogg", "audio/ogg", data=samples.ogg(1) + bytes(600))
        assert "too much with the others" in await stage.talk("", attachments=(large, large))
        many = (Attachment("voice", "memo.ogg", "audio/ogg", data=samples.ogg(1)),) * 11
        assert "10 recordings of a message at most" in await stage.talk("", attachments=many)
        assert not ears.asked


async def test_a_server_for_speech_is_told_what_a_recording_is_and_nothing_that_its_sender_wrote(
    tmp_path: Path, ears: TranscriptionServer
) -> None:
    async with Stage(tmp_path, config=hears(ears)) as stage:
        odd = Attachment("voice", '../../"x".mp3', "audio/x\r\nX-Evil: 1", data=samples.wav(0.1))
        assert await stage.talk("", attachments=(odd,)) == "what is the time"
        (asked,) = ears.asked
        assert asked["name"] == "voice.wav"


# Any file


async def test_a_message_with_a_thousand_files_keeps_some_and_says_so(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        files = tuple(Attachment("file", f"{number}.txt", "text/plain", 1, "ref") for number in range(1000))
        said = await stage.talk("hello", attachments=files)
        assert f"[{1000 - FILES} more files]" in said
        assert f"[file {FILES - 1}.txt]" in said and f"[file {FILES}.txt]" not in said


async def test_what_a_channel_gives_in_one_piece_is_not_added_up_when_it_is_too_much() -> None:
    liar = Liar(bytes(5_000), chunks=2)
    with pytest.raises(ValueError, match="more than 6000 bytes"):
        await Attachment("file", "x", size=3, open=liar.open).read(6_000)
    assert liar.ended


UNPACKERS = {"zipfile", "tarfile", "gzip", "bz2", "lzma", "unpack_archive", "decompress", "decompressobj"}


def words(path: Path) -> set[str]:
    """The modules that a file imports, and the names it takes from them or from what it has."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {one.name for one in node.names} | {getattr(node, "module", "") or ""}
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def test_nothing_on_the_way_of_a_message_unpacks_archives() -> None:
    """Pages that are sent packed are unpacked by `fetching`, which counts; engines are by `download`."""
    paths = [path for folder in ("bot", "channels", "plugins") for path in (ROOT / folder).glob("*.py")]
    assert {path.name for path in paths if words(path) & UNPACKERS} == {"fetching.py"}
    assert "zipfile" in words(ROOT / "brains" / "download.py"), "what is looked for can be found"
