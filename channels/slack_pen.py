"""What the bot writes, draws and takes back in Slack."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn, TypeVar

from roost.channels.slack_errors import BLOCKS, Refused
from roost.channels.slack_names import emoji_name
from roost.channels.slack_replies import content, files, plain, target, write
from roost.channels.slack_rich import Json
from roost.channels.slack_web import Api
from roost.errors import ChannelError, MaybeSent, NotSent, Undeliverable
from roost.values import Place, Reply, Sent
from roost.writing import escape

log = logging.getLogger(__name__)

MAX_NOTED = 1000
T = TypeVar("T")


class Pen:
    """`me` is the bot's user id. `newest` is the newest message in each place that is no thread."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.me = ""
        self.newest: dict[str, str] = {}
        self._begun: dict[str, tuple[Place, tuple[str, ...]]] = {}
        self._signs: dict[str, str] = {}
        self._reacted: dict[str, str] = {}
        self._asides: set[asyncio.Task[None]] = set()

    async def rest(self) -> None:
        """Let go of what is not done yet and does not matter."""
        for task in self._asides:
            task.cancel()
        await asyncio.gather(*self._asides, return_exceptions=True)

    async def send(self, place: Place, reply: Reply) -> Sent:
        uploads, parameters = await files(reply), write(place, reply)
        if uploads and not parameters["blocks"] and place.chat[0] in "UW":
            # A file cannot be given to a person, only to the conversation that a text opens.
            parameters = write(place, replace(reply, text=escape(", ".join(name for name, _ in uploads))))
        place, sent = self._begun.pop(reply.key, (place, ())) if reply.key else (place, ())
        try:
            if not sent and (parameters["blocks"] or not uploads):
                place, sent = await self._post(place, parameters, reply)
            if uploads:
                sent += tuple(await self._api.upload(target(place), uploads))
        except NotSent as error:
            self._halfway(place, reply, sent, error)
        finally:
            self._unsign(place)
        return Sent(place, sent)

    def _halfway(self, place: Place, reply: Reply, sent: tuple[str, ...], error: NotSent) -> NoReturn:
        """Remember that the text of a reply is out, so that sending it again sends the files only."""
        if sent and not reply.key:
            raise MaybeSent(f"{error} Its text is out already.") from None
        if sent:
            self._begun = noted(self._begun, reply.key, (place, sent))
        raise error

    async def _post(self, place: Place, parameters: Json, reply: Reply) -> tuple[Place, tuple[str, ...]]:
        """Post a message. The place is another one where it went to a person and not to a conversation."""
        try:
            answer = await self._write("chat.postMessage", parameters)
        except Refused as error:
            if not reply.ticket or error.word not in {"not_in_channel", "channel_not_found"}:
                raise
            if not reply.key:
                raise Undeliverable("A preview cannot be shown where the bot is no member.") from None
            await self._api.respond(
                reply.ticket, {"response_type": "ephemeral", "replace_original": False} | content(reply)
            )
            return place, ()
        return replace(place, chat=str(answer["channel"])), (str(answer["ts"]),)

    async def _write(self, method: str, parameters: Json) -> Json:
        """Write a message; without rich text, should Slack not take it."""
        try:
            return await self._api.call(method, parameters)
        except Refused as error:
            if error.word not in BLOCKS or not parameters["blocks"]:
                raise
            log.warning("Slack does not take the formatting of a message: %s", error)
            return await self._api.call(method, plain(parameters))

    async def edit(self, sent: Sent, reply: Reply) -> None:
        ids = [id for id in sent.ids if not is_file(id)]
        if not ids:
            raise Undeliverable("This message cannot be changed: it is a file, or its id is not known.")
        parameters = content(replace(reply, attachments=()))
        await self._write("chat.update", {"channel": sent.place.chat, "ts": ids[0]} | parameters)
        if reply.attachments:
            # A message cannot get a file by being edited, so the files follow it.
            await self.send(sent.place, replace(reply, text="", buttons=()))

    async def delete(self, sent: Sent) -> None:
        for id in sent.ids:
            with unless("message_not_found", "file_not_found", "file_deleted"):
                if is_file(id):
                    await self._api.call("files.delete", {"file": id})
                else:
                    await self._api.call("chat.delete", {"channel": sent.place.chat, "ts": id})

    async def react(self, place: Place, message_id: str, emoji: str) -> None:
        where = {"channel": place.chat, "timestamp": message_id}
        if not re.fullmatch(r"\d+\.\d+", message_id):
            raise Undeliverable("Only messages can be reacted to, not buttons or commands.")
        name = emoji_name(emoji) if emoji else None
        if emoji and name is None:
            raise Undeliverable(f"Slack has no name for the emoji '{emoji}'.")
        id = f"{place.chat}:{message_id}"
        for before in {self._reacted[id]} if id in self._reacted else set(await self._reactions(where)):
            if before != name:
                with unless("no_reaction", "message_not_found"):
                    await self._api.call("reactions.remove", where | {"name": before})
        self._reacted.pop(id, None)
        if name:
            with unless("already_reacted"):
                await self._api.call("reactions.add", where | {"name": name})
            self._reacted = noted(self._reacted, id, name)

    async def _reactions(self, where: Json) -> list[str]:
        """The names of what the bot has reacted with before, perhaps in an earlier run."""
        with contextlib.suppress(ChannelError):
            message = (await self._api.ask("reactions.get", where | {"full": "true"})).get("message", {})
            return [one["name"] for one in message.get("reactions", []) if self.me in one.get("users", [])]
        return []

    async def type(self, place: Place) -> None:
        """Slack shows the sign in a thread, be it one that has only begun with the question."""
        root = place.thread or self.newest.get(str(place))
        if root is None:
            raise Undeliverable("Slack shows that the bot is writing only below a message.")
        self._signs = noted(self._signs, str(place), root)
        await self._sign(place.chat, root, "is writing…")

    async def _sign(self, chat: str, root: str, status: str) -> None:
        """https://docs.slack.dev/reference/methods/assistant.threads.setStatus"""
        parameters = {"channel_id": chat, "thread_ts": root, "status": status}
        await self._api.call("assistant.threads.setStatus", parameters)

    def _unsign(self, place: Place) -> None:
        """Take the sign away where the answer does not: when it stands beside the question, not below it."""
        root = self._signs.pop(str(place), place.thread)
        if root == place.thread:
            return

        async def clear() -> None:
            with contextlib.suppress(ChannelError):
                await self._sign(place.chat, root, "")

        task = asyncio.create_task(clear())
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)


def is_file(id: str) -> bool:
    return id.startswith("F")


@contextlib.contextmanager
def unless(*words: str) -> Iterator[None]:
    """Pass over what Slack refuses with one of these words: it is as it should be already."""
    try:
        yield
    except Refused as error:
        if error.word not in words:
            raise


def noted(notes: dict[str, T], name: str, value: T) -> dict[str, T]:
    """Notes with one more; the newest are kept."""
    return dict([*notes.items(), (name, value)][-MAX_NOTED:])
