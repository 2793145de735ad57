"""The tables of bot.toml that belong to the core. Channels, brains, memories and plugins bring their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from roost.keys import key


@dataclass(frozen=True, slots=True)
class BotTable:
    """`[bot]`"""

    name: str = key("Roost", help="What the bot calls itself, and answers to in groups.")
    owner: str = key("", help="Your id on a channel, such as 'telegram:42'; pairing sets it for you otherwise.")
    persona: str = key(
        "You are a helpful AI assistant named {name}.",
        help="The first words of every prompt; {name} becomes the bot's name.",
    )
    language: str = key("", help="Language to answer in; empty answers in the person's own.")
    timezone: str = key("", help="IANA name such as 'Europe/Amsterdam'; the machine's own when empty.")
    prefix: str = key("/", help="What a command begins with.", least=1)
    log: Literal["debug", "info", "warning", "error"] = key("info", help="How much is written to the log.")
    memory_limit: int | str = key(
        "",
        help="The most memory the bot and its engine should take: bytes, or '512M', '2G'; no limit of its own when "
        "empty.",
    )
    encryption: str = key(
        "",
        help="Where the key is that encrypts what is said: env:NAME, file:PATH or keyring:SERVICE; none when empty. "
        "Who loses the key loses the data.",
    )


@dataclass(frozen=True, slots=True)
class AccessTable:
    """`[access]`"""

    direct: Literal["pairing", "allowlist", "open", "closed"] = key(
        "pairing", help="Who may write to the bot directly."
    )
    groups: Literal["addressed", "open", "closed"] = key(
        "addressed", help="Who gets an answer in groups when addressing the bot: known people, everybody, nobody."
    )
    people: list[str] = key(factory=list, help="People let in, by stable id: 'telegram:42'.")


@dataclass(frozen=True, slots=True)
class WebTable:
    """`[web]`"""

    enabled: bool = key(True, help="Whether the web face (chat page and webhooks) is served.")
    host: str = key("127.0.0.1", help="The address to listen on; beyond loopback a token is required.")
    port: int = key(8787, help="The port to listen on; 0 lets the system choose.", least=0, most=65535)
    token: str = key("", secret=True, help="The login token for people; needed when host is not loopback.")
    public_url: str = key("", help="The https address others reach this web face at, for webhooks.")


@dataclass(frozen=True, slots=True)
class JournalTable:
    """`[journal]`"""

    synchronous: Literal["full", "normal"] = key(
        "full",
        help="full: nothing accepted is lost on power failure. normal: the last moments may be. "
        "A killed process loses nothing either way.",
    )
    keep_days: int = key(30, help="Days that message ids and texts stay in the journal.", least=1)
    repeat_mark: str = key(
        "(possibly repeated)", help="The first line of a reply when an earlier try may have arrived already."
    )


@dataclass(frozen=True, slots=True)
class PluginsTable:
    """`[plugins]`; every `[plugins.NAME]` below it belongs to that plugin."""

    folder: str = key("plugins", help="Where your own plugin files are, beside bot.toml.")
    disable: list[str] = key(factory=list, help="Names of plugins to leave out.")
