"""What of `[web]` lets others in, or lets others read along: for `roost doctor --security`."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from roost.errors import ConfigError
from roost.hosts import is_loopback
from roost.settings import WebTable
from roost.web_tls import Doubt, certificate_doubts
from roost.web_visitors import wide

TOKEN = 16  # characters of a login token that nobody guesses


def web_doubts(web: WebTable) -> Iterator[Doubt]:
    """Everything there is to say of a web face that is on."""
    yield from _token(web)
    yield from _encryption(web)
    yield from _proxies(web)
    if web.certificate:
        yield from certificate_doubts(web)
    elif web.certificate_key:
        yield Doubt(True, "[web] has a certificate_key and no certificate, so nothing is encrypted. Name both files.")


def _is_reachable(web: WebTable) -> bool:
    return not is_loopback(web.host) or bool(web.public_url or web.trusted_proxies)


def _token(web: WebTable) -> Iterator[Doubt]:
    reachable = _is_reachable(web)
    if reachable and not web.token:
        what = f"host = '{web.host}'" if not is_loopback(web.host) else "public_url" * bool(web.public_url)
        yield Doubt(
            True,
            f"[web] {what or 'trusted_proxies'} lets other machines reach the web face, and there is no token. Set a "
            "long random one: token = \"env:ROOST_TOKEN\", or use host = '127.0.0.1'.",
        )
    elif web.token and len(web.token) < TOKEN:
        yield Doubt(
            reachable,
            f"[web] token has {len(web.token)} characters, which can be guessed. Take {TOKEN} random ones or more.",
        )


def _encryption(web: WebTable) -> Iterator[Doubt]:
    if web.certificate or not _is_reachable(web):
        return
    if urlsplit(web.public_url).scheme != "https":
        yield Doubt(
            True,
            "[web]: what goes between browsers and the web face, its login too, can be read on the way. Put a proxy "
            "with TLS before it and set public_url = 'https://…', with host = '127.0.0.1' where the proxy is here, or "
            "name a certificate.",
        )
    elif not is_loopback(web.host):
        yield Doubt(
            False,
            f"[web] host = '{web.host}' is also reached past the proxy of public_url, without TLS. Use host = "
            "'127.0.0.1' where the proxy is here; where it is not, let nobody else connect to the port.",
        )


def _proxies(web: WebTable) -> Iterator[Doubt]:
    try:
        everybody = list(wide(web.trusted_proxies))
    except ConfigError as error:
        yield Doubt(True, str(error))
        return
    if everybody:
        listed = ", ".join(f"'{one}'" for one in everybody)
        yield Doubt(
            True,
            f"[web] trusted_proxies has {listed}: anybody there can pretend to be any visitor, and so gets around "
            "every limit for single addresses. Name just the addresses that your proxy connects from.",
        )
    if web.public_url and not web.certificate and not web.trusted_proxies:
        yield Doubt(
            False,
            "[web] public_url names a proxy or a tunnel, and trusted_proxies is empty: all visitors have the same "
            "address, so one who guesses tokens locks all out of the login for a minute. Name the address that it "
            "connects from, such as '127.0.0.1', once it sends X-Forwarded-For.",
        )
