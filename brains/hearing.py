"""Speech to text by any server that offers transcriptions as OpenAI defined them: whisper.cpp, speaches, OpenAI, Groq.

https://platform.openai.com/docs/api-reference/audio/createTranscription
"""

from __future__ import annotations

import asyncio
import mimetypes
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from roost.addresses import is_elsewhere
from roost.brains.answer import parse, reason
from roost.brains.client import visible
from roost.errors import BrainError
from roost.hearing import Hearing, HearingConfig
from roost.keys import key

# What the API takes, by the ending of the file's name.
ENDINGS = {"flac", "mp3", "mp4", "mpeg", "mpga", "m4a", "oga", "ogg", "wav", "webm"}
MOST = 1024 * 1024  # bytes of an answer


@dataclass(frozen=True, slots=True)
class ServerConfig(HearingConfig):
    """The keys of `[hearing]` with use = "openai"."""

    base_url: str = key("", help="The server's address, such as 'http://127.0.0.1:8000/v1'.")
    api_key: str = key("", secret=True, help="The key that the server asks for, if it does.")
    model: str = key("whisper-1", help="The model's name on that server.")


class Server(Hearing):
    """Asks the server at `base_url`."""

    @property
    def remote(self) -> bool:
        return is_elsewhere(self.config.base_url)

    Config = ServerConfig
    config: ServerConfig

    async def transcribe(self, speech: bytes, name: str, mime: str) -> str:
        if not self.config.base_url:
            raise BrainError("bot.toml: [hearing] use = \"openai\" needs 'base_url', the server's address.")
        form = aiohttp.FormData()
        form.add_field("file", speech, filename=file_name(name, mime), content_type=mime)
        form.add_field("model", self.config.model)
        form.add_field("response_format", "json")
        if self.config.language:
            form.add_field("language", self.config.language)
        try:
            async with asyncio.timeout(self.config.timeout):
                return await self._ask(form)
        except TimeoutError:
            raise BrainError(f"{self._who()} did not answer within {self.config.timeout:g} seconds.") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise BrainError(f"{self._who()} cannot be used: {error}.") from error

    async def _ask(self, form: aiohttp.FormData) -> str:
        headers = {"Authorization": f"Bearer {self.config.api_key}"} if self.config.api_key else {}
        address = f"{self.config.base_url.rstrip('/')}/audio/transcriptions"
        async with (
            aiohttp.ClientSession(headers=headers, trust_env=True) as session,
            session.post(address, data=form, timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0)) as answer,
        ):
            raw = await answer.content.read(MOST)
            if answer.status != 200:
                why = reason({"error": details} if (details := parse(raw)) else raw)
                raise BrainError(f"{self._who()} answered with status {answer.status}: {why}")
            text = parse(raw).get("text")
            if not isinstance(text, str):
                raise ValueError("it answered with something that is no transcription")
            return text

    def _who(self) -> str:
        return f"The server for speech '{visible(self.config.base_url)}'"


def file_name(name: str, mime: str) -> str:
    """A name whose ending tells the format: servers read it off that, and platforms often give none."""
    plain = Path(name.replace("\\", "/")).name
    if plain.rpartition(".")[2].lower() in ENDINGS:
        return plain
    guessed = (mimetypes.guess_extension(mime.partition(";")[0].strip()) or ".ogg").removeprefix(".")
    return f"voice.{guessed if guessed in ENDINGS else 'ogg'}"
