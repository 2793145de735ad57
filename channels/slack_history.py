"""What was said while nobody listened.

Slack brings an event again for about five minutes, and then no more
(https://docs.slack.dev/apis/events-api#retries); what came after that is read from the history of the places where
the bot was spoken to last.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

from roost.channels.slack_rich import Json
from roost.channels.slack_web import Api
from roost.durable import Kept
from roost.errors import ChannelError, Undeliverable

log = logging.getLogger(__name__)

PLACES = 40  # places that are looked at: Slack allows about 50 looks a minute
PAGES, PAGE = 5, 200
SAVE = 30.0  # seconds between two notes on disk; what is read twice is dropped as a duplicate
SOON = 0.5  # seconds until a place is on disk in which nothing was said before


class History:
    """Remembers the newest message of every place, `C1` or `C1/171.2` for a thread, in a file."""

    def __init__(self, api: Api, path: Path) -> None:
        self._api = api
        self._kept = Kept(path)
        self._marks: dict[str, str] = {}
        self._saved = 0.0
        self._later: asyncio.TimerHandle | None = None

    def note(self, place: str, ts: str) -> None:
        """A message is safe."""
        marks = self._marks or dict(self._kept.all())
        fresh = place not in marks
        newest = max(ts, marks.pop(place, ts), key=float)
        self._marks = dict([*marks.items(), (place, newest)][-PLACES:])
        if time.monotonic() - self._saved > SAVE:
            self.save()
        elif fresh and self._later is None:
            # The old note of a place does for reading on after a crash, but there has to be one.
            self._later = asyncio.get_running_loop().call_later(SOON, self.save)

    def save(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._marks:
            self._saved = time.monotonic()
            self._kept.replace(self._marks)

    async def missed(self) -> AsyncIterator[tuple[str, Json]]:
        """The chat and the message, oldest first in each place. A place that cannot be read is passed over."""
        for place, mark in list((self._marks or self._kept.all()).items()):
            chat, _, root = place.partition("/")
            try:
                messages = await self._since(chat, root, str(mark))
            except Undeliverable as error:
                log.debug("The history of %s cannot be read: %s", place, error)
                continue
            except ChannelError as error:
                log.info("What was said while I was away is not read to its end: %s", error)
                return
            for message in sorted(messages, key=lambda one: float(one["ts"])):
                yield chat, message

    async def _since(self, chat: str, root: str, mark: str) -> list[Json]:
        """https://docs.slack.dev/reference/methods/conversations.history and conversations.replies"""
        method = "conversations.replies" if root else "conversations.history"
        asked = {"channel": chat, "oldest": mark, "limit": str(PAGE)} | ({"ts": root} if root else {})
        found: list[Json] = []
        for _ in range(PAGES):
            answer = await self._api.ask(method, asked)
            found += [one for one in answer.get("messages", ()) if one.get("ts") not in {None, root}]
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                break
            asked = asked | {"cursor": cursor}
        return found
