"""Who is asking: the address, scheme and host of a visitor, also where a proxy stands between.

`X-Forwarded-*` as proxies write them, and `Forwarded` (RFC 7239). Whoever is no trusted proxy could write them too, so
of such they say nothing, and of a chain of proxies only the part that trusted ones wrote is read: from the right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any

from aiohttp import hdrs, web

from roost.addresses import Address, read_address
from roost.errors import ConfigError

Network = IPv4Network | IPv6Network

SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
MANY = 32  # proxies in a row


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, by what scheme ("http" or "https"), and for which host, with its port where it is no usual one.

    `proxied` says that a trusted proxy handed the request on; `unclear` that its headers contradict each other.
    """

    address: str
    scheme: str
    host: str
    proxied: bool = False
    unclear: bool = False

    @property
    def secure(self) -> bool:
        return self.scheme == "https"


# aiohttp wants a key of this kind from 3.14 on, and does not have it before.
VISITOR: Any = web.RequestKey("VISITOR", Visitor) if hasattr(web, "RequestKey") else "roost.visitor"
"""Where a request has its Visitor."""


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy says of whom it serves; None where it says nothing that can be read."""

    address: Address | None = None
    scheme: str | None = None
    host: str | None = None


class Proxies:
    """The proxies of `[web] trusted_proxies`. Raises ConfigError for one that is no address or network."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._networks = [read_network(text) for text in listed]

    def trusts(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)

    def visitor(self, request: web.Request) -> Visitor:
        """Who sent a request, as far as that is known."""
        peer = _address(request.remote or "")
        plain = Visitor(str(peer or ""), request.scheme, request.headers.get(hdrs.HOST, ""))
        if not self.trusts(peer):
            return plain
        found = [self._first(hops) for hops in (_x_forwarded(request), _forwarded(request)) if hops]
        # A proxy writes one kind of header and lets the other through, as a visitor sent it.
        unclear = len(found) > 1 and _contradict(*found)
        address, scheme, host = (_told(values) for values in zip(*map(_fields, [*found, _Hop()]), strict=True))
        return Visitor(
            str(address or peer), str(scheme or plain.scheme), str(host or plain.host), proxied=True, unclear=unclear
        )

    def _first(self, hops: Sequence[_Hop]) -> _Hop:
        """What the proxy says that the visitor came to: the last of the trusted ones, read from the right."""
        seen = _Hop()
        for hop in reversed(hops):
            seen = _Hop(hop.address or seen.address, hop.scheme or seen.scheme, hop.host or seen.host)
            if not self.trusts(hop.address):
                break
        return seen


def seen(request: web.Request, visitor: Visitor) -> web.Request:
    """The request as if the visitor had come directly: its `remote`, `scheme` and `host` are the visitor's."""
    if not visitor.proxied:
        return request
    return request.clone(remote=visitor.address, scheme=visitor.scheme, host=visitor.host)


def read_network(text: str) -> Network:
    """An address or a network of `[web] trusted_proxies`. Raises ConfigError."""
    try:
        return ip_network(text.strip())
    except ValueError as error:
        raise ConfigError(
            f"bot.toml: [web] trusted_proxies has '{text}', which is no address or network: {error}. "
            "Write the address that the proxy connects from, such as '127.0.0.1', or a network such as '10.0.0.0/24'."
        ) from None


def source(address: str) -> str:
    """What one visitor can be told apart by: an IPv6 subscriber owns a whole /64 (RFC 6177)."""
    found = _address(address)
    if found is None:
        return address
    return found.exploded[:19] if isinstance(found, IPv6Address) else str(found)


def _address(text: str) -> Address | None:
    """An address, also with a port; one of IPv4 that is written as IPv6 is itself."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    found = read_address(text)
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _x_forwarded(request: web.Request) -> list[_Hop]:
    """The hops of `X-Forwarded-*`, whose lists belong together by their right ends."""
    addresses, schemes, hosts = (_listed(request, f"X-Forwarded-{what}") for what in ("For", "Proto", "Host"))
    count = len(addresses) or bool(schemes or hosts)
    hops = [
        _Hop(_address(_from_right(addresses, at)), _scheme(_from_right(schemes, at)), _from_right(hosts, at) or None)
        for at in range(min(count, MANY))
    ]
    return hops[::-1]


def _listed(request: web.Request, name: str) -> list[str]:
    joined = ",".join(request.headers.getall(name, ()))
    return [part.strip() for part in joined.split(",")] if joined else []


def _from_right(values: Sequence[str], at: int) -> str:
    """The value at a place from the right; the leftmost where a proxy did not add to a list but replaced it."""
    return values[-1 - min(at, len(values) - 1)] if values else ""


def _forwarded(request: web.Request) -> list[_Hop]:
    return [
        _Hop(_address(one.get("for", "")), _scheme(one.get("proto", "")), one.get("host") or None)
        for one in request.forwarded[-MANY:]
    ]


def _scheme(text: str) -> str | None:
    return SCHEMES.get(text.lower())


def _fields(hop: _Hop) -> tuple[Address | str | None, ...]:
    return hop.address, hop.scheme, hop.host.lower() if hop.host else None


def _told(values: Iterable[Address | str | None]) -> Address | str | None:
    return next((value for value in values if value is not None), None)


def _contradict(one: _Hop, other: _Hop) -> bool:
    pairs = list(zip(_fields(one), _fields(other), strict=True))
    return one.address != other.address or any(None not in pair and pair[0] != pair[1] for pair in pairs)


def wide(listed: Iterable[str]) -> Iterator[str]:
    """Those of `[web] trusted_proxies` that are so large that strangers are in them."""
    for text in listed:
        network = read_network(text)
        if network.prefixlen < (8 if network.version == 4 else 16):
            yield text
