"""The user's plugins under a running bot: a file that is saved is what runs from then on.

Everything a plugin registered is changed over at once, or nothing is: a version that does not load leaves the one
before in force. What is running goes on with the code it began with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from roost.aside import aside
from roost.folder import Source, forget, import_source
from roost.registry import in_folder

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.plugins")

DEBOUNCE = 200  # ms: editors write a file in several steps
IMPORT_TIME = 30.0  # seconds


class Plugins:
    """Watches the folder of one bot, and changes the bot over to what is there."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._seen: dict[str, bytes] = {one.name: one.digest() for one in self._sources()}
        self._changing = asyncio.Lock()

    @property
    def folder(self) -> Path:
        return self._bot.config.plugin_folder

    def _sources(self) -> list[Source]:
        return in_folder(self._bot.config.plugins, self._bot.config.path.parent)

    async def watch(self) -> None:
        """Look again whenever something in the folder changes; the folder may come and go."""
        import watchfiles

        while True:
            folder = self.folder.resolve()
            here = folder.is_dir()
            place = folder if here else _nearest(folder)
            async for _ in watchfiles.awatch(place, watch_filter=_matters, debounce=DEBOUNCE, recursive=here):
                await self.refresh()
                if folder != self.folder.resolve() or here != folder.is_dir():
                    break

    async def refresh(self) -> None:
        """Change over to what is in the folder now."""
        async with self._changing:
            try:
                await self._refresh()
            except Exception:
                log.exception("The plugins were changed, and that could not be applied.")

    async def _refresh(self) -> None:
        found = {one.name: one for one in await asyncio.to_thread(self._sources)}
        now = {name: await asyncio.to_thread(one.digest) for name, one in found.items()}
        gone = [name for name in self._seen if name not in found]
        changed = [name for name, digest in now.items() if self._seen.get(name) != digest]
        self._seen = now
        for name in gone:
            await self._take_out(name)
        for name in changed:
            await self._bring_in(found[name])

    async def _bring_in(self, source: Source) -> None:
        """Change over to a plugin's file as it is now."""
        registry, name = self._bot.registry, source.name
        before = registry.plugins.get_plugin(name)
        try:
            module = await self._imported(source)
            offered = registry.offers(name)
            last_words = registry.implementations("shutdown", name)
            registry.replace(name, module)
        except (Exception, SystemExit) as error:
            kept = "left out" if before is None else "not changed; the version before stays in force"
            log.error("The plugin '%s' was %s: %s", name, kept, registry.failed(name, error))
            return
        registry.failed(name, None)
        await self._changed_over(name, last_words, offered or registry.offers(name))
        log.info("The plugin '%s' is %s.", name, "new" if before is None else "changed over")

    async def _imported(self, source: Source) -> ModuleType:
        """Import in a thread: what a module does while it is imported holds nobody up."""
        async with asyncio.timeout(IMPORT_TIME):
            return await aside(import_source, source)

    async def _take_out(self, name: str) -> None:
        registry = self._bot.registry
        registry.failed(name, None)
        if not registry.plugins.has_plugin(name):
            return
        offered, last_words = registry.offers(name), registry.implementations("shutdown", name)
        registry.remove(name)
        forget(name)
        await self._changed_over(name, last_words, offered)
        log.info("The plugin '%s' is gone.", name)

    async def _changed_over(self, name: str, last_words: Sequence[object], offered: bool) -> None:
        """Its jobs, its tables in bot.toml, then the end of the old version and the start of the new one."""
        bot = self._bot
        bot.schedule.change(name)
        for one in last_words:
            await bot.dispatch.call("shutdown", one, bot=bot)
        if offered:
            await bot.reload()
        for one in bot.registry.implementations("startup", name):
            await bot.dispatch.call("startup", one, bot=bot)


def _matters(change: object, path: str) -> bool:
    name = Path(path).name
    return not name.startswith(".") and "__pycache__" not in path and not name.endswith((".pyc", "~", ".swp"))


def _nearest(folder: Path) -> Path:
    """The folder above that is there."""
    return next(one for one in folder.parents if one.is_dir())
