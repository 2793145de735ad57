"""A server of OpenAI's transcriptions that refuses what OpenAI refuses.

Written from the API reference: https://platform.openai.com/docs/api-reference/audio/createTranscription and
https://platform.openai.com/docs/guides/speech-to-text (formats, 25 MB).
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

FORMATS = {"flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm"}
FIELDS = {"file", "model", "language", "prompt", "response_format", "temperature"}


class TranscriptionServer:
    """Hears `text` in everything, or answers with `status`; `stall` lets it answer never."""

    def __init__(self) -> None:
        self.key = "sk-hearing-0123456789"
        self.text = "what is the time"
        self.status = 200
        self.stall = False
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    async def __aenter__(self) -> TranscriptionServer:
        app = web.Application(client_max_size=25 * 1024 * 1024)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _transcribe(self, request: web.Request) -> web.Response:
        if self.stall:
            await asyncio.Event().wait()
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return refused(401, "Incorrect API key provided.")
        if request.content_type != "multipart/form-data":
            return refused(400, "Invalid content type; must be multipart/form-data.")
        form = await request.post()
        file = form.get("file")
        if set(form) - FIELDS or not form.get("model") or not isinstance(file, web.FileField):
            return refused(400, "Bad form.")
        if file.filename.rpartition(".")[2] not in FORMATS:
            return refused(400, f"Unrecognized file format. Supported formats: {sorted(FORMATS)}")
        if self.status != 200:
            return refused(self.status, "No today.")
        self.asked.append(
            {"name": file.filename, "size": len(file.file.read())}
            | {name: value for name, value in form.items() if name in {"model", "language"}}
        )
        return web.json_response({"text": self.text})


def refused(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "invalid_request_error"}}, status=status)
