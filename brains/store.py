"""The model files of this machine: found, fetched, checked, removed."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp

from roost.brains.download import check_space, discard, extract, fetch, open_session, sha256_of, size_of
from roost.brains.gguf import verify_gguf
from roost.brains.models import Model, known, named
from roost.brains.sources import Origin, locate
from roost.contracts import Progress
from roost.errors import ModelError


def unheard(done: int, total: int) -> None:
    """Progress that nobody follows."""


class ModelStore:
    """A folder of model files. A name is whatever `[brain] model` may be; empty means the first of `models`.

    The folder is made when the first model is fetched.
    """

    def __init__(self, folder: Path, models: Mapping[str, Model] | None = None) -> None:
        self.folder = folder
        self.models = known() if models is None else models

    def find(self, name: str = "") -> Path | None:
        """Where the model's file is, or None when it is not on this machine. Raises ModelError for no model."""
        model = self._meant(name)
        own = Path(model.source)
        candidates = (self.folder / model.file, own) if is_local(model) else (self.folder / model.file,)
        return next((path for path in reversed(candidates) if path.is_file()), None)

    def installed(self) -> list[Path]:
        """The model files in the store."""
        return sorted(self.folder.glob("*.gguf"))

    def describe(self, name: str = "") -> Model:
        """What is known about a model; a file is asked itself. Raises ModelError."""
        model = self._meant(name)
        path = self.find(name)
        if model.title or path is None:
            return model
        keys = verify_gguf(path).keys
        licence, title = str(keys.get("general.license", "")), str(keys.get("general.name", path.stem))
        return replace(model, title=title, licence=licence, size=path.stat().st_size)

    def remove(self, name: str) -> bool:
        """Delete a model's file from the store, and what is left of a download. False when there was nothing.

        A file outside the store belongs to somebody else and stays.
        """
        path = self.folder / self._meant(name).file
        found = path.is_file()
        path.unlink(missing_ok=True)
        for part in self._parts(path):
            discard(part)
        return found

    def verify(self, name: str = "") -> None:
        """Read a whole model file and check it. Raises ModelError."""
        model, path = self._meant(name), self.find(name)
        if path is None:
            raise ModelError(f"The model '{model.name}' is not on this machine.")
        verify_gguf(path)
        if is_stored(path, self.folder) and model.sha256 and sha256_of(path) != model.sha256:
            raise ModelError(f"The file '{path}' is damaged: its sha256 is not that of '{model.name}'. Remove it.")
        self._stamp(path)

    async def ensure(self, name: str = "", progress: Progress = unheard, precision: str = "auto") -> Path:
        """The model's file, fetched first if need be, and checked. Raises ModelError."""
        model = self._meant(name)
        self._check_precision(model, precision)
        found = self.find(name)
        if found is not None and await asyncio.to_thread(self._is_sound, model, found):
            return found
        if is_local(model):
            raise ModelError(f"There is no model file '{model.source}'. Correct `model` in [brain].")
        self.folder.mkdir(parents=True, exist_ok=True)
        async with self._alone(model):
            found = self.find(name)  # another process may have fetched it meanwhile
            if found is not None and self._is_stamped(found):
                return found
            return await self._fetch(model, precision, progress)

    def _meant(self, name: str) -> Model:
        """A file that was put into the store by hand is a model by its bare name."""
        bare = name.strip()
        for file in (bare, f"{bare}.gguf"):
            if bare and bare not in self.models and Path(file).name == file and (self.folder / file).is_file():
                return Model(bare, file, str(self.folder / file))
        return named(name, self.models)

    def _check_precision(self, model: Model, precision: str) -> None:
        if model.precision and precision not in {"auto", model.precision}:
            raise ModelError(
                f"The model '{model.name}' is published as {model.precision} only, not as {precision}. "
                'Set `precision = "auto"` in [brain], or choose another model.'
            )

    def _is_sound(self, model: Model, path: Path) -> bool:
        """Whether a file can be used. One in the store that is not what it should be is put aside."""
        if self._is_stamped(path):
            return True
        if is_local(model):
            verify_gguf(path)
        elif model.sha256 and sha256_of(path) != model.sha256:
            path.replace(path.with_name(path.name + ".bad"))
            return False
        else:
            verify_gguf(path)
        self._stamp(path)
        return True

    async def _fetch(self, model: Model, precision: str, progress: Progress) -> Path:
        try:
            async with open_session() as session:
                origin = await locate(session, model, precision)
                for last in (False, True):
                    try:
                        return await self._fetch_once(session, model, origin, progress)
                    except Damaged as damaged:
                        if last:
                            raise ModelError(f"{damaged} It was fetched twice. Try again later.") from damaged
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
            raise ModelError(self._by_hand(model, error)) from error
        raise AssertionError("a second attempt returns or raises")

    async def _fetch_once(
        self, session: aiohttp.ClientSession, model: Model, origin: Origin, progress: Progress
    ) -> Path:
        target = self.folder / model.file
        archive, part = self._parts(target)
        fetched = archive if origin.member else part
        check_space(self.folder, max(0, origin.size - size_of(fetched)) + (model.size if origin.member else 0))
        await fetch(session, origin, fetched, progress)
        await asyncio.to_thread(check, fetched, origin.sha256, str(origin.url.with_user(None)))
        if origin.member:
            await asyncio.to_thread(extract, archive, origin.member, part)
            await asyncio.to_thread(check, part, model.sha256, model.name)
        await asyncio.to_thread(check_header, part)
        part.replace(target)
        settle_folder(self.folder)
        for left in (archive, part):
            discard(left)
        self._stamp(target)
        return target

    def _parts(self, target: Path) -> tuple[Path, Path]:
        return target.with_name(target.name + ".whl.part"), target.with_name(target.name + ".part")

    def _by_hand(self, model: Model, error: Exception) -> str:
        why = " ".join(str(error).split()) or type(error).__name__
        return (
            f"The model '{model.name}' could not be fetched from {model.source}: {why}. Get online and start again, "
            f"or put the file there by hand as '{self.folder / model.file}', "
            "or set `model` in [brain] to the path of a .gguf file that you have."
        )

    @asynccontextmanager
    async def _alone(self, model: Model) -> AsyncIterator[None]:
        """Hold the store's lock; another process that fetches a model has it meanwhile.

        SQLite's file lock works on every system, and ends with the process.
        """
        db = sqlite3.connect(self.folder / "fetching.lock", timeout=0, isolation_level=None, check_same_thread=False)
        try:
            while True:
                try:
                    db.execute("BEGIN EXCLUSIVE")
                    break
                except sqlite3.OperationalError:
                    await asyncio.sleep(0.2)
            yield
        finally:
            db.close()

    def _is_stamped(self, path: Path) -> bool:
        return self._stamps().get(path.name if is_stored(path, self.folder) else str(path)) == mark(path)

    def _stamp(self, path: Path) -> None:
        """Note that a file as it is now was found sound, so that it is not read through at every start."""
        if not is_stored(path, self.folder):
            return
        stamps = {name: one for name, one in self._stamps().items() if (self.folder / name).is_file()}
        fresh = self.folder / "checked.json.new"
        fresh.write_text(json.dumps({**stamps, path.name: mark(path)}), encoding="utf-8")
        fresh.replace(self.folder / "checked.json")

    def _stamps(self) -> dict[str, list[int]]:
        try:
            stamps = json.loads((self.folder / "checked.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamps if isinstance(stamps, dict) else {}


class Damaged(Exception):
    """What came is not what was promised."""


def check(path: Path, sha256: str, name: str) -> None:
    """Raises Damaged, and deletes the file, when its checksum is another one."""
    if sha256 and sha256_of(path) != sha256:
        discard(path)
        raise Damaged(f"What came for '{name}' is damaged: its sha256 is not the one it should have.")


def check_header(path: Path) -> None:
    """Raises Damaged, and deletes the file, when it is no complete model."""
    try:
        verify_gguf(path)
    except ModelError as error:
        discard(path)
        raise Damaged(str(error)) from error


def mark(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def is_local(model: Model) -> bool:
    return not model.source.startswith(("pypi:", "hf:", "http://", "https://"))


def is_stored(path: Path, folder: Path) -> bool:
    return path.parent == folder


def settle_folder(folder: Path) -> None:
    """Have the system write a rename out, where folders can be opened for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
