"""Run the bot until it is told to stop, or for one conversation in the terminal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import replace
from pathlib import Path

import click

from roost.bot import Bot
from roost.config import ChannelEntry, Config
from roost.home import TYPED, data_folder, in_use
from roost.progress import Bar, watched
from roost.registry import Registry

log = logging.getLogger("roost")

ADDRESS = Path("channels") / "terminal" / "address.json"


def run_forever(config: Config, registry: Registry) -> int:
    """Run until a signal. A second signal ends the process at once; the journal loses nothing either way."""
    return asyncio.run(_run(config, registry))


async def _run(config: Config, registry: Registry) -> int:
    bot = Bot(config, registry, data_folder())
    if watched():
        bot.brain.progress = Bar("Fetching the model")
    await bot.start()
    stopped = _on_signals(asyncio.Event())
    _greet(bot)
    await stopped.wait()
    log.info("Stopping.")
    await bot.stop()
    return 0


def _greet(bot: Bot) -> None:
    """One line that says where the bot is; one more when somebody has to claim it."""
    if bot.web is not None:
        click.echo(f"{bot.name} is ready: {bot.web.address}")
    else:
        click.echo(f"{bot.name} is ready.")
    if bot.access.claimable() and any(not one.channel.local for one in bot.channels.values()):
        code = bot.access.new_code()
        click.echo(f"Send this code to the bot in a chat app, and it is yours: {code[:4]}-{code[4:]}")


def _on_signals(stopped: asyncio.Event) -> asyncio.Event:
    """Set `stopped` at the first signal. A second one ends the process there and then, also when the loop hangs."""
    loop = asyncio.get_running_loop()
    signals: list[int] = []

    def stop(number: int, _: object) -> None:
        signals.append(number)
        if len(signals) > 1:
            os._exit(130)
        loop.call_soon_threadsafe(stopped.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def run_chat(config: Config, registry: Registry) -> int:
    """Talk to the bot that runs, or start one for this conversation alone."""
    return asyncio.run(_chat(config, registry))


async def _chat(config: Config, registry: Registry) -> int:
    from roost.chat import chat

    home = data_folder()
    past = None if config.bot.encryption else home / TYPED
    if in_use(home):
        return await chat(home / ADDRESS, past=past)
    bot = Bot(only_terminal(config, registry), registry, home)
    if watched():
        bot.brain.progress = Bar("Fetching the model")
    await bot.start()
    try:
        await bot.channels["terminal"].up.wait()
        return await chat(home / ADDRESS, past=past)
    finally:
        await bot.stop()


def only_terminal(config: Config, registry: Registry) -> Config:
    """The same bot without any way in but the terminal."""
    cls = registry.channels.take("terminal")
    channels = {"terminal": ChannelEntry(cls, cls.Config())}
    return replace(config, channels=channels, web=replace(config.web, enabled=False))
