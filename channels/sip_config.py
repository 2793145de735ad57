"""The keys of a channel that speaks SIP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from roost.contracts import ChannelConfig
from roost.errors import ConfigError
from roost.keys import key

HEADERS: Final = 800  # bytes of a request that its text must leave to everything else


@dataclass(frozen=True, slots=True, kw_only=True)
class SipConfig(ChannelConfig):
    """The keys of `[channels.sip]`."""

    host: str = key(help="The name or address of the PBX, registrar or outbound proxy.")
    port: int = key(0, help="Its port; 5060, with tls 5061, when absent.", least=0, most=65535)
    username: str = key(help="The bot's name or extension there, such as 'roost' or '201'.")
    password: str = key("", help="The password that goes with it.", secret=True, ask=True)
    domain: str = key("", help="What stands behind the @ of addresses there; `host` when absent.")
    auth_user: str = key("", help="The name to log in with, where that is not `username`.")
    transport: Literal["udp", "tcp", "tls"] = key("udp", help="What SIP travels over. Only tls is encrypted.")
    ca: str = key("", help="A file with the certificate to check the PBX's by, where it has one of its own.")
    local_port: int = key(0, help="The port to use on this side over UDP, for firewalls; any when 0.", most=65535)
    expires: int = key(300, help="Seconds for which the PBX is to know us; renewed in half.", least=2, most=86_400)
    keepalive: float = key(25.0, help="Seconds between two looks whether the PBX is there.", least=0.05, most=600)
    timeout: float = key(32.0, help="Seconds the PBX may take to answer.", least=0.05, most=300)
    max_request: int = key(
        1300,
        help="The most bytes a request may have. RFC 3428 allows 1300; more where all of the way is TCP or TLS.",
        least=HEADERS + 200,
        most=65_000,
    )
    typing: bool = key(True, help="Whether those whose client shows it see that the bot is writing.")


def check(config: SipConfig, name: str) -> None:
    """Raises ConfigError for what can be no address."""
    table = f"bot.toml: [channels.{name}]"
    for one in ("host", "username", "domain", "auth_user"):
        value = getattr(config, one)
        if re.search(r"[\s@<>\"]|[^\x20-\x7e]", value) or value.startswith("sip:"):
            raise ConfigError(f"{table} {one} = '{value}' is not just a name: leave out 'sip:', '@' and the rest.")
    if not config.host or not config.username:
        raise ConfigError(f"{table} needs 'host' and 'username'. Whoever runs the PBX gives both.")
