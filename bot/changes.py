"""Changes of bot.toml while the bot runs: what differs is changed over, and only that."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from roost import logs
from roost.config import Config, load, secrets
from roost.contracts import Memory
from roost.errors import ConfigError, RoostError

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost")

TABLES_LATER = ("journal",)  # what cannot be changed while the bot runs
TABLES = ("bot", "access", "tools", "plugins", "privacy", "mcp", *TABLES_LATER)
ENCRYPTION = "[bot] encryption"
LATER = {ENCRYPTION, *(f"[{name}]" for name in TABLES_LATER)}


class Changes:
    """Watches one bot's configuration, and changes the bot over to what it says."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot

    async def watch(self) -> None:
        import watchfiles

        path = self._bot.config.path.resolve()
        if not path.is_file():
            return
        changes = watchfiles.awatch(
            path.parent, watch_filter=lambda _, changed: Path(changed) == path, debounce=400, recursive=False
        )
        async for _ in changes:
            try:
                await self._bot.reload()
            except Exception:
                log.exception("bot.toml was changed, and that could not be applied.")

    async def reload(self) -> None:
        """Read bot.toml again and apply what changed, and only that; a broken one changes nothing."""
        try:
            config = load(self._bot.config.path, self._bot.registry)
            logs.hide(secrets(config))
            changed = await self.apply(config)
        except ConfigError as error:
            log.error("bot.toml was changed but not applied; the last good one stays in force. %s", error)
            return
        for problem in config.problems:
            log.error("%s", problem)
        later = [name for name in changed if name in LATER]
        now = [name for name in changed if name not in LATER]
        if now:
            log.info("bot.toml: applied the changes in %s.", ", ".join(now))
        if later:
            log.info("bot.toml: the changes in %s take effect at the next start.", ", ".join(later))

    async def apply(self, config: Config) -> list[str]:
        """Change over to another configuration; returns the tables that differ. Raises before anything is changed."""
        bot, old = self._bot, self._bot.config
        hearing = config.hearing_class(config.hearing, bot.home) if differs("hearing", old, config) else None
        memory = config.memory_class(config.memory, bot.home / "memory") if differs("memory", old, config) else None
        brains = bot.minds.change(config)
        bot.config = config
        now = replace(old, bot=replace(old.bot, encryption=config.bot.encryption))
        changed = [f"[{name}]" for name in TABLES if differs(name, now, config)]
        changed += [*brains, *(["[[routes]]"] if differs("routes", old, config) else [])]
        changed += [ENCRYPTION] if differs("bot", old, now) else []
        bot.access.table, bot.access.owner = config.access, config.bot.owner
        if differs("plugins", old, config):
            bot.do(bot.plugins.refresh())
        if old.bot.log != config.bot.log:
            logs.hear(config.bot.log)
        if hearing is not None:
            bot.hearing, before = hearing, bot.hearing
            bot.do(before.close())
            changed.append("[hearing]")
        if memory is not None and await self._change_memory(memory, old):
            changed.append("[memory]")
        if differs("web", old, config) and await self._change_web(old):
            changed.append("[web]")
        return changed + await self._change_channels(old, config)

    async def _change_memory(self, memory: Memory, old: Config) -> bool:
        """Between two answers, so that none finds its memory closed. One that cannot be opened changes nothing."""
        memory.cipher = self._bot.journal.cipher
        async with self._bot.pipeline.lanes.held():
            try:
                await memory.open()
            except RoostError as error:
                log.error("The memory stays as it was: %s", error)
                self._bot.config = replace(self._bot.config, memory=old.memory, memory_class=old.memory_class)
                return False
            before, self._bot.memory = self._bot.memory, memory
            await before.close()
        return True

    async def _change_web(self, old: Config) -> bool:
        """Serve as the new table says; when that fails, as the old one said, and return False."""
        if self._bot.web is not None:
            await self._bot.web.stop()
            self._bot.web = None
        try:
            await self._bot.serve()
        except (RoostError, OSError) as error:
            log.error("The web face stays as it was: %s", error)
            self._bot.config = replace(self._bot.config, web=old.web)
            await self._bot.serve()
            return False
        return True

    async def _change_channels(self, old: Config, new: Config) -> list[str]:
        names = sorted(old.channels.keys() | new.channels.keys())
        changed = [name for name in names if old.channels.get(name) != new.channels.get(name)]
        for name in changed:
            if name in self._bot.channels:
                await self._bot.stop_channel(name)
            if name in new.channels:
                await self._bot.start_channel(name, new.channels[name])
        return [f"[channels.{name}]" for name in changed]


def differs(table: str, old: Config, new: Config) -> bool:
    return bool(getattr(old, table) != getattr(new, table))
