"""Voice messages and pictures, with a whole bot around them and servers over a socket."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kit import samples
from servers.openai import KEY, OpenAIServer
from servers.transcription import TranscriptionServer

from roost import Attachment
from roost.brains.hearing import Server, ServerConfig, file_name
from roost.brains.openai import OpenAI
from roost.errors import BrainError
from roost.hearing import DEAF
from roost.looking import BLIND
from roost.testing import Stage

OGG = samples.ogg(2)
PNG = samples.png()
VOICE = Attachment("voice", mime="audio/ogg", data=OGG)
CAT = Attachment("image", "cat.png", "image/png", data=PNG)


@pytest.fixture
async def ears() -> AsyncIterator[TranscriptionServer]:
    async with TranscriptionServer() as one:
        yield one


def hearing(server: TranscriptionServer, more: str = "") -> str:
    return f'[hearing]\nuse = "openai"\nbase_url = "{server.url}"\napi_key = "{server.key}"\n{more}\n'


# Voice


async def test_what_is_spoken_is_answered_like_what_is_written(tmp_path: Path, ears: TranscriptionServer) -> None:
    async with Stage(tmp_path, config=hearing(ears, 'language = "en"')) as stage:
        assert await stage.talk("", attachments=(VOICE,)) == "what is the time"
        assert [turn.text for turn in stage.brain.prompts[0].turns[1:]] == ["what is the time"]
        (asked,) = ears.asked
        assert asked["name"] in {"voice.ogg", "voice.oga"}
        assert (asked["size"], asked["model"], asked["language"]) == (len(OGG), "whisper-1", "en")


async def test_a_spoken_command_is_a_command(tmp_path: Path, ears: TranscriptionServer) -> None:
    ears.text = "/facts"
    async with Stage(tmp_path, config=hearing(ears)) as stage:
        assert "There are none" in await stage.talk("", attachments=(VOICE,))


async def test_a_voice_message_with_a_text_is_not_listened_to(tmp_path: Path, ears: TranscriptionServer) -> None:
    async with Stage(tmp_path, config=hearing(ears)) as stage:
        await stage.talk("a song for you", attachments=(VOICE,))
        assert not ears.asked


async def test_without_an_engine_the_person_is_told_so(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        assert DEAF in await stage.talk("", attachments=(VOICE,))
        song = Attachment("audio", "song.mp3", "audio/mpeg", data=b"ID3")
        assert "[audio song.mp3]" in await stage.talk("", attachments=(song,))


@pytest.mark.parametrize("status", [401, 413, 500])
async def test_a_server_that_refuses_is_quoted(tmp_path: Path, ears: TranscriptionServer, status: int) -> None:
    ears.status = status
    async with Stage(tmp_path, config=hearing(ears)) as stage:
        assert f"status {status}: No today." in await stage.talk("", attachments=(VOICE,))


async def test_silence_and_what_is_too_large_are_said(tmp_path: Path, ears: TranscriptionServer) -> None:
    ears.text = "  "
    async with Stage(tmp_path, config=hearing(ears, "max_bytes = 300")) as stage:
        assert "I hear no words" in await stage.talk("", attachments=(VOICE,))
        large = Attachment("voice", "long.ogg", "audio/ogg", data=bytes(301))
        assert "more than 300 bytes" in await stage.talk("", attachments=(large,))


async def test_a_server_that_stalls_or_is_not_there_is_an_error(ears: TranscriptionServer) -> None:
    ears.stall = True
    engine = Server(ServerConfig(use="openai", base_url=ears.url, api_key=ears.key, timeout=0.2), Path())
    with pytest.raises(BrainError, match=r"did not answer within 0\.2 seconds"):
        await engine.transcribe(OGG, "", "audio/ogg")
    engine = Server(ServerConfig(use="openai", base_url="http://127.0.0.1:9/v1"), Path())
    with pytest.raises(BrainError, match="cannot be used"):
        await engine.transcribe(OGG, "", "audio/ogg")


@pytest.mark.parametrize(
    ("name", "mime", "sent"),
    [
        ("", "audio/mp4", "m4a mp4"),
        ("note.oga", "audio/ogg", "oga"),
        ("../../x.wav", "audio/wav", "wav"),
        ("voice", "", "ogg"),
        ("a.exe", "application/x-msdownload", "ogg"),
        ("", "audio/ogg; codecs=opus", "ogg oga"),
    ],
)
def test_a_recording_is_sent_under_a_name_that_tells_its_format(name: str, mime: str, sent: str) -> None:
    found = file_name(name, mime)
    assert found.rpartition(".")[2] in sent.split()
    assert "/" not in found


# Pictures


@pytest.fixture
async def eyes() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as one:
        yield one


def brain(server: OpenAIServer, vision: bool) -> str:
    return (
        f'[brain]\nuse = "openai"\nmodel = "gpt-test"\nbase_url = "{server.url}"\napi_key = "{KEY}"\n'
        f"vision = {str(vision).lower()}\n"
    )


async def test_a_picture_is_shown_to_a_brain_that_sees_and_only_once(tmp_path: Path, eyes: OpenAIServer) -> None:
    async with Stage(tmp_path, config=brain(eyes, vision=True)) as stage:
        assert isinstance(stage.bot.brain, OpenAI)
        await stage.talk("What is this?", attachments=(CAT,))
        await stage.talk("And now?")
        first, second = (asked["messages"] for asked in eyes.asked)
        text, image = first[-1]["content"]
        assert "What is this?" in text["text"]
        assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == PNG
        assert all(isinstance(one["content"], str) for one in second)


async def test_a_brain_that_does_not_see_says_so_unless_there_is_text(tmp_path: Path, eyes: OpenAIServer) -> None:
    async with Stage(tmp_path, config=brain(eyes, vision=False)) as stage:
        assert BLIND in await stage.talk("", attachments=(CAT,))
        await stage.talk("My cat", attachments=(CAT,))
        assert eyes.asked[-1]["messages"][-1]["content"] == "My cat\n[image cat.png]"
