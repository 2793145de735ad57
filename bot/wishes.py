"""What the command line asks of the bot, whether one runs or not.

A running bot holds the data folder, so the command line writes its wish into the journal and waits for the answer.
Where none runs, the same is done on the spot, with the journal and the memory opened for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from roost.encryption import look
from roost.errors import RoostError
from roost.home import data_folder, in_use
from roost.logs import redact
from roost.schema import File, connect

if TYPE_CHECKING:
    from roost.bot import Bot
    from roost.cipher import Cipher
    from roost.config import Config
    from roost.registry import Registry

log = logging.getLogger("roost")

Offer = Callable[..., Awaitable[str]]
F = TypeVar("F", bound=Offer)

LOOK = 0.05  # seconds between two looks for an answer
PATIENCE = 600.0  # seconds an answer may take


def offer(function: F) -> F:
    """Let the command line call a coroutine of the bot. It takes the bot and texts, and returns a text."""
    function.__roost_offer__ = True  # type: ignore[attr-defined]
    return function


def wish(config: Config, registry: Registry, function: Offer, *words: str) -> str:
    """Have an offer called, by the bot that runs or here; returns its answer."""
    from roost.bot import Bot

    home = data_folder()
    if in_use(home):
        name = f"{function.__module__}:{function.__qualname__}"
        return ask(home / "journal.db", name, *words, cipher=look(home, config.bot.encryption))

    async def here() -> str:
        async with Bot(config, registry, home).at_rest() as bot:
            return await function(bot, *words)

    return asyncio.run(here())


def ask(journal: Path, name: str, *words: str, patience: float = PATIENCE, cipher: Cipher | None = None) -> str:
    """Ask the bot that runs on this journal; returns its answer. Raises RoostError when there is none in time."""
    with contextlib.closing(connect(journal, cipher=cipher)) as db:
        row = (db.seals.seal(json.dumps([name, *words]), "wish.what"), time.time())
        id = db.execute("INSERT INTO wish (what, at) VALUES (?, ?)", row).lastrowid
        try:
            return _await_answer(db, id or 0, patience)
        finally:
            with contextlib.suppress(sqlite3.Error):
                db.execute("DELETE FROM wish WHERE id = ?", (id,))


def _await_answer(db: File, id: int, patience: float) -> str:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        (answer,) = db.execute("SELECT answer FROM wish WHERE id = ?", (id,)).fetchone()
        if answer is not None:
            return db.seals.text(answer, "wish.answer")
        time.sleep(LOOK)
    raise RoostError(f"The bot that runs did not answer within {patience:.0f} seconds. See its log.")


async def grant(bot: Bot) -> None:
    """Answer everything that the command line waits for, oldest first."""
    sql = "SELECT id, what FROM wish WHERE answer IS NULL ORDER BY id"
    for id, what in await bot.journal.do(lambda db: db.execute(sql).fetchall()):
        asked = bot.journal.seals.open(what, "wish.what")
        await _write(bot, id, await _answer(bot, *json.loads(asked)) if asked else "That could not be read.")


async def _write(bot: Bot, id: int, answer: str) -> None:
    row = (bot.journal.seals.seal(answer, "wish.answer"), id)
    await bot.journal.do(lambda db: db.execute("UPDATE wish SET answer = ? WHERE id = ?", row))


async def _answer(bot: Bot, name: str, *words: str) -> str:
    """What goes wrong is an answer too."""
    module, _, function = name.partition(":")
    try:
        offered = getattr(importlib.import_module(module), function, None)
        if not getattr(offered, "__roost_offer__", False):
            return f"The bot that runs does not know '{name}'. Is it of another version?"
        return str(await offered(bot, *words))  # type: ignore[misc]
    except RoostError as error:
        return redact(str(error))
    except Exception as error:
        log.exception("What the command line asked for, '%s', failed.", name)
        return f"That failed: {type(error).__name__}. The bot's log has the details."
