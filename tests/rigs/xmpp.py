"""XMPP: Prosody and ejabberd. Ann and Bob are a client of our own that knows elements, not what the channel knows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, XMLPullParser, tostring
from xml.sax.saxutils import quoteattr

from kit.gate import Gate
from kit.rig import LIMIT, Chat, Rig, Shown
from servers import ejabberd
from servers.ejabberd import Ejabberd
from servers.prosody import HOST, NUMBERS, PASSWORD, PROGRAMS, Prosody, prosody

C = "{jabber:client}"
SID = "{urn:xmpp:sid:0}"
REPLY = "{urn:xmpp:reply:0}reply"
REPLACE = "{urn:xmpp:message-correct:0}replace"
RETRACT = "{urn:xmpp:message-retract:1}retract"
REACTIONS = "{urn:xmpp:reactions:0}reactions"
OPENING = f"<?xml version='1.0'?><stream:stream to='{HOST}' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
IDS = itertools.count(1)


class Client:
    """A person's client. `stanzas` is everything that came; `took` is called with each."""

    def __init__(self, address: str, took: Callable[[Element], None] = lambda stanza: None) -> None:
        self.address = address
        self.took = took
        self.stanzas: list[Element] = []
        self.news = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self, port: int) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._listening = asyncio.create_task(self._listen())
        name = self.address.partition("@")[0]
        secret = base64.b64encode(f"\0{name}\0{PASSWORD}".encode()).decode()
        await self.ask(
            f"{OPENING}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{secret}</auth>", "success"
        )
        await self.ask(OPENING, "features")
        await self.iq("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>", type="set")
        self.send("<presence/>")

    def send(self, stanza: str | Element) -> None:
        assert self._writer is not None
        raw = stanza if isinstance(stanza, str) else tostring(stanza, encoding="unicode")
        self._writer.write(raw.encode())

    async def _listen(self) -> None:
        parser, depth = XMLPullParser(("start", "end")), 0
        with contextlib.suppress(OSError):
            while data := await self._reader.read(1 << 16):
                if depth <= 1 and b"<?xml" in data[:10]:
                    parser, depth = XMLPullParser(("start", "end")), 0
                parser.feed(data)
                for event, element in parser.read_events():
                    depth += 1 if event == "start" else -1
                    if event == "end" and depth == 1:
                        self.stanzas.append(element)
                        self.took(element)
                        self.news.set()

    async def seen(self, wanted: Callable[[Element], Any], start: int = 0) -> Element:
        """The first stanza that is wanted, from the place `start` on, once there is one."""
        async with asyncio.timeout(LIMIT):
            while True:
                self.news.clear()
                for stanza in self.stanzas[start:]:
                    if wanted(stanza):
                        return stanza
                start = len(self.stanzas)
                await self.news.wait()

    async def ask(self, stanza: str | Element, name: str) -> Element:
        """Send something, and wait for the next stanza of this name."""
        start = len(self.stanzas)
        self.send(stanza)
        return await self.seen(lambda one: one.tag.endswith(f"}}{name}"), start)

    async def iq(self, payload: str, type: str = "get", to: str = "") -> Element:
        id, start = f"iq{next(IDS)}", len(self.stanzas)
        target = f" to={quoteattr(to)}" if to else ""
        self.send(f"<iq type='{type}' id='{id}'{target}>{payload}</iq>")
        return await self.seen(lambda one: one.get("id") == id and one.tag == f"{C}iq", start)

    async def join(self, room: str, nick: str) -> None:
        start = len(self.stanzas)
        self.send(f"<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
        await self.seen(lambda one: one.find(f"{C}subject") is not None, start)

    async def close(self) -> None:
        if self._writer is None:
            return
        with contextlib.suppress(OSError):
            self.send("</stream:stream>")
            await asyncio.wait([self._listening], timeout=LIMIT)
        self._listening.cancel()
        self._writer.close()
        await asyncio.gather(self._listening, return_exceptions=True)


def message(to: str, type: str = "chat", body: str = "", *children: Element, id: str = "") -> Element:
    stanza = Element(f"{C}message", to=to, type=type, id=id or f"m{next(IDS)}")
    if body:
        SubElement(stanza, f"{C}body").text = body
    stanza.extend(children)
    return stanza


class XmppRig(Rig):
    kind = "xmpp"
    written_by_others = True
    sending = b"<body>echo"
    programs = PROGRAMS

    @property
    def server(self) -> str:
        return self._running().version

    def _running(self) -> Prosody | Ejabberd:
        return prosody()

    async def start(self) -> None:
        number = next(NUMBERS)
        server = await asyncio.to_thread(self._running)
        self.bot = server.account(f"roost{number}")
        self.room = f"tea{number}@conference.{HOST}"
        self._shown: dict[Chat, list[Shown]] = {"direct": [], "group": []}
        self._names: dict[str, str] = {}
        self._typed = 0
        self._reactions: dict[str, list[str]] = {}
        self.there = asyncio.Event()
        self.ann = Client(server.account(f"ann{number}"), self._took)
        self.bob = Client(server.account(f"bob{number}"))
        for one, nick in ((self.ann, "Ann"), (self.bob, "Bob")):
            await one.connect(server.port)
            await one.join(self.room, nick)
        self.gate = await Gate("127.0.0.1", server.port).__aenter__()

    async def stop(self) -> None:
        await self.ann.close()
        await self.bob.close()
        if self.gate is not None:
            await self.gate.__aexit__()

    def table(self) -> dict[str, Any]:
        assert self.gate is not None
        return {
            "jid": self.bot,
            "password": PASSWORD,
            "host": "127.0.0.1",
            "port": self.gate.port,
            "tls": "off",
            "nick": "Roost",
            "rooms": [self.room],
            "media_hosts": ["127.0.0.1"],
        }

    def bad_table(self) -> dict[str, Any]:
        return self.table() | {"password": "wrong-horse"}

    # What Ann sees

    def _took(self, stanza: Element) -> None:
        sender = stanza.get("from", "")
        if stanza.tag == f"{C}presence" and sender == f"{self.room}/Roost":
            (self.there.clear if stanza.get("type") == "unavailable" else self.there.set)()
        chat: Chat = "group" if sender.startswith(self.room) else "direct"
        if stanza.tag != f"{C}message" or stanza.get("type") == "error":
            return
        if sender not in {f"{self.room}/Roost", f"{self.room}/Ann"} and not sender.startswith(self.bot):
            return
        reactions = stanza.find(REACTIONS)
        if sender == f"{self.room}/Ann":
            self._names[stanza.get("id", "")] = room_id(stanza, self.room)
        elif reactions is not None:
            self._reactions[reactions.get("id", "")] = [one.text or "" for one in reactions]
        elif stanza.find("{http://jabber.org/protocol/chatstates}composing") is not None:
            self._typed += 1
        elif stanza.find(f"{C}body") is not None:
            self._show(
                stanza, self._shown[chat], room_id(stanza, self.room) if chat == "group" else stanza.get("id", "")
            )

    def _show(self, stanza: Element, shown: list[Shown], id: str) -> None:
        replaced, retracted, reply = (stanza.find(one) for one in (REPLACE, RETRACT, REPLY))
        body = stanza.findtext(f"{C}body", "")
        files: tuple[bytes, ...] = ()
        if (url := stanza.findtext("{jabber:x:oob}x/{jabber:x:oob}url")) is not None:
            assert body == url, "clients show a file only where the text is its address"
            with urllib.request.urlopen(url) as answer:
                files = (answer.read(),)
        new = Shown(id, body, reply.get("id", "") if reply is not None else "", files=files)
        if retracted is not None:
            shown[:] = [one for one in shown if one.id != retracted.get("id")]
        elif replaced is not None:
            places = [place for place, one in enumerate(shown) if one.id == replaced.get("id")]
            assert places, "only what was said before can be replaced"
            shown[places[0]] = Shown(shown[places[0]].id, body)
        else:
            shown.append(new)

    async def shown(self, chat: Chat = "direct") -> Sequence[Shown]:
        return list(self._shown[chat])

    async def news(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ann.news.wait(), 0.05)
        self.ann.news.clear()

    async def reactions(self, id: str) -> Sequence[str]:
        return self._reactions.get(id, [])

    async def typed(self) -> int:
        return self._typed

    # What Ann does

    async def say(
        self, text: str, chat: Chat = "direct", *, mention: bool = False, quote: str = "", thread: str = ""
    ) -> str:
        named = f"Roost: {text}" if mention else text
        to = f"{self.room}/Roost" if chat == "group" else self.bot
        children = [Element(REPLY, to=to, id=quote)] if quote else []
        if chat == "direct":
            stanza = message(self.bot, "chat", named, *children)
            stanza.append(Element(f"{SID}origin-id", id=stanza.get("id", "")))
            self.ann.send(stanza)
            return stanza.get("id", "")
        await asyncio.wait_for(self.there.wait(), LIMIT)
        stanza = message(self.room, "groupchat", named, *children)
        self.ann.send(stanza)
        await self.ann.seen(lambda _: stanza.get("id") in self._names, len(self.ann.stanzas) - 1)
        return self._names[stanza.get("id", "")]

    async def say_again(self, shown: Shown) -> None:
        await self.say(shown.text)

    async def say_file(self, name: str, mime: str, content: bytes, text: str = "") -> None:
        asked = (
            f"<request xmlns='urn:xmpp:http:upload:0' filename='{name}' size='{len(content)}' content-type='{mime}'/>"
        )
        slot = await self.ann.iq(asked, to=f"upload.{HOST}")
        put, get = (slot.find(f".//{{urn:xmpp:http:upload:0}}{one}") for one in ("put", "get"))
        assert put is not None and get is not None
        request = urllib.request.Request(put.get("url", ""), content, {"Content-Type": mime}, method="PUT")
        request.headers |= {one.get("name", ""): one.text or "" for one in put}
        with urllib.request.urlopen(request):
            pass
        link = Element("{jabber:x:oob}x")
        SubElement(link, "{jabber:x:oob}url").text = get.get("url")
        self.ann.send(message(self.bot, "chat", get.get("url", ""), link))

    async def edit(self, id: str, text: str) -> None:
        self.ann.send(message(self.bot, "chat", text, Element(REPLACE, id=id)))

    async def react(self, shown: Shown, emoji: str) -> None:
        reactions = Element(REACTIONS, id=shown.id)
        SubElement(reactions, "{urn:xmpp:reactions:0}reaction").text = emoji
        self.ann.send(message(self.bot, "chat", "", reactions))

    async def garbage(self) -> None:
        for children in (
            [Element(REACTIONS)],
            [Element(REPLACE)],
            [Element(REPLY, id="x", to="@@//")],
            [Element("{urn:xmpp:mam:2}result", queryid="x")],
            [Element("{urn:xmpp:carbons:2}received")],
            [Element("{urn:xmpp:delay}delay", stamp="yesterday")],
        ):
            self.ann.send(message(self.bot, "chat", "", *children))
        self.ann.send(message(self.bot, "headline", "buy this"))
        self.ann.send(message(self.bot, "error", "no"))
        self.ann.send(message(self.bot, "groupchat", "not from a room"))


def room_id(stanza: Element, room: str) -> str:
    ids = [one.get("id", "") for one in stanza.iter(f"{SID}stanza-id") if one.get("by") == room]
    assert ids, tostring(stanza)
    return ids[0]


class EjabberdRig(XmppRig):
    """The other server that most public ones run, in another language, by other people."""

    mode = "ejabberd"
    programs = ejabberd.PROGRAMS
    burst = 100  # the way after the server is that of the default, which takes 1,000

    def _running(self) -> Ejabberd:
        return ejabberd.ejabberd()


RIG = XmppRig
MODES = (EjabberdRig,)
