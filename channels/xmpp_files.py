"""Files by HTTP: put where the server says (XEP-0363), fetched from where people put them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
from slixmpp import JID
from slixmpp.exceptions import IqError, IqTimeout

from roost.channels.xmpp_stream import Stream
from roost.errors import NotSent, Undeliverable
from roost.values import Attachment

ANSWER = 30  # seconds that the server has to say where a file may go
TRANSFER = aiohttp.ClientTimeout(total=300, sock_connect=30)
USUAL = 10 * 1024 * 1024  # bytes, where a server does not tell its limit
FORBIDDEN = {"\r", "\n"}


class Uploads:
    """Where files can be put, and how large they may be: `most` is 0 where there is no such place."""

    def __init__(self) -> None:
        self.service = ""
        self.most = 0

    async def find(self, stream: Stream) -> None:
        self.service, self.most = "", 0
        try:
            info = await stream.xmpp.plugin["xep_0363"].find_upload_service(timeout=ANSWER)
        except (IqError, IqTimeout):
            return
        if info is not None:
            fields = info["disco_info"].xml.iter("{jabber:x:data}field")
            values = [one.findtext("{jabber:x:data}value", "") for one in fields if one.get("var") == "max-file-size"]
            self.service = str(info["from"])
            self.most = int(values[0]) if values and values[0].isdecimal() else USUAL

    async def put(self, stream: Stream, file: Attachment) -> str:
        """Put a file where people can fetch it; returns its address. Raises NotSent or Undeliverable."""
        if not self.service or file.data is None:
            raise Undeliverable("This server takes no files.")
        slots = stream.xmpp.plugin["xep_0363"]
        try:
            slot = await slots.request_slot(
                JID(self.service), file.name or "file", len(file.data), file.mime, timeout=ANSWER
            )
        except IqError as error:
            if error.etype == "wait":
                raise NotSent(f"The server takes no files now: {error.condition}.", 30.0) from None
            raise Undeliverable(f"The server does not take the file: {error.condition}.") from None
        except IqTimeout:
            raise NotSent("The server does not say where the file may be put.") from None
        found = slot["http_upload_slot"]
        # Only these three, and no line breaks in them (XEP-0363, section 4).
        allowed = {"authorization", "cookie", "expires"}
        given = {one["name"]: one["value"] for one in found["put"]["headers"] if one["name"].lower() in allowed}
        headers = {name: value for name, value in given.items() if not FORBIDDEN & set(value)}
        await send(found["put"]["url"], file.data, headers | {"Content-Type": file.mime})
        return str(found["get"]["url"])


async def send(address: str, data: bytes, headers: dict[str, str]) -> None:
    try:
        async with (
            aiohttp.ClientSession(timeout=TRANSFER) as session,
            session.put(address, data=data, headers=headers, allow_redirects=False) as answer,
        ):
            if answer.status not in {200, 201}:
                raise NotSent(f"The server did not take the file ({answer.status}).")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotSent(f"The file could not be put on the server: {error}") from None


async def fetch(attachment: Attachment, most: int) -> AsyncIterator[bytes]:
    """Read a file in chunks. Raises ValueError when it is larger than `most` bytes or not there."""
    done = 0
    try:
        async with (
            aiohttp.ClientSession(timeout=TRANSFER) as session,
            session.get(attachment.ref, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise ValueError(f"'{attachment.name}' cannot be fetched: its server answers {answer.status}.")
            async for chunk in answer.content.iter_chunked(64 * 1024):
                done += len(chunk)
                if done > most:
                    raise ValueError(f"'{attachment.name}' has more than {most} bytes.")
                yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ValueError(f"'{attachment.name}' cannot be fetched: {error}") from None
