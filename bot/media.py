"""Files that a platform hands over once and Roost may be asked for later, also after a restart."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

from roost.values import Attachment

CHUNK = 256 * 1024
MOST = 200_000_000  # bytes that one channel keeps
MOST_FILES = 20_000
SPARE = 0.9  # of either, once there was too much: looking for the oldest takes a look at all
NAME = re.compile(r"[0-9a-f]{64}")

LONGEST = 200  # letters of a file's name
PATIENCE = 120.0  # seconds that a platform may take to hand over a file


def called(attachment: Attachment) -> str:
    """A file as a sentence names it."""
    return f"'{attachment.name}'" if attachment.name else f"The {attachment.kind}"


async def fetched(attachment: Attachment, most: int) -> bytes:
    """What is in an attachment, however its platform goes about it.

    Raises ValueError for more than `most` bytes, and for what cannot be had or does not come in time.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await attachment.read(most)
    except TimeoutError:
        raise ValueError(f"{called(attachment)} did not come within {PATIENCE:g} seconds.") from None


def plain_name(name: str) -> str:
    """A file's name as a stranger gave it, without any path, control or direction marks: safe to join to a folder.

    Empty when nothing is left of it.
    """
    bare = "".join(char for char in re.split(r"[/\\]", name)[-1] if char.isprintable()).strip(" .")
    return bare if len(bare) <= LONGEST else f"{bare[: LONGEST - 20]}{bare[-20:]}"


class Media:
    """A folder of files by what is in them. When it holds more than `most` bytes, or `files`, the oldest go."""

    def __init__(self, folder: Path, most: int = MOST, files: int = MOST_FILES) -> None:
        self._folder = folder
        self._most = most
        self._files = files
        self._held: tuple[int, int] | None = None  # bytes and files; None until they were counted

    def put(self, content: bytes) -> str:
        """Keep a file, for its owner's eyes; returns what `read` asks for it by."""
        name = hashlib.sha256(content).hexdigest()
        path = self._folder / name
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if path.exists():
            os.utime(path)
            return name
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        fresh.replace(path)
        self._prune(path)
        return name

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """A file in chunks. Raises ValueError for one that is not here, or not any more."""
        if not NAME.fullmatch(name):
            raise ValueError(f"'{name[:80]}' is the name of no file that was kept.")
        try:
            with (self._folder / name).open("rb") as file:
                while chunk := file.read(CHUNK):
                    yield chunk
        except FileNotFoundError:
            raise ValueError("The file is not kept any more.") from None

    def _prune(self, fresh: Path) -> None:
        if self._held is not None:
            self._held = self._held[0] + fresh.stat().st_size, self._held[1] + 1
            if self._held[0] <= self._most and self._held[1] <= self._files:
                return
        files = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in self._folder.iterdir())
        total, count = sum(size for _, size, _ in files), len(files)
        full = total > self._most or count > self._files
        for _, size, path in files:
            if not full or (total <= self._most * SPARE and count <= self._files * SPARE):
                break
            if path != fresh:
                path.unlink()
                total, count = total - size, count - 1
        self._held = total, count
