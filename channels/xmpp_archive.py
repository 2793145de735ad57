"""What was said while the bot was away, from the archives of the account and of its rooms.

https://xmpp.org/extensions/xep-0313.html
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slixmpp import JID
from slixmpp.exceptions import IqError

from roost.channels.xmpp_read import Envelope, timestamp
from roost.channels.xmpp_stream import Stream
from roost.durable import Kept

log = logging.getLogger(__name__)

PAGE = 50  # messages asked for at once
ANSWER = 60  # seconds that a server has to give a page


@dataclass(slots=True)
class Archive:
    """Messages kept by `address`. What comes while it is read is `held`, so that the order stays."""

    address: str
    there: bool = True
    held: list[Envelope] | None = None


class Archives:
    """The archives of one account by address, and how far each was read: the id and time of a message."""

    def __init__(self, name: str, kept: Kept, take: Callable[[Envelope, str], None]) -> None:
        self._name = name
        self._kept = kept
        self._take = take
        self._cursors: dict[str, list[Any]] = dict(kept.all())
        self._all: dict[str, Archive] = {}
        self._account = ""

    def begin(self, account: str) -> None:
        """A new session: from now on messages are held until their archive has been read."""
        self._account = account
        self._all.clear()
        self.open(account)

    def open(self, address: str, there: bool = True) -> None:
        self._all[address] = Archive(address, there, [])

    def drop(self, address: str) -> None:
        self._all.pop(address, None)

    def since(self, address: str) -> datetime | None:
        """When the newest message was said that is safe; None for an archive that is new here."""
        _, at = self._cursors.get(address, ("", 0.0))
        return datetime.fromtimestamp(at, UTC) if at else None

    def put(self, envelope: Envelope, address: str) -> None:
        """A message came: take it, or hold it until its time."""
        archive = self._all.get(address)
        if archive is None or archive.held is None:
            self._take(envelope, address)
        else:
            archive.held.append(envelope)

    def move(self, address: str, id: str, at: float) -> None:
        """Everything up to this message is safe. One without an id counts where there are no ids at all."""
        archive = self._all.get(address)
        if id or (archive is not None and not archive.there):
            self._cursors[address] = [id, at]

    def save(self) -> None:
        """Write down how far the archives are read. What is read twice after a crash is known by its id."""
        if self._cursors != self._kept.all():
            self._kept.replace(self._cursors)

    async def catch_up(self, stream: Stream, address: str) -> None:
        """Take what an archive has behind the cursor, then what came meanwhile. An archive begins where it is found.

        A room without one tells what was said last to everybody who comes in (XEP-0045, section 7.2.13).
        """
        archive = self._all[address]
        try:
            if archive.there and address not in self._cursors:
                found, _ = await self._page(stream, archive, {"before": "", "max": 1})
                self._cursors[address] = [found[-1].archived, found[-1].at] if found else ["", 0.0]
            elif archive.there:
                await self._read_on(stream, archive)
        except IqError as error:
            archive.there = False
            log.info("%s: '%s' keeps no archive (%s).", self._name, address, error.condition)
        held, archive.held = archive.held or [], None
        # Stamps have whole seconds; what comes twice is known by its key.
        begun = math.floor(self._cursors.setdefault(address, ["", time.time()])[1])
        for envelope in held:
            if archive.there or address == self._account or not envelope.delayed or envelope.delayed >= begun:
                self._take(envelope, address)

    async def _read_on(self, stream: Stream, archive: Archive) -> None:
        last, at = self._cursors[archive.address]
        start = 0.0
        while True:
            behind = {"after": last} if last else {}
            try:
                found, complete = await self._page(stream, archive, {"max": PAGE} | behind, start)
            except IqError as error:
                if error.condition != "item-not-found" or not last:
                    raise
                last, start = "", at  # the archive has forgotten the message, but not its time
                continue
            for envelope in found:
                self._take(envelope, archive.address)
            if complete or not found:
                return
            last, start = found[-1].archived, 0.0

    async def _page(
        self, stream: Stream, archive: Archive, rsm: dict[str, Any], start: float = 0.0
    ) -> tuple[list[Envelope], bool]:
        """Some messages of an archive, the oldest first, and whether they are the last."""
        answer = await stream.xmpp.plugin["xep_0313"].retrieve(
            jid=None if archive.address == self._account else JID(archive.address),
            start=datetime.fromtimestamp(start, UTC) if start else None,
            rsm=rsm,
            timeout=ANSWER,
        )
        found = list(envelopes(answer["mam"]["results"], {"", self._account, archive.address}))
        return found, answer["mam_fin"].xml.get("complete") == "true"


def envelopes(results: Any, trusted: set[str]) -> Iterator[Envelope]:
    """The messages in the results of a question, if who was asked gave them."""
    for result in results:
        forwarded = result["mam_result"]["forwarded"].xml
        inner, delay = forwarded.find("{jabber:client}message"), forwarded.find("{urn:xmpp:delay}delay")
        if inner is not None and delay is not None and result["from"].bare in trusted:
            yield Envelope(inner, result["mam_result"]["id"], timestamp(delay.get("stamp", "")))
