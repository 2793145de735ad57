"""Polls: `/poll Lunch? pizza | sushi`; a press on a button, or `/vote 3 2`, votes; `/vote 3` shows the result."""

from roost import Button, Message, Reply, command

MOST = 10  # choices


@command
async def poll(bot, message: Message, text: str) -> Reply | str:
    """Ask everybody here: the question, a question mark, then choices between `|`."""
    question, mark, rest = text.partition("?")
    choices = [one.strip() for one in rest.split("|") if one.strip()]
    if not mark or not 2 <= len(choices) <= MOST:
        return f"Write it like this: `/poll Lunch? pizza | sushi`, with 2 to {MOST} choices."
    shelf = bot.shelf("poll")
    key = str(max((int(one.key) for one in await shelf.all(message.place) if not one.person), default=0) + 1)
    await shelf.put(key, {"question": f"{question.strip()}?", "choices": choices}, message.place)
    buttons = tuple(Button(choice, f"/vote {key} {number}") for number, choice in enumerate(choices, 1))
    return Reply(f"**{question.strip()}?** (poll {key})", buttons=buttons)


@command
async def vote(bot, message: Message, poll: int, choice: int | None = None) -> str:
    """Vote in a poll by the number of your choice, or show how it stands."""
    shelf = bot.shelf("poll")
    asked = await shelf.get(str(poll), message.place)
    if asked is None:
        return f"There is no poll {poll} here."
    if choice is not None and not 0 < choice <= len(asked["choices"]):
        return f"Poll {poll} has the choices 1 to {len(asked['choices'])}."
    if choice is not None:
        await shelf.put(str(poll), choice, message.place, message.sender)
    votes = [one.value for one in await shelf.all(message.place) if one.person and one.key == str(poll)]
    lines = [f"{name}: {votes.count(number)}" for number, name in enumerate(asked["choices"], 1)]
    return f"**{asked['question']}** " + ", ".join(lines)
