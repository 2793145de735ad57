"""Every hook, with its exact signature. Host first, subject second.

`register_*` hooks are called once, at load. The others happen; they may be `def` or `async def`, are called
in the order of their plugins, each isolated from the next plugin's failure and limited in time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from roost.bot import Bot
    from roost.commands import Command
    from roost.contracts import Brain, Memory, Prompt
    from roost.hearing import Hearing
    from roost.jobs import Job
    from roost.tools import Offer
    from roost.values import Event, Message, Place, Reply

PROJECT = "roost"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_channels(register: Callable[..., None]) -> None:
    """Offer channels: `register(kind, cls)`, or `register(kind, "module:Class")` to import it only when used.

    With `always=True` it runs without a table in bot.toml, unless that says `enabled = false`.
    """


@hookspec
def register_brains(register: Callable[[str, type[Brain] | str], None]) -> None:
    """Offer brains: `register(name, cls)` or `register(name, "module:Class")`."""


@hookspec
def register_memories(register: Callable[[str, type[Memory] | str], None]) -> None:
    """Offer memories: `register(name, cls)` or `register(name, "module:Class")`."""


@hookspec
def register_hearings(register: Callable[[str, type[Hearing] | str], None]) -> None:
    """Offer engines that turn speech into text: `register(name, cls)` or `register(name, "module:Class")`."""


@hookspec
def register_commands(register: Callable[[Command], None]) -> None:
    """Offer commands built at load time; `@command` on a function does the same."""


@hookspec
def register_tools(register: Callable[[Offer], None]) -> None:
    """Offer tools built at load time; `@tool` on a function does the same."""


@hookspec
def register_jobs(register: Callable[[Job], None]) -> None:
    """Offer scheduled jobs built at load time; `@job` on a function does the same."""


@hookspec
def register_cli(cli: click.Group) -> None:
    """Add subcommands to the `roost` command."""


@hookspec
def startup(bot: Bot) -> Any:
    """The bot is up: channels are starting."""


@hookspec
def shutdown(bot: Bot) -> Any:
    """The bot is about to stop."""


@hookspec
def on_message(bot: Bot, message: Message) -> Any:
    """A person said something. Return a str or Reply to answer it, None to pass it on. First answer wins."""


@hookspec
def on_overheard(bot: Bot, message: Message) -> Any:
    """Something was said that gets no answer: talk in a group that is not for the bot, or a message's new text."""


@hookspec
def on_event(bot: Bot, event: Event) -> Any:
    """Something happened in a place without being said."""


@hookspec
def before_think(bot: Bot, message: Message, prompt: Prompt) -> Any:
    """A prompt is ready. Return another Prompt to replace it, None to leave it."""


@hookspec
def before_send(bot: Bot, place: Place, reply: Reply) -> Any:
    """A reply is about to be written to the outbox. Return another Reply to replace it, None to leave it."""


@hookspec
def on_error(bot: Bot, error: Exception, message: Message | None) -> Any:
    """Something failed while a message was being answered, or in a job."""
