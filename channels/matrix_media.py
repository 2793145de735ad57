"""Files on a Matrix homeserver, encrypted ones as well.

https://spec.matrix.org/v1.16/client-server-api/#content-repository
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import aiohttp
from nio import EncryptionError  # type: ignore[import-untyped]
from nio.crypto import decrypt_attachment  # type: ignore[import-untyped]

from roost.channels.matrix_account import BEFORE_SENDING, Account
from roost.channels.matrix_words import Json
from roost.errors import MaybeSent, NotSent, Undeliverable
from roost.reach import why
from roost.values import Attachment

UPLOAD_SECONDS = 300.0


async def upload(account: Account, attachment: Attachment, encrypt: bool) -> tuple[str, Json | None]:
    """Put a file on the server; returns its address, and what opens it when it is encrypted.

    Nobody sees a file that no message names, so an answer that got lost counts as not sent.
    """
    data = attachment.data or b""
    openers: list[Json | None] = []

    async def answer() -> Any:
        found, opener = await account.client.upload(
            lambda *tries: BytesIO(data),
            "application/octet-stream" if encrypt else attachment.mime,
            None if encrypt else attachment.name or None,
            encrypt,
            filesize=len(data),
        )
        openers.append(opener)
        return found

    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            found = await account.ask(answer())
    except (MaybeSent, TimeoutError) as error:
        raise NotSent(f"The file '{attachment.name}' did not reach the Matrix server: {error}") from None
    return str(found.content_uri), openers[0]


async def fetch(account: Account, attachment: Attachment, most: int) -> AsyncIterator[bytes]:
    """Raises ValueError when the file has more than `most` bytes, or is not what its sender encrypted."""
    found = json.loads(attachment.ref)
    file = found.get("file")
    content = download(account, str(file["url"] if file else found["url"]), attachment.name, most)
    if not file:
        async for chunk in content:
            yield chunk
        return
    whole = b"".join([chunk async for chunk in content])
    try:
        yield decrypt_attachment(whole, file["key"]["k"], file["hashes"]["sha256"], file["iv"])
    except (EncryptionError, KeyError, TypeError) as error:
        raise ValueError(f"'{attachment.name}' cannot be decrypted ({type(error).__name__}).") from None


async def download(account: Account, address: str, name: str, most: int) -> AsyncIterator[bytes]:
    path, size = media_path(address), 0
    if path is None:
        raise Undeliverable(f"'{address}' is no address of a file on a Matrix server.")
    try:
        async with await account.client.send("GET", path, headers=account.headers()) as response:
            if response.status != 200:
                raise account.meaning(response.status, "", "the file is not there", None)
            async for chunk in response.content.iter_chunked(65536):
                size += len(chunk)
                if size > most:
                    raise ValueError(f"'{name}' has more than {most} bytes.")
                yield chunk
    except BEFORE_SENDING as error:
        raise NotSent(f"The Matrix server is out of reach: {why(error)}.") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise MaybeSent(f"The download broke: {why(error)}.") from None


def media_path(address: str) -> str | None:
    """Where the content behind `mxc://server/id` is read."""
    found = re.fullmatch(r"mxc://([\w.:\[\]-]+)/([\w-]+)", address)
    return f"/_matrix/client/v1/media/download/{found[1]}/{found[2]}" if found else None
