"""Slack's Web API through slack_sdk: calls, uploads and downloads, with errors that say what became of a message."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient

from roost.channels.slack_errors import TROUBLE, explain
from roost.channels.slack_rich import Json
from roost.errors import ChannelError, MaybeSent, Undeliverable
from roost.proxy import proxy
from roost.values import Attachment

# What slack_sdk and Bolt would log at a finer level holds what people wrote.
wire = logging.getLogger(f"{__name__}.wire")
wire.setLevel(logging.WARNING)

TIMEOUT = aiohttp.ClientTimeout(total=330, connect=10, sock_read=30)


class Api:
    """Calls of one app. Between `open` and `close` connections are kept; outside of that each call has its own."""

    def __init__(self, channel: str, token: str, base_url: str) -> None:
        self._channel = channel
        self._token = token.strip()
        self.base_url = base_url.rstrip("/") + "/"
        # slack_sdk would take any proxy of the environment, and take it for addresses that need none too.
        self.client = AsyncWebClient(
            self._token, self.base_url, timeout=60, proxy="unused", retry_handlers=[], logger=wire
        )
        self.client.proxy = proxy(self.base_url)

    def open(self) -> aiohttp.ClientSession:
        self.client.session = connect()
        return self.client.session

    async def close(self) -> None:
        session, self.client.session = self.client.session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, parameters: Json) -> Json:
        """Call a method with a JSON body. Raises what `explain` makes of its error."""
        with self._explained():
            answer = (await self.client.api_call(method, json=parameters)).data
        if not isinstance(answer, dict):
            raise MaybeSent("Slack's answer is not a JSON object.")
        return answer

    async def ask(self, method: str, parameters: Json) -> Json:
        """Call a method that reads, most of which take no JSON."""
        with self._explained():
            answer = (await self.client.api_call(method, http_verb="GET", params=parameters)).data
        return answer if isinstance(answer, dict) else {}

    async def upload(self, target: Json, contents: Sequence[tuple[str, bytes]]) -> list[str]:
        """Put files into a conversation, as one message; returns their ids.

        https://docs.slack.dev/messaging/working-with-files#uploading_files
        """
        with self._explained():
            files: list[dict[str, str | None]] = [await self._upload(name, content) for name, content in contents]
            where = {"channel_id": target["channel"]} | {k: v for k, v in target.items() if k == "thread_ts"}
            await self.client.files_completeUploadExternal(files=files, **where)
        return [str(file["id"]) for file in files]

    async def _upload(self, name: str, content: bytes) -> dict[str, str | None]:
        ticket: Any = await self.client.files_getUploadURLExternal(filename=name, length=len(content))
        address = str(ticket["upload_url"])
        # aiohttp warns about large plain bytes: they would be copied to the socket in one go.
        async with (
            self._session() as session,
            session.post(address, data=io.BytesIO(content), proxy=proxy(address), allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise Undeliverable(f"Slack's file server answered {answer.status} to the file '{name}'.")
        return {"id": str(ticket["file_id"]), "title": name}

    async def respond(self, address: str, message: Json) -> None:
        """Answer a slash command where the bot is no member, for its author's eyes.

        https://docs.slack.dev/interactivity/handling-user-interaction#message_responses
        """
        with self._explained():
            async with (
                self._session() as session,
                session.post(address, json=message, proxy=proxy(address), allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise Undeliverable(f"Slack takes no more answers to this command ({answer.status}).")

    async def download(self, attachment: Attachment, most: int) -> AsyncIterator[bytes]:
        """Read a file in chunks. Raises ValueError for one of more than `most` bytes."""
        address = await self._address(attachment)
        headers = {"Authorization": f"Bearer {self._token}"}
        size = 0
        with self._explained():
            async with (
                self._session() as session,
                session.get(address, headers=headers, proxy=proxy(address), allow_redirects=False) as answer,
            ):
                # Without the scope files:read Slack shows its login page, with the status 200.
                page = answer.content_type == "text/html" and attachment.mime != "text/html"
                if answer.status != 200 or page:
                    raise Undeliverable(
                        f"Slack does not give the file '{attachment.name}' ({answer.status}). Has the app the scope "
                        "files:read?"
                    )
                async for chunk in answer.content.iter_chunked(65536):
                    size += len(chunk)
                    if size > most:
                        raise ValueError(f"'{attachment.name}' has more than {most} bytes.")
                    yield chunk

    async def _address(self, attachment: Attachment) -> str:
        """Where the content is. The token is shown to Slack's own servers only."""
        address = attachment.ref
        if "://" not in address:
            file = (await self.ask("files.info", {"file": address}))["file"]
            address = str(file.get("url_private_download") or file.get("url_private", ""))
        found, ours = urlsplit(address), urlsplit(self.base_url)
        host = found.hostname or ""
        slacks = found.scheme == "https" and host.endswith((".slack.com", ".slack-gov.com", ".slack-files.com"))
        if not slacks and (found.scheme, host) != (ours.scheme, ours.hostname):
            raise Undeliverable(f"The file '{attachment.name}' is not kept by Slack, so I do not fetch it.")
        return address

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        if self.client.session is not None:
            yield self.client.session
        else:
            async with connect() as session:
                yield session

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ChannelError:
            raise
        except TROUBLE as error:
            raise explain(error, self._channel) from None


def connect() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
