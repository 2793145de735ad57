"""The commands about what is remembered: facts, old turns, pins, compaction, forgetting, being the same person."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from roost.commands import command, shorten
from roost.contracts import Fact, Hit, Turn
from roost.tools import tool
from roost.values import Message

if TYPE_CHECKING:
    from roost.bot import Bot

SHOWN = 300  # characters of a turn that a search shows


@command
async def remember(bot: Bot, message: Message, fact: str) -> str:
    """Remember a fact about you (in a group: about the group) until you take it back."""
    noted = await bot.memory.note((await bot.owners(message))[0], fact)
    number = [one for _, one in await bot.facts(message)].index(noted) + 1
    return f"Remembered, as number {number}."


@command
async def facts(bot: Bot, message: Message) -> str:
    """List the facts I was asked to remember."""
    known = await bot.facts(message)
    if not known:
        return f"There are none. `{bot.config.bot.prefix}remember I am allergic to nuts` makes one."
    return "\n".join(f"{number}. {fact.text}" for number, (_, fact) in enumerate(known, 1))


@command
async def forget(bot: Bot, message: Message, what: str) -> str:
    """Forget a fact by its number, `all` of this conversation and your facts, or `me` everywhere."""
    if what == "all":
        return await _forget_all(bot, message)
    if what == "me":
        return await _forget_me(bot, message)
    known = await bot.facts(message)
    if not what.isdecimal() or not 0 < int(what) <= len(known):
        prefix = bot.config.bot.prefix
        return f"There is no fact '{shorten(what)}'. `{prefix}facts` lists them; `all` and `me` are the other choices."
    owner, fact = known[int(what) - 1]
    await bot.memory.drop(owner, fact.id)
    return f"Forgotten: {shorten(fact.text)}"


async def _forget_all(bot: Bot, message: Message) -> str:
    known = await bot.facts(message)
    turns = await bot.memory.forget(message.place)
    await bot.journal.forget(message.place)
    await _drop(bot, known)
    return f"Forgotten: {amount(turns, 'turn')} and {amount(len(known), 'fact')}."


async def _forget_me(bot: Bot, message: Message) -> str:
    """Everything that a person said anywhere, under whatever name, and the answers to it."""
    persons = await bot.people.others(str(message.sender))
    known = [(person, fact) for person in persons for fact in await bot.memory.facts(person)]
    turns = 0
    for person in persons:
        turns += await bot.memory.forget_person(person)
        await bot.journal.forget_person(person)
    await _drop(bot, known)
    return f"Forgotten everywhere: {amount(turns, 'turn')} and {amount(len(known), 'fact')}."


def amount(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


async def _drop(bot: Bot, known: Sequence[tuple[str, Fact]]) -> None:
    for owner, fact in known:
        await bot.memory.drop(owner, fact.id)


@command
async def recall(bot: Bot, message: Message, words: str) -> str:
    """Search what was said in this conversation, long ago too."""
    hits = await bot.memory.search(message.place, words)
    return "\n\n".join(map(_quoted, hits)) if hits else f"I find nothing about '{shorten(words)}'."


@tool(standard=False)
async def search_memory(bot: Bot, message: Message, words: str) -> str:
    """Search what was said earlier in this conversation, long ago too.

    words: the words to look for
    """
    hits = await bot.memory.search(message.place, words)
    return "\n\n".join(map(_quoted, hits)) if hits else "Nothing was said about that."


@tool(standard=False)
async def remember_fact(bot: Bot, message: Message, fact: str) -> str:
    """Note a fact that the person wants to be remembered for good.

    fact: one short sentence
    """
    noted = await bot.memory.note((await bot.owners(message))[0], fact)
    return f"Noted: {noted.text}"


def _quoted(hit: Hit) -> str:
    first = next((turn.at for turn in hit.turns if turn.at), 0.0)
    day = f"**{datetime.fromtimestamp(first).astimezone():%Y-%m-%d}**\n" if first else ""
    return day + "\n".join(f"> {line}" for turn in hit.turns for line in _lines(turn))


def _lines(turn: Turn) -> Iterator[str]:
    who = turn.author or ("me" if turn.role == "assistant" else turn.role)
    yield from f"{who}: {shorten(turn.text, SHOWN)}".splitlines()


@command
async def pin(bot: Bot, message: Message, what: Literal["on", "off"] = "on") -> str:
    """Keep the message you reply to in mind for good; `off` lets go of it."""
    if message.quote is None:
        return f"Reply to the message with `{bot.config.bot.prefix}pin`."
    id = message.quote.id
    said = await bot.memory.pin(message.place, id, what == "on")
    if not said and (question := await bot.journal.answered(message.place, id)) is not None:
        said = await bot.memory.pin(message.place, question, what == "on", "assistant")
    if not said:
        return "That message is not in my memory."
    return "I keep it in mind." if what == "on" else "I let go of it."


@command
async def compact(bot: Bot, message: Message) -> str:
    """Fold the older part of this conversation into a summary."""
    async with bot.thinking() as brain:
        await brain.load()
        report = await bot.memory.compact(message.place, bot.leaving.for_summary(brain, message.place))
    if report is None:
        return "There is nothing to fold yet."
    if not report.done:
        return f"That did not work, so nothing was changed: {report.note}"
    what = "an extract" if report.action == "extract" else "a summary"
    saved = f"{report.turns} turns became {what}: {report.tokens_before} tokens are {report.tokens_after}."
    return f"{saved} ({report.note})" if report.note else saved
