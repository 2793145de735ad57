"""The proxy that the environment, or the system's settings, name for a server."""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from roost.errors import ConfigError

SECURE = {"wss": "https", "ws": "http"}


def proxy(address: str, socks: bool = False) -> str | None:
    """The proxy for an address, as aiohttp wants it; None for a direct connection. It may be one by SOCKS if `socks`.

    aiohttp's own `trust_env` looks it up once a request, which doubles what a request costs, and reads ~/.netrc, with
    which it refuses an Authorization header of ours. Raises ConfigError for a proxy that aiohttp cannot use.
    """
    parts, proxies = urlsplit(address), getproxies()
    scheme = SECURE.get(parts.scheme, parts.scheme)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    found = proxies.get(scheme) or proxies.get("all")
    if found is None or found.startswith(("http://", "https://", *(("socks4://", "socks5://") if socks else ()))):
        return found
    if "://" not in found:
        return f"http://{found}"
    raise ConfigError(
        f"The environment names a proxy of the kind '{found.partition(':')[0]}', and only HTTP proxies can be used. "
        f"Set {scheme.upper()}_PROXY to one, or NO_PROXY to '{parts.hostname}'."
    )
