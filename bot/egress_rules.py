"""Which hosts the configuration names, and for whom: a channel's server, a brain's, where models come from."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from roost.addresses import read_address

if TYPE_CHECKING:
    from roost.config import Config

PLACE = re.compile(r"\{(env:)?(\w+)\}")
OURS = {"public_url"}  # addresses of this machine, as others see it
ALLOWED = "[privacy] allow"


class Rules:
    """Hosts by pattern, such as '*.slack.com', each with who speaks to it; and the proxies of the environment."""

    def __init__(self, patterns: Mapping[str, str], proxies: Iterable[tuple[str, int]] = (), strict: bool = False):
        self.patterns = dict(patterns)
        self.proxies = frozenset(proxies)
        self.strict = strict
        self._wild = [one for one in self.patterns if set("*?[") & set(one)]
        self._known: dict[str, str] = {}

    def speaker(self, host: str) -> str:
        """Who of the configuration speaks to a host; empty when nobody does."""
        found = self._known.get(host)
        if found is None:
            if len(self._known) > 4096:
                self._known.clear()
            found = self._known[host] = self._look(host)
        return found

    def _look(self, host: str) -> str:
        if host in self.patterns:
            return self.patterns[host]
        return next((self.patterns[one] for one in self._wild if fnmatchcase(host, one)), "")


def rules_of(config: Config) -> Rules:
    """What a configuration allows."""
    found: dict[str, str] = {}
    for who, hosts in [*_tables(config), (ALLOWED, config.privacy.allow)]:
        for host in hosts:
            if plain := normal(host):
                found.setdefault(plain, who)
    return Rules(found, proxies(), config.privacy.strict)


def _tables(config: Config) -> Iterator[tuple[str, Iterable[str]]]:
    for name, channel in config.channels.items():
        yield f"channel {name}", named(channel.cls, channel.config)
    yield "brain", named(config.brain_class, config.brain)
    for name, brain in config.brains.items():
        yield f"brain {name}", named(brain.cls, brain.config)
    yield "hearing", named(config.hearing_class, config.hearing)
    yield "memory", named(config.memory_class, config.memory)
    for name, server in config.mcp.items():
        if server.enabled:
            yield f"mcp {name}", named(None, server)


def named(cls: type[Any] | None, table: Any) -> Iterator[str]:
    """The hosts that a table's addresses name, and those that its class does."""
    for one in fields(table):
        value = getattr(table, one.name)
        if one.name in OURS or one.metadata.get("secret"):
            continue
        if isinstance(value, str) and (one.name == "host" or one.name.endswith("_host") or "://" in value):
            yield host_of(value)
        if isinstance(value, list):
            yield from (host_of(part) for part in value if isinstance(part, str) and "://" in part)
    for pattern in getattr(cls, "hosts", ()):
        yield PLACE.sub(lambda found: _filled(found, table), pattern)


def _filled(found: re.Match[str], table: Any) -> str:
    value = os.environ.get(found[2], "") if found[1] else str(getattr(table, found[2], ""))
    return host_of(value) or "\n"  # a pattern around an empty value fits no host


def host_of(value: str) -> str:
    """The host in an address: of a page, of a person (ann@example.org/phone, @ann:example.org), or as it is."""
    value = value.strip()
    if "://" in value:
        try:
            return urlsplit(value).hostname or ""
        except ValueError:
            return ""
    if value.startswith("@"):
        value = value.partition(":")[2]
    value = value.rpartition("@")[2].partition("/")[0]
    return value if value.count(":") != 1 else value.partition(":")[0]


def normal(host: str) -> str:
    """A host's name as it is compared: small, in ASCII, without a dot at its end."""
    host = host.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def proxies() -> Iterator[tuple[str, int]]:
    """Host and port of the proxies that the environment or the system name."""
    for name, value in getproxies().items():
        if name == "no":
            continue
        parts = urlsplit(value if "://" in value else f"http://{value}")
        try:
            yield normal(parts.hostname or ""), parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            continue


@lru_cache(4096)
def is_home(host: str) -> bool:
    """Whether what goes to a host stays on this machine."""
    address = read_address(host)
    if address is not None:
        inner = getattr(address, "ipv4_mapped", None) or address
        return bool(inner.is_loopback or inner.is_unspecified)
    return host in {"", "localhost", own_name()} or host.endswith(".localhost")


@lru_cache(1)
def own_name() -> str:
    return socket.gethostname().lower()
