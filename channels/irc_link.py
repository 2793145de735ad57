"""One connection to an IRC server: signing on, capabilities, SASL, and who somebody is.

https://modern.ircdocs.horse, https://ircv3.net/specs/extensions/capability-negotiation,
https://ircv3.net/specs/extensions/sasl-3.1
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from roost.channels.irc_config import IrcConfig, encryption, secret_in_clear, speakable
from roost.channels.irc_lines import Line, build, fold, parse
from roost.errors import LoginFailed

log = logging.getLogger(__name__)

WANTED = {"message-tags", "server-time", "account-tag", "echo-message", "batch", "cap-notify", "account-notify"}
LONGEST = 64 * 1024  # bytes of a line; with tags it may have 8,703
SIGN_ON = 60.0  # seconds
HANDSHAKE = 15.0  # seconds that TLS has to begin in
CHUNK = 400  # bytes of base64 in one AUTHENTICATE
OTHER_NICKS = 4  # tries with an underscore more, before chance decides
TAKEN = {"433", "436", "437"}
HELD = "432"  # kept by the services for its owner, for a while; or no nick at all
REFUSED = {"464": "the 'server_password'", "465": "this address; the bot is banned"}
NO_MATCH = {"902", "904", "905", "907"}
BROKEN_OFF = "906"  # by the server: its services did not answer


class Trouble(ConnectionError):
    """Something that may be better at the next try, in words for the log."""


@dataclass(frozen=True, slots=True)
class Known:
    """Somebody who is there, as WHOIS tells. `account` is empty for who is not logged in."""

    nick: str
    mask: str
    account: str = ""


class Link:
    """A connection. `nick`, `account` and `mask` are the bot's own, as the server has them."""

    def __init__(
        self, config: IrcConfig, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.config = config
        self.name = name
        self.nick: str = config.nick
        self.account = ""
        self.mask = ""
        self.caps: set[str] = set()
        self.support: dict[str, str] = {}
        self.heard = asyncio.get_running_loop().time()
        self._reader = reader
        self._writer = writer
        self._offered: dict[str, str] = {}
        self._asked: dict[str, tuple[asyncio.Future[Known | None], dict[str, str]]] = {}

    @classmethod
    async def open(cls, config: IrcConfig, name: str) -> Link:
        """Connect and sign on. Raises LoginFailed, or an OSError where a later try may do better."""
        if secret_in_clear(config):
            raise LoginFailed(
                f"bot.toml: [channels.{name}] would send its password to '{config.host}' for everybody to read. "
                "Set tls = true."
            )
        speakable(config, name)
        context = encryption(config, name)
        patience = HANDSHAKE if context else None
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(
                    config.host, config.port, limit=LONGEST, ssl=context, ssl_handshake_timeout=patience
                ),
                SIGN_ON,
            )
        except ConnectionAbortedError:
            raise Trouble(
                f"Nothing at '{config.host}' answers in TLS on port {config.port}. The port for it is 6697 on most "
                f"servers; for one without encryption, set tls = false in bot.toml: [channels.{name}]."
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise Trouble(
                f"The certificate of '{config.host}' cannot be trusted: {error.verify_message}. If it is your own "
                f"server, name its certificate: 'ca' in bot.toml: [channels.{name}]."
            ) from None
        link = cls(config, name, reader, writer)
        try:
            async with asyncio.timeout(SIGN_ON):
                await link._sign_on()
        except BaseException:
            link.close()
            raise
        return link

    def close(self, parting: str = "") -> None:
        if parting:
            with contextlib.suppress(OSError):
                self.write("QUIT", parting)
        self._writer.close()
        for future, _ in self._asked.values():
            if not future.done():
                future.set_exception(Trouble("The connection went away."))
                future.exception()  # nobody may be waiting

    def write(self, command: str, *params: str, tags: Mapping[str, str] | None = None) -> None:
        """Write a line. Raises ConnectionError when the connection is known to be gone."""
        if self._writer.is_closing():
            raise ConnectionResetError("The connection is closed.")
        self._writer.write(build(command, *params, tags=tags))

    async def drain(self) -> None:
        await self._writer.drain()

    async def lines(self) -> AsyncIterator[Line]:
        """What comes in, with PING answered and who the bot is kept up to date."""
        while True:
            yield await self.read()

    async def read(self) -> Line:
        while True:
            try:
                raw = await self._reader.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                raise Trouble("The server closed the connection.") from None
            except asyncio.LimitOverrunError:
                raise Trouble(f"The server sent a line of more than {LONGEST} bytes.") from None
            self.heard = asyncio.get_running_loop().time()
            line = parse(raw)
            if line is not None:
                self._note(line)
                return line

    def _note(self, line: Line) -> None:
        match line.command:
            case "PING":
                self.write("PONG", *line.params[-1:])
            case "ERROR":
                raise Trouble(f"The server closed the connection: {line.param(0)}")
            case "001":
                self.nick = line.param(0)
            case "005":
                self._take_support(line.params[1:-1])
            case "900":
                self.account = line.param(2)
            case "901":
                self.account = ""
            case "NICK" if self.is_me(line.nick):
                self._take_nick(line)
                return
            case "396" if self.mask:
                self._take_host(line.param(1))
            case "311" | "330" | "318" | "401":
                self._take_whois(line)
        if "!" in line.source and self.is_me(line.nick):
            self.mask = line.source

    def _take_nick(self, line: Line) -> None:
        known = line.source if "!" in line.source else self.mask
        self.nick = line.param(0)
        self.mask = known and f"{self.nick}!{known.partition('!')[2]}"

    def _take_host(self, host: str) -> None:
        """The host that others see from now on, with the user name before it on some servers."""
        user = self.mask.partition("!")[2].partition("@")[0]
        self.mask = f"{self.nick}!{host if '@' in host else f'{user}@{host}'}"

    def _take_support(self, tokens: tuple[str, ...]) -> None:
        for token in tokens:
            name, _, value = token.partition("=")
            self.support[name] = value

    # What the server says of itself

    def fold(self, name: str) -> str:
        return fold(name, self.support.get("CASEMAPPING", "rfc1459"))

    def is_me(self, nick: str) -> bool:
        return self.fold(nick) == self.fold(self.nick)

    def is_channel(self, target: str) -> bool:
        return target[:1] != "" and target[:1] in self.support.get("CHANTYPES", "#&")

    def room(self, target: str) -> int:
        """The bytes of text that reach `target` in one line, less what the server puts before it."""
        longest = self.support.get("LINELEN", "512")
        mask = self.mask or f"{self.nick}!{'u' * 11}@{'h' * 63}"
        whole = int(longest) if longest.isdecimal() else 512
        return max(32, whole - len(f":{mask} PRIVMSG {target} :\r\n".encode()))

    # Signing on

    async def _sign_on(self) -> None:
        if self.config.server_password:
            self.write("PASS", self.config.server_password)
        self.write("CAP", "LS", "302")
        self.write("NICK", self.nick)
        self.write("USER", self.config.username or self.config.nick, "0", "*", self.config.realname)
        tries = 0
        async for line in self.lines():
            if line.command in TAKEN or (line.command == HELD and not tries):
                tries += 1
                self.nick = self._another(tries)
                self.write("NICK", self.nick)
            elif line.command == "CAP":
                await self._negotiate(line)
            elif line.command in {"376", "422"}:
                self._expect_login()
                return
            else:
                self._refused(line)

    def _another(self, tries: int) -> str:
        """A nick to take while the bot's own is taken."""
        nick = self.config.nick
        return f"{nick}{'_' * tries}" if tries < OTHER_NICKS else f"{nick[:20]}{random.randrange(10_000)}"

    def _refused(self, line: Line) -> None:
        if line.command in REFUSED:
            told = (
                f"The IRC server '{self.config.host}' refuses {REFUSED[line.command]}: {line.param(-1).rstrip('.')}. "
            )
            raise LoginFailed(told + f"Look at bot.toml: [channels.{self.name}].")
        if line.command == HELD:
            raise LoginFailed(
                f"'{self.config.nick}' is no nick on this server. Correct 'nick' in [channels.{self.name}]."
            )

    async def _negotiate(self, line: Line) -> None:
        match line.param(1).upper():
            case "LS":
                for offer in line.param(-1).split():
                    name, _, value = offer.partition("=")
                    self._offered[name] = value
                if line.param(2) != "*":
                    self._request()
            case "ACK":
                self.caps |= set(line.param(-1).split())
                if "sasl" in self.caps:
                    await self._log_in()
                self.write("CAP", "END")
            case "NAK":
                raise Trouble(f"The server takes back what it offered: {line.param(-1)}")

    def _request(self) -> None:
        self._expect_login()
        wanted = sorted((WANTED & self._offered.keys()) | ({"sasl"} if self._mechanism() else set()))
        if wanted:
            self.write("CAP", "REQ", " ".join(wanted))
        else:
            self.write("CAP", "END")

    def _expect_login(self) -> None:
        """Raises Trouble where the bot is to log in and the server has nothing for it, or no capabilities at all."""
        if self._mechanism() and "sasl" not in self._offered:
            raise Trouble(
                "The server offers no SASL now, so the bot cannot log in. If it never does, set "
                f'login = "nickserv" in bot.toml: [channels.{self.name}].'
            )

    def _mechanism(self) -> str:
        if self.config.login != "sasl":
            return ""
        return "EXTERNAL" if self.config.certificate else "PLAIN" if self.config.password else ""

    async def _log_in(self) -> None:
        """SASL (RFC 4616 for PLAIN, RFC 4422 appendix A for EXTERNAL)."""
        mechanism = self._mechanism()
        self.write("AUTHENTICATE", mechanism)
        account = self.config.account or self.config.nick
        secret = f"\0{account}\0{self.config.password}" if mechanism == "PLAIN" else ""
        async for line in self.lines():
            if line.command == "AUTHENTICATE":
                self._authenticate(secret)
            elif line.command == "903":
                return
            elif line.command == BROKEN_OFF:
                raise Trouble(f"The server broke the login off: {line.param(-1)}")
            elif line.command in NO_MATCH:
                told = f"The IRC server '{self.config.host}' refuses the account '{account}': "
                cure = "'password'" if mechanism == "PLAIN" else "'certificate'"
                raise LoginFailed(
                    f"{told}{line.param(-1).rstrip('.')}. Correct 'account' and {cure} in [channels.{self.name}]."
                )
            elif line.command == "908" and mechanism not in line.param(1).split(","):
                raise LoginFailed(
                    f"The IRC server '{self.config.host}' knows {line.param(1)} but not SASL {mechanism}. Set "
                    f'login = "nickserv" in bot.toml: [channels.{self.name}].'
                )

    def _authenticate(self, secret: str) -> None:
        coded = base64.b64encode(secret.encode()).decode()
        chunks = [coded[start : start + CHUNK] for start in range(0, len(coded), CHUNK)]
        if not chunks or len(chunks[-1]) == CHUNK:
            chunks.append("+")
        for chunk in chunks:
            self.write("AUTHENTICATE", chunk)

    # Who somebody is

    async def whois(self, nick: str, limit: float = 30.0) -> Known | None:
        """Ask who has a nick; None when nobody has. Somebody else must be reading the lines meanwhile."""
        name = self.fold(nick)
        if name not in self._asked:
            self._asked[name] = asyncio.get_running_loop().create_future(), {}
            self.write("WHOIS", nick)
        try:
            return await asyncio.wait_for(asyncio.shield(self._asked[name][0]), limit)
        except TimeoutError:
            self._asked.pop(name, None)
            raise Trouble(f"The server does not say who '{nick}' is.") from None

    def _take_whois(self, line: Line) -> None:
        name = self.fold(line.param(1))
        future, found = self._asked.get(name, (None, {}))
        if future is None:
            return
        if line.command == "311":
            found |= {"nick": line.param(1), "mask": f"{line.param(1)}!{line.param(2)}@{line.param(3)}"}
        elif line.command == "330":
            found["account"] = line.param(2)
        else:
            del self._asked[name]
            if not future.done():
                future.set_result(Known(**found) if "mask" in found and line.command == "318" else None)
