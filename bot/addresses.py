"""Which addresses are out on the internet, and which are somebody's own: this machine, a home, a data centre.

https://www.iana.org/assignments/iana-ipv4-special-registry and https://www.iana.org/assignments/iana-ipv6-special-registry.
The flags of `ipaddress` follow them only in newer releases of Python.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Interface, IPv6Network, ip_address, ip_network

from yarl import URL

Address = IPv4Address | IPv6Address

INNER4 = tuple(
    ip_network(one)
    for one in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # a provider's own (CGNAT, RFC 6598); tailnets and Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata, a public address in all but use
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocols; Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
OUTER6 = ip_network("2000::/3")  # all that is given out; whatever lies beside it is special
INNER6 = tuple(
    ip_network(one)
    for one in (
        "2001::/23",  # protocols; Teredo
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
        "2620:4f:8000::/48",
    )
)
NAT64 = IPv6Network("64:ff9b::/96")  # where a network has IPv6 only, its DNS gives IPv4 addresses in here (RFC 6052)


def read_address(text: str) -> Address | None:
    """An address as it is usually written, with or without brackets and zone; None for anything else."""
    try:
        return ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether an address is out on the internet, and nobody's own. Embedded IPv4 addresses count as themselves."""
    if isinstance(address, IPv4Address):
        return not any(address in net for net in INNER4)
    inner = within(address)
    if inner is not None:
        return is_public(inner)
    return address in OUTER6 and not any(address in net for net in INNER6)


def within(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def is_outside(address: Address) -> bool:
    """Whether an address is public, not this machine's own, and not in its IPv6 neighbourhood.

    What is at home has public IPv6 addresses: behind the router's firewall they lead from this machine to the printer.
    """
    if not is_public(address):
        return False
    own = own_addresses()
    near = (IPv6Interface((one, 64)).network for one in own if isinstance(one, IPv6Address) and is_public(one))
    return address not in own and not any(address in net for net in near)


def own_addresses() -> set[Address]:
    """This machine's addresses."""
    import psutil

    found = [one.address for several in psutil.net_if_addrs().values() for one in several]
    return {address for text in found if (address := read_address(text)) is not None}


HOME = (".local", ".lan", ".home.arpa", ".internal", ".localhost")
"""Names that are not for the internet (RFC 6762, RFC 8375, RFC 6761)."""


def is_elsewhere(base_url: str) -> bool:
    """Whether an address is on somebody else's machine, as far as it tells: a name with a dot, a public address."""
    try:
        host = (URL(base_url).host or "").rstrip(".").lower()
    except ValueError:
        return True
    address = read_address(host)
    if address is not None:
        return is_public(address)
    return "." in host and not host.endswith(HOME)
