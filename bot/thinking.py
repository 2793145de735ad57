"""How a message is thought about: the route it takes, the brains that are asked, the tools they call on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from roost.asking import Asking, Pending, Permission
from roost.contracts import Brain, Call, Prompt, Turn
from roost.errors import BrainError, ModelError, RoostError
from roost.logs import redact
from roost.minds import table
from roost.prompt import Asked, build, cut, plan
from roost.results import asked as asked_for
from roost.results import fit
from roost.roles import RANK, Role, allows
from roost.routes import Route, choose
from roost.state import DAY
from roost.tools import Offer, result_text
from roost.values import Button, Message, Reply

if TYPE_CHECKING:
    from roost.bot import Bot

log = logging.getLogger("roost.brain")

UNREADABLE = (400, 422)  # a server cannot make use of what it was sent

T = TypeVar("T")
Show = Callable[[str], None]
NOT_ALLOWED = "The person said no. Do not try it again."
LONGEST = 500  # characters of a call that a person is shown
TOO_MANY = "Not done: these are too many at once."
NO_MORE = "No more tools for this answer: give it with what you know."
LEAST = 32  # tokens of a result
BEFORE_ANSWER = 2  # results keep half of what is left, so that a later one still has room


@dataclass(frozen=True, slots=True)
class Thought:
    """What came of it: `text` for the person, `note` to be said before it, and the turns to be remembered."""

    text: str
    turns: tuple[Turn, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """Thinking that stopped to ask for permission: the turns so far, and the calls it would make next."""

    turns: tuple[Turn, ...]
    said: str
    calls: tuple[Call, ...]
    text: str
    number: int


def question(calls: Sequence[Call]) -> str:
    """What a person is asked before tools are called."""
    lines = [f"- `{call.name}` {call.arguments[:LONGEST]}" for call in calls]
    return "\n".join(["I would like to do this:", "", *lines, "", "May I?"])


class Thinking:
    """Asks brains. It keeps nothing but which places have been told that another brain answers."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._told: dict[str, str] = {}

    async def about(self, message: Message, show: Show, pending: Pending | None = None) -> Thought:
        """Think about a message; `show` gets the growing answer. Raises RoostError, TimeoutError, or Permission.

        With `pending` it goes on where it stopped to ask for permission.

        A brain that fails before it has said anything is replaced by the next of its `fallback`.
        """
        route = await self.route(message)
        names = await self._bot.leaving.names(message, self._bot.minds.chain(route.brain))
        work = msgspec.convert(pending.work, Work) if pending else None
        one: Answering | None = None

        async def by(name: str) -> tuple[str, tuple[Turn, ...]]:
            nonlocal one
            one = Answering(self._bot, message, route, show, work)
            return await one.by(name)

        name, (text, turns) = await self._first(names, by, lambda: one is not None and bool(one.text))
        wanted = route.brain if route.brain in names else names[0]
        return Thought(text, turns, self._note(message, wanted, name))

    async def task(self, message: Message, task: str, text: str) -> str:
        """What a brain makes of a text, by the route of a message. Raises RoostError or TimeoutError."""
        route = await self.route(message)
        names = await self._bot.leaving.names(message, self._bot.minds.chain(route.brain))

        async def by(name: str) -> str:
            async with self._bot.minds.thinking(name) as brain:
                own = self._bot.leaving.between(brain, message.place, message.sender)
                answer, prompt = await _done(own, task, text)
                await spend(self._bot, message, own, prompt.turns, answer)
                return answer

        return (await self._first(names, by))[1]

    async def _first(
        self, names: Sequence[str], by: Callable[[str], Awaitable[T]], begun: Callable[[], bool] = lambda: False
    ) -> tuple[str, T]:
        """What the first brain gives that does not fail, and its name. What has `begun` is not begun again."""
        for name in names:
            try:
                found = await by(name)
            except (BrainError, ModelError) as error:
                self._bot.minds.note(name, failed=True)
                if begun() or name == names[-1]:
                    raise
                log.warning("The brain of %s fails, the next one is asked: %s", table(name), error)
                continue
            self._bot.minds.note(name, failed=False)
            return name, found
        raise AssertionError("A chain of brains has at least one.")

    async def route(self, message: Message) -> Route:
        routes, role = self._bot.config.routes, self._bot.role(message)
        if any(one.private is not None for one in routes):  # a long text takes its time to be searched
            return await asyncio.to_thread(choose, routes, message, role)
        return choose(routes, message, role)

    def _note(self, message: Message, wanted: str, name: str) -> str:
        """Said once in a place when another brain begins to answer there, and once when the first is back."""
        place = str(message.place)
        before = self._told.get(place, wanted)
        if name == before:
            return ""
        if name == wanted:
            del self._told[place]
            return f"({table(wanted)} is back.)\n\n"
        self._told[place] = name
        return f"({table(wanted)} does not answer now; this is {table(name)}.)\n\n"


async def spend(bot: Bot, message: Message, brain: Brain, read: Iterable[Turn], said: str) -> None:
    """Count the tokens that an answer has taken, where they count against a budget."""
    if bot.metered(message):
        tokens = sum([await brain.count(turn.text) for turn in read]) + await brain.count(said)
        await bot.spend(message, tokens)


async def weight(turns: Iterable[Turn], brain: Brain) -> int:
    """The tokens of turns, with the calls in them."""
    said = (text for turn in turns for text in (turn.text, *(call.arguments for call in turn.calls)))
    return sum([await brain.count(text) for text in said])


async def _done(brain: Brain, task: str, text: str) -> tuple[str, Prompt]:
    await brain.load()
    async with asyncio.timeout(brain.config.timeout):
        room = (await plan(brain, task)).longest
        turns = (Turn("system", task), Turn("user", await cut(text, room, brain))) if text else (Turn("user", task),)
        prompt = Prompt(turns, f"task {task}", min(brain.config.max_tokens, brain.context // 2))
        answer = "".join([piece async for piece in brain.think(prompt) if isinstance(piece, str)]).strip()
    if not answer:
        raise RoostError("I have no answer to that.")
    return answer, prompt


class Answering:
    """One answer by one brain, through as many rounds of tools as bot.toml allows."""

    def __init__(self, bot: Bot, message: Message, route: Route, show: Show, work: Work | None = None) -> None:
        self.text = work.text if work else ""
        self._bot = bot
        self._message = message
        self._route = route
        self._show = show
        self._turns: list[Turn] = list(work.turns) if work else []
        self._work = work

    async def by(self, name: str) -> tuple[str, tuple[Turn, ...]]:
        async with self._bot.minds.thinking(name) as one:
            brain = self._bot.leaving.between(one, self._message.place, self._message.sender)
            await brain.load()
            async with asyncio.timeout(brain.config.timeout):
                asked = await self._asked(brain)
                try:
                    await self._rounds(brain, asked)
                finally:
                    read = (*asked.prompt.turns, *self._turns)
                    await spend(self._bot, self._message, brain, read, self.text)
        text = self.text.strip()
        if not text:
            raise RoostError("I have no answer to that.")
        return text, (asked.turn, *self._turns, Turn("assistant", text, id=self._message.id))

    async def _asked(self, brain: Brain) -> Asked:
        bot, message = self._bot, self._message
        facts = [fact.text for _, fact in await bot.facts(message)]
        tools = tuple(one.tool for one in self._offers().values())
        system, free = bot.system_text(self._route.persona), not bot.config.bot.language
        asked = await build(brain, bot.memory, system, message, facts, tools, any_language=free)
        prompt = asked.prompt
        async for other in bot.dispatch.each("before_think", bot=bot, message=message, prompt=prompt):
            prompt = other
        return replace(asked, prompt=prompt)

    async def _rounds(self, brain: Brain, asked: Asked) -> None:
        prompt = replace(asked.prompt, turns=(*asked.prompt.turns, *self._turns))
        room = asked.work - await weight(self._turns, brain)
        for number in range(self._work.number if self._work else 1, self._bot.config.tools.rounds + 2):
            said, calls, allowed = self._stopped_at() or (*await self._listen(brain, prompt), None)
            if not calls:
                return
            last = number > self._bot.config.tools.rounds or (number > 1 and room < LEAST)
            if last and self.text.strip():
                return
            if allowed is None and not last:
                self._ask(number, said, calls, prompt)
            refusal = NO_MORE if last else NOT_ALLOWED if allowed is False else ""
            results = [refusal] * len(calls) if refusal else await self._results(calls, brain, room // BEFORE_ANSWER)
            turns = self._numbered(number, said, calls, results)
            room -= await weight(turns, brain)
            self._turns += turns
            prompt = replace(prompt, turns=(*prompt.turns, *turns))
            if last:
                break
        await self._listen(brain, prompt)

    def _stopped_at(self) -> tuple[str, list[Call], bool] | None:
        """The calls that the person was asked about, once, and what they said. Raises Asked when that is not clear."""
        if self._work is None:
            return None
        work, self._work = self._work, None
        asking: Asking = self._message._asking
        return work.said, list(work.calls), bool(asking.ask(question(work.calls), bool, (), DAY))

    def _ask(self, number: int, said: str, calls: Sequence[Call], prompt: Prompt) -> None:
        """Raises Permission when one of the calls is not to be made without the person's word."""
        offered, known = self._offers(), self._bot.registry.tools
        made = (call.name for turn in prompt.turns for call in turn.calls)
        strange = any(name not in known or known[name].outside for name in made)
        chosen = [offered[call.name] for call in calls if call.name in offered]
        if any(one.confirm or (one.effects and strange) for one in chosen):
            work = Work(tuple(self._turns), said, tuple(calls), self.text, number)
            asked = Reply(f"{self.text}{question(calls)}", buttons=(Button("yes", "yes"), Button("no", "no")))
            raise Permission(asked, msgspec.to_builtins(work))

    async def _listen(self, brain: Brain, prompt: Prompt) -> tuple[str, list[Call]]:
        before = len(self.text)
        calls: list[Call] = []
        try:
            await self._hear(brain, prompt, calls)
        except BrainError as error:
            if error.status not in UNREADABLE or not prompt.tools or calls or len(self.text) > before:
                raise
            log.warning("The brain does not take its tools, and is asked again without them: %s", error)
            await self._hear(brain, replace(prompt, tools=()), calls)
        said = self.text[before:]
        if calls and said.strip():
            self.text += "\n\n"
        return said, calls

    async def _hear(self, brain: Brain, prompt: Prompt, calls: list[Call]) -> None:
        async for piece in brain.think(prompt):
            if isinstance(piece, Call):
                calls.append(piece)
                continue
            self.text += piece
            self._show(self.text)

    def _numbered(self, number: int, said: str, calls: Sequence[Call], results: Sequence[str]) -> list[Turn]:
        """A round as turns with ids of their own, so that remembering them twice changes nothing."""
        id = f"{self._message.id}#{number}"
        turns = [Turn("assistant", said.strip(), id=id, calls=tuple(calls))]
        pairs = enumerate(zip(calls, results, strict=True), 1)
        return turns + [Turn("tool", text, id=f"{id}.{place}", call=call.id) for place, (call, text) in pairs]

    def _offers(self) -> dict[str, Offer]:
        return offers(self._bot, self._message, self._route.tools)

    async def _results(self, calls: Sequence[Call], brain: Brain, room: int) -> list[str]:
        """What came of each call; those that not even a short result has room for are not made."""
        made = calls[: max(1, room // LEAST)]
        results = [await self._result(call, brain, room // len(made)) for call in made]
        return results + [TOO_MANY] * (len(calls) - len(made))

    async def _result(self, call: Call, brain: Brain, tokens: int) -> str:
        weigh = partial(self._bot.memory.weigh, asked_for(self._message.text, call.arguments))
        return await fit(await self._carried_out(call), max(LEAST, tokens), brain.count, weigh)

    async def _carried_out(self, call: Call) -> str:
        """What came of a call. Whatever goes wrong is told to the brain, which can tell the person."""
        one = self._offers().get(call.name)
        if one is None:
            return f"There is no tool '{call.name[:80]}'."
        limit = asyncio.timeout(self._bot.config.tools.timeout)
        try:
            async with limit:
                with self._bot.dispatch.watch.of(one.plugin):
                    result = await one.run(call.arguments, self._message, self._bot)
                return result_text(result, one.outside)
        except TimeoutError:
            if not limit.expired():
                return "It failed: TimeoutError."
            log.error("The tool '%s' of '%s' took too long and was cut off.", call.name, one.plugin)
            return f"It took more than {self._bot.config.tools.timeout:g} seconds and was stopped."
        except RoostError as error:
            return f"It failed: {redact(str(error))}"
        except Exception as error:
            log.exception("The tool '%s' of '%s' failed.", call.name, one.plugin)
            return f"It failed: {type(error).__name__}."


def permits(needed: str, role: Role) -> bool:
    """Whether a word of `[tools] only` is a role that somebody has at least."""
    return needed in RANK and allows(role, needed)


def offers(bot: Bot, message: Message, names: Sequence[str] | None) -> dict[str, Offer]:
    """The tools that may be called for a message, by name, always in the same order; `names` are a route's."""
    table_, role = bot.config.tools, bot.role(message)
    here = {str(message.sender), str(message.place), str(replace(message.place, thread=""))}
    return {
        name: one
        for name, one in sorted(bot.registry.tools.items())
        if (one.standard or name in table_.allow)
        and name not in table_.deny
        and allows(role, one.role)
        and (name not in table_.only or any(who in here or permits(who, role) for who in table_.only[name]))
        and (names is None or name in names)
    }
