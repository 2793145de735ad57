"""The chat page in a browser: one WebSocket for every open page, served by the web face.

Frames are JSON objects (RFC 6455 text frames). From the page: `hello` (its conversation), `say` and `press`.
To the page: `history`, `message`, `edit`, `delete`, `typing`, `accepted` and `error`. A page sends what was
not accepted again, with the same id, so nothing is lost; the core drops doubles by that id.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from functools import cache, partial
from html import escape
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
from aiohttp import WSMsgType, web

from roost.contracts import Channel, ChannelConfig, Limits, Receive, Route, Said
from roost.dialects import HTML, render
from roost.values import Attachment, Button, Message, Person, Place, Reply, Sent
from roost.web import people

log = logging.getLogger(__name__)

HISTORY = 200
MAX_TEXT = 100_000
MAX_FRAME = 1024 * 1024
MAX_WAITING = 256
HEARTBEAT = 20.0
SHARE = 0.1  # of one processor, for rendering an answer that grows
LONGEST_PAUSE = 1.0
HELLO_SECONDS = 10.0
TYPING_SECONDS = 6

Frame = dict[str, Any]
Make = Callable[[], Frame]
Id = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{8,64}\Z")]
_LINK = re.compile(r"https?://|mailto:|tel:", re.IGNORECASE)


class Hello(msgspec.Struct, tag="hello", frozen=True):
    chat: Id


class Say(msgspec.Struct, tag="say", frozen=True):
    id: Id
    text: str


class Press(msgspec.Struct, tag="press", frozen=True):
    value: str
    id: Id = ""


_decoder: msgspec.json.Decoder[Hello | Say | Press] = msgspec.json.Decoder(Hello | Say | Press)


class BadFrame(ValueError):
    """What a page sent is none of its frames."""


def read(frame: str) -> Hello | Say | Press:
    """Read a frame from a page. Raises BadFrame with a sentence for whoever wrote that page."""
    try:
        return _decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadFrame(f"This frame cannot be read: {error}.") from None


def write(kind: str, id: str, reply: Reply, author: str) -> Frame:
    """Write a reply as a `message` or `edit` frame."""
    buttons = [_button(button) for button in reply.buttons]
    html = render(reply.text, HTML) + "".join(_link(attachment) for attachment in reply.attachments)
    return {"type": kind, "id": id, "bot": True, "author": author, "html": html, "buttons": buttons}


def _button(button: Button) -> Frame:
    if button.url:
        return {"text": button.text, "url": button.url if _LINK.match(button.url) else ""}
    return {"text": button.text, "value": button.value or button.text}


def _link(attachment: Attachment) -> str:
    if not _LINK.match(attachment.url):
        return f"<p>[{escape(attachment.kind)}: {escape(attachment.name)}]</p>"
    href, name = escape(attachment.url), escape(attachment.name or attachment.url)
    return f'<p><a href="{href}" rel="noopener noreferrer" target="_blank">{name}</a></p>'


class Page:
    """One open page. What waits for a slow one is bounded: past MAX_WAITING frames it is cut off.

    A frame is made when its turn comes, so an edit that another replaces meanwhile is never rendered. After an
    edit comes a pause: a long answer that grows may not take the processor from the brain that writes it.
    """

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._socket = socket
        self._request = request
        self._waiting: dict[str, Make] = {}
        self._count = 0
        self._news = asyncio.Event()

    def show(self, make: Make, edited: str = "") -> None:
        """Queue a frame. A newer edit of the message `edited` takes the place of one that still waits."""
        self._count += 1
        self._waiting[edited or f" {self._count}"] = make
        self._news.set()
        if len(self._waiting) > MAX_WAITING:
            self.cut()

    def cut(self) -> None:
        """Drop the connection at once, without a word that could wait as well."""
        self._waiting.clear()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Tell the page to come back later (RFC 6455, section 7.4.1: 1001 is 'going away')."""
        await self._socket.close(code=1001)

    async def write(self) -> None:
        """Send what waits, until cancelled or the page is gone."""
        try:
            while await self._news.wait():
                self._news.clear()
                while self._waiting:
                    await self._write_next()
        except Exception as error:
            if not isinstance(error, ConnectionError):
                log.error("A chat page could not be written to: %s.", type(error).__name__)
            self.cut()

    async def _write_next(self) -> None:
        slot = next(iter(self._waiting))
        began = time.perf_counter()
        text = msgspec.json.encode(self._waiting.pop(slot)()).decode()
        spent = time.perf_counter() - began
        await self._socket.send_str(text)
        if not slot.startswith(" "):
            await asyncio.sleep(min(spent / SHARE, LONGEST_PAUSE))


class WebChat(Channel):
    """The chat page. Whoever reaches it is at the machine or has logged in: it belongs to the owner."""

    local: ClassVar[bool] = True
    limits = Limits(max_text=MAX_TEXT, markup=HTML, buttons=20, stream=0.05, idempotent=True)

    def __init__(self, name: str, config: ChannelConfig, host: Any) -> None:
        super().__init__(name, config, host)
        self._pages: dict[str, set[Page]] = {}
        self._receive: Receive | None = None

    # ------------------------------------------------------------------------------------- channel

    async def run(self, receive: Receive) -> None:
        """Take part until cancelled; the web face does the listening."""
        self._receive = receive
        try:
            while True:
                self.host.pulse()
                await asyncio.sleep(HEARTBEAT)
        finally:
            self._receive = None
            pages = [page for pages in self._pages.values() for page in pages]
            await asyncio.gather(*(page.close() for page in pages), return_exceptions=True)

    async def send(self, place: Place, reply: Reply) -> Sent:
        """Show a reply on every page of this conversation; where none is open, history has it later."""
        id = reply.key or uuid.uuid4().hex
        self._show_reply("message", place, id, reply)
        return Sent(place, (id,))

    async def edit(self, sent: Sent, reply: Reply) -> None:
        self._show_reply("edit", sent.place, sent.ids[0], reply)

    async def delete(self, sent: Sent) -> None:
        for id in sent.ids:
            self._show(sent.place.chat, {"type": "delete", "id": id})

    async def type(self, place: Place) -> None:
        self._show(place.chat, {"type": "typing", "seconds": TYPING_SECONDS})

    def routes(self) -> Sequence[Route]:
        here = Path(__file__).parent
        page = (here / "webchat.html").read_text(encoding="utf-8")
        page = page.replace("{name}", escape(self.host.bot_name))
        return (
            _file("/", page, "text/html"),
            _file("/chat.css", (here / "webchat.css").read_text(encoding="utf-8"), "text/css"),
            _file("/chat.js", (here / "webchat.js").read_text(encoding="utf-8"), "text/javascript"),
            Route("GET", "/ws", self._serve, people),
        )

    def _show_reply(self, kind: str, place: Place, id: str, reply: Reply) -> None:
        make = cache(partial(write, kind, id, reply, self.host.bot_name))
        for page in self._pages.get(place.chat, ()):
            page.show(make, edited=id if kind == "edit" else "")

    def _show(self, chat: str, frame: Frame, but: Page | None = None) -> None:
        for page in self._pages.get(chat, set()) - {but}:
            page.show(lambda: frame)

    # ------------------------------------------------------------------------------------- pages

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._receive is None:
            raise web.HTTPServiceUnavailable(text="The chat page is starting. Try again in a moment.")
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT, max_msg_size=MAX_FRAME, timeout=1.0)
        await socket.prepare(request)
        try:
            if chat := await _greet(socket):
                await self._join(chat, Page(socket, request), socket)
        except ConnectionError:
            pass  # The page went away while it was being written to.
        except Exception as error:
            # The page comes again and says what was not accepted; the error's own text may quote it.
            log.error("A page of the channel '%s' was cut off: %s.", self.name, type(error).__name__)
        await socket.close()
        return socket

    async def _join(self, chat: str, page: Page, socket: web.WebSocketResponse) -> None:
        """Be one page of a conversation until it leaves. What is said meanwhile waits behind the history."""
        self._pages.setdefault(chat, set()).add(page)
        writing: asyncio.Task[None] | None = None
        try:
            await socket.send_str(await self._history(chat))
            if self._receive is None:
                return
            writing = asyncio.create_task(page.write())
            await self._listen(chat, page, socket)
        finally:
            self._leave(chat, page)
            if writing is not None:
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    def _leave(self, chat: str, page: Page) -> None:
        self._pages[chat].discard(page)
        if not self._pages[chat]:
            del self._pages[chat]

    async def _history(self, chat: str) -> str:
        lines = []
        for said in await self.host.history(Place(self.name, chat), HISTORY):
            lines.append(_line(said))
            # Rendering a long history takes a while; others need not wait for it.
            await asyncio.sleep(0)
        return msgspec.json.encode({"type": "history", "messages": lines}).decode()

    async def _listen(self, chat: str, page: Page, socket: web.WebSocketResponse) -> None:
        async for frame in socket:
            if self._receive is None:
                return
            self.host.pulse()
            try:
                said = read(frame.data if frame.type is WSMsgType.TEXT else "")
            except BadFrame as error:
                _complain(page, "", str(error))
                continue
            if not isinstance(said, Hello):
                await self._take(chat, page, said, self._receive)

    async def _take(self, chat: str, page: Page, said: Say | Press, receive: Receive) -> None:
        """Hand over what a person said, and tell the page once that is safe."""
        text = said.text if isinstance(said, Say) else said.value
        if problem := _problem(text):
            _complain(page, said.id, problem)
            return
        id, at = said.id or uuid.uuid4().hex, time.time()
        sender = Person(self.name, "owner")
        message = Message(id=id, place=Place(self.name, chat), sender=sender, text=text, at=at)
        fresh = await receive(message)
        page.show(lambda: {"type": "accepted", "id": id})
        if fresh:
            frame = {"type": "message", "id": id, "bot": False, "author": "You", "text": text, "at": at}
            self._show(chat, frame, but=page)


def _complain(page: Page, id: str, text: str) -> None:
    page.show(lambda: {"type": "error", "id": id, "text": text})


def _problem(text: str) -> str:
    if not text.strip():
        return "There is nothing in this message."
    if len(text) > MAX_TEXT:
        return f"This message has {len(text)} characters; at most {MAX_TEXT} fit."
    return ""


def _line(said: Said) -> Frame:
    frame: Frame = {"id": said.id, "bot": said.bot, "author": said.author, "at": said.at}
    return frame | ({"html": render(said.text, HTML)} if said.bot else {"text": said.text})


async def _greet(socket: web.WebSocketResponse) -> str:
    """The conversation a page names in its first frame; empty when it says something else, or nothing."""
    try:
        hello = read(await socket.receive_str(timeout=HELLO_SECONDS))
    except (BadFrame, TypeError, TimeoutError):
        return ""
    return hello.chat if isinstance(hello, Hello) else ""


def _file(path: str, text: str, content_type: str) -> Route:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=content_type, charset="utf-8")

    return Route("GET", path, answer, people)
