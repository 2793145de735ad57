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


Direct = Literal["pairing", "allowlist", "open", "closed"]
Groups = Literal["addressed", "open", "closed"]


@dataclass(frozen=True, slots=True)
class AccessRules:
    """`[access.channels.NAME]` and `[access.places."telegram:42"]`: what is different there."""

    direct: Direct | None = key(None, help="As in [access], for here.")
    groups: Groups | None = key(None, help="As in [access], for here.")
    people: list[str] = key(factory=list, help="People let in here, beside those of [access].")
    messages_per_hour: int | None = key(None, help="As in [access], for messages here.", least=0)
    messages_per_day: int | None = key(None, help="The same for a day.", least=0)
    tokens_per_hour: int | None = key(None, help="As in [access], for messages here.", least=0)
    tokens_per_day: int | None = key(None, help="The same for a day.", least=0)
    place_messages_per_hour: int | None = key(None, help="As in [access], for each place here.", least=0)
    place_messages_per_day: int | None = key(None, help="The same for a day.", least=0)
    place_tokens_per_hour: int | None = key(None, help="As in [access], for each place here.", least=0)
    place_tokens_per_day: int | None = key(None, help="The same for a day.", least=0)


@dataclass(frozen=True, slots=True)
class AccessTable:
    """`[access]`"""

    direct: Direct = key(
        "pairing",
        help="Who may write to the bot directly: whom the owner lets in, having been asked (pairing) or not "
        "(allowlist), everybody, nobody.",
    )
    groups: Groups = key(
        "addressed", help="Who gets an answer in groups when addressing the bot: known people, everybody, nobody."
    )
    people: list[str] = key(factory=list, help="People let in, by stable id: 'telegram:42'.")
    strangers_per_hour: int = key(
        10, help="How many strangers an hour get an answer, each a single one; beyond that, silence.", least=0
    )
    messages_per_hour: int = key(
        0, help="Messages of one person that are answered in an hour; 0 for no limit. The owner has none.", least=0
    )
    messages_per_day: int = key(0, help="The same for a day.", least=0)
    tokens_per_hour: int = key(0, help="Tokens that answers to one person may take in an hour; 0: no limit.", least=0)
    tokens_per_day: int = key(0, help="The same for a day.", least=0)
    place_messages_per_hour: int = key(
        0, help="Messages in one place, whoever wrote them, that are answered in an hour; 0 for no limit.", least=0
    )
    place_messages_per_day: int = key(0, help="The same for a day.", least=0)
    place_tokens_per_hour: int = key(
        0, help="Tokens that answers in one place may take in an hour; 0 for no limit.", least=0
    )
    place_tokens_per_day: int = key(0, help="The same for a day.", least=0)
    channels: dict[str, AccessRules] = key(
        factory=dict, help="What is different on one channel: [access.channels.NAME]."
    )
    places: dict[str, AccessRules] = key(
        factory=dict, help='What is different in one place, its threads too: [access.places."telegram:42"].'
    )


@dataclass(frozen=True, slots=True)
class WebTable:
    """`[web]`"""

    enabled: bool = key(True, help="Whether the web face (chat page and webhooks) is served.")
    host: str = key("127.0.0.1", help="The address to listen on; beyond loopback a token is required.")
    port: int = key(8787, help="The port to listen on; 0 lets the system choose.", least=0, most=65535)
    token: str = key("", secret=True, help="The login token for people; needed when host is not loopback.")
    public_url: str = key("", help="The https address others reach this web face at, for webhooks.")
    certificate: str = key("", help="The PEM file of a certificate and its chain, for https without a proxy.")
    certificate_key: str = key("", help="The PEM file of its private key; that of the certificate when empty.")
    trusted_proxies: list[str] = key(
        factory=list,
        help="Addresses or networks of proxies that are believed when they say who a visitor is: '127.0.0.1'.",
    )


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
class ToolsTable:
    """`[tools]`"""

    allow: list[str] = key(factory=list, help="Tools that are off unless they are named here.")
    deny: list[str] = key(factory=list, help="Tools that the brain may never call.")
    rounds: int = key(4, help="How often in one answer the brain may call tools.", least=0, most=50)
    timeout: float = key(30.0, help="Seconds that one call may take.", least=0.01)
    only: dict[str, list[str]] = key(
        factory=dict,
        help='Who may have a tool called, by its name: roles, people or places, { fetch = ["admin", "telegram:42"] }.',
    )


@dataclass(frozen=True, slots=True)
class McpTable:
    """`[mcp.NAME]`: one MCP server whose tools the brain may call. Either `command` or `url` says where it is."""

    enabled: bool = key(True, help="Whether it is used.")
    command: str = key("", help="What starts it on this machine, such as 'uvx mcp-server-time'.")
    args: list[str] = key(factory=list, help="Further arguments of the command.")
    env: dict[str, str] = key(
        factory=dict, secret=True, help="What its environment holds besides PATH and HOME; 'env:NAME' takes the bot's."
    )
    cwd: str = key("", help="The folder it is started in; that of bot.toml when empty.")
    url: str = key("", help="The address of one that is reached by streamable HTTP.")
    headers: dict[str, str] = key(
        factory=dict, secret=True, help="What is sent along to the url; 'env:NAME' takes it from the environment."
    )
    allow: list[str] = key(factory=list, help="Its tools that are offered, by the server's own names; all when empty.")
    deny: list[str] = key(factory=list, help="Its tools that are not offered.")
    role: Literal["guest", "person", "admin", "owner"] = key(
        "owner", help="Who somebody has to be at least for its tools to be called."
    )
    trusted: bool = key(
        False,
        help="Whether what it answers is nobody else's text: then no tool has to wait for your word because of it.",
    )
    timeout: float = key(
        60.0, help="Seconds that starting it and listing its tools may take; calls have [tools] timeout.", least=0.1
    )


Remote = Literal["never", "redact", "allow"]


@dataclass(frozen=True, slots=True)
class PrivacyRule:
    """`[privacy.places."telegram:42"]` and `[privacy.people."telegram:42"]`: what is different there."""

    remote: Remote = key(help="As in [privacy], for here.")


@dataclass(frozen=True, slots=True)
class PrivacyTable:
    """`[privacy]`"""

    strict: bool = key(False, help="Whether connections are refused that nothing in bot.toml names.")
    allow: list[str] = key(
        factory=list, help="Further hosts that may be reached when strict is true: 'example.org', '*.example.org'."
    )
    remote: Remote = key(
        "redact",
        help="What goes to brains on other machines: never anything, everything but private data, or all of it.",
    )
    keep_home: float = key(
        0.7, help="How private a message may be before it stays with a brain at home, from 0 to 1.", least=0, most=2
    )
    places: dict[str, PrivacyRule] = key(factory=dict, help="What is different in single places.")
    people: dict[str, PrivacyRule] = key(factory=dict, help="What is different for single people.")


@dataclass(frozen=True, slots=True)
class PluginsTable:
    """`[plugins]`; every `[plugins.NAME]` below it belongs to that plugin."""

    folder: str = key("plugins", help="Where your own plugin files are, beside bot.toml.")
    disable: list[str] = key(factory=list, help="Names of plugins to leave out.")
    order: list[str] = key(factory=list, help="Plugins that come first, in this order; the others follow by name.")
    links: bool = key(False, help="Whether files there may be links that lead out of the folder.")
