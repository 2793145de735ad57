"""The keys of an IRC channel, and what follows from them before anything is connected."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Literal

from roost.contracts import ChannelConfig
from roost.errors import LoginFailed
from roost.hosts import is_loopback
from roost.keys import key
from roost.trust import trust


@dataclass(frozen=True, slots=True, kw_only=True)
class IrcConfig(ChannelConfig):
    """The keys of `[channels.irc]`."""

    host: str = key(help="The server's name, such as irc.libera.chat.")
    port: int = key(6697, help="Its port; 6697 is for TLS.", least=1, most=65535)
    tls: bool = key(True, help="Whether to encrypt the connection.")
    verify: bool = key(True, help="Whether the server's certificate must be sound. Leave it on.")
    ca: str = key("", help="A file with the certificates to trust, for a server that made its own.")
    nick: str = key(help="The bot's nick.", least=1)
    username: str = key("", help="The user name the server shows; the nick when absent.")
    realname: str = key("Roost", help="The real name the server shows.")
    account: str = key("", help="The bot's account with the network's services; the nick when absent.")
    password: str = key("", help="The account's password.", secret=True, ask=True)
    certificate: str = key("", help="A PEM file with a certificate and its key, to log in by SASL EXTERNAL instead.")
    login: Literal["sasl", "nickserv"] = key("sasl", help="How to log in: nickserv where the server has no SASL.")
    regain: str = key(
        "REGAIN {nick}", help="What to tell NickServ when somebody has the bot's nick; empty for nothing."
    )
    server_password: str = key("", help="A password for the server itself, as bouncers want one.", secret=True)
    channels: list[str] = key(factory=list, help='Channels to be in: ["#tea"].')
    channel_keys: dict[str, str] = key(factory=dict, help='Passwords of channels: { "#tea" = "..." }.', secret=True)
    burst: int = key(5, help="Lines that may go out at once; `rate` is lines a second, one in two seconds.", least=1)
    address: bool = key(True, help="Whether answers in channels begin with the nick of who asked.")


def encryption(config: IrcConfig, name: str) -> ssl.SSLContext | None:
    """TLS with the server's certificate checked, unless told otherwise. Raises LoginFailed for files that are none."""
    if not config.tls:
        return None
    context = trust(name, config.ca, config.certificate)
    if not config.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def secret_in_clear(config: IrcConfig) -> bool:
    if config.tls or not (config.password or config.server_password):
        return False
    return not is_loopback(config.host)


def speakable(config: IrcConfig, name: str) -> None:
    """Raises LoginFailed for names that no line of IRC can carry (RFC 2812, section 2.3.1)."""
    for one, value in (("nick", config.nick), ("username", config.username)):
        if " " in value:
            raise LoginFailed(
                f"bot.toml: [channels.{name}] {one} = '{value}' has a space in it, which IRC does not know in names."
            )
