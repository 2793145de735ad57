"""Host names and addresses: which are this machine's own, and which let others in."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address
from urllib.parse import urlsplit

from roost.settings import WebTable


def is_address(host: str) -> bool:
    """Whether a host is a literal IP address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches itself by this host."""
    if not is_address(host):
        return host.lower() == "localhost"
    address = ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def bindable(host: str) -> str | None:
    """What to listen on: 'localhost' may be two addresses, and port 0 would become two ports."""
    return "127.0.0.1" if host.lower() == "localhost" else host or None


def reachable(host: str) -> str:
    """How this machine itself, in a URL, reaches what listens on `host`: `127.0.0.1` for `0.0.0.0`."""
    if host == "" or (is_address(host) and ip_address(host).is_unspecified):
        host = "::1" if ":" in host else "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def own_names(config: WebTable) -> frozenset[str]:
    """The host names and addresses, without ports and in lower case, that a web face may be asked for by."""
    names = {"localhost", "127.0.0.1", "::1", config.host.lower(), urlsplit(config.public_url).hostname or ""}
    if not is_loopback(config.host):
        machine = socket.gethostname().lower()
        names |= {machine, f"{machine.partition('.')[0]}.local"}
    return frozenset(names - {""})
