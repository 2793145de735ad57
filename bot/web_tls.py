"""The certificate of the web face: read from its files, used anew when they change, looked over for what is wrong."""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from roost.errors import ConfigError
from roost.references import is_open
from roost.settings import WebTable

log = logging.getLogger(__name__)

LARGEST = 256 * 1024
DAY = 24 * 3600
SOON = 30 * DAY  # before its end, or a fifth of its life where that is less
_ANY_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which `ssl` has no name

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What is to be said of a certificate. `wrong` is what visitors run into."""

    wrong: bool
    text: str


class Certificate:
    """What connections are encrypted with. Raises ConfigError where the files of `[web]` cannot be used.

    Each new connection looks whether the files have changed: renewing a certificate needs no restart. Files that
    cannot be used, as in the moment between a new certificate and its key, leave the old one in use.
    """

    def __init__(self, config: WebTable) -> None:
        self._config = config
        self._stamp = _stamp(config)
        self._context = load(config)
        for doubt in certificate_doubts(config):
            log.warning("%s", doubt.text)

    def context(self) -> ssl.SSLContext:
        """What the next connection is encrypted with."""
        stamp = _stamp(self._config)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = load(self._config)
                log.info("The web face uses the new certificate '%s'.", self._config.certificate)
            except ConfigError as error:
                log.warning("The web face goes on with the certificate it has. %s", error)
        return self._context


def _stamp(config: WebTable) -> Stamp:
    """What changes when the files do."""
    found = []
    for path in _paths(config):
        with contextlib.suppress(OSError):
            state = path.stat()
            found.append((state.st_ino, state.st_mtime_ns, state.st_size))
    return tuple(found)


def _paths(config: WebTable) -> tuple[Path, Path]:
    return tuple(Path(one).expanduser() for one in _named(config))  # type: ignore[return-value]


def _named(config: WebTable) -> tuple[str, str]:
    return config.certificate, config.certificate_key or config.certificate


def load(config: WebTable) -> ssl.SSLContext:
    """Read the certificate and its key. Raises ConfigError with a sentence that says which file is wrong, and how."""
    certificate, key = _paths(config)
    _check("certificate", certificate, "CERTIFICATE", "the certificate and, below it, those of who signed it")
    _check("certificate_key", key, "PRIVATE KEY", "the private key of the certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a function that answers, OpenSSL would ask for the password in the terminal.
        context.load_cert_chain(certificate, key, password=_locked)
    except _Locked:
        raise ConfigError(
            f"bot.toml: [web] certificate_key = '{key}' is encrypted with a password. Write it without one, with "
            "'openssl pkey -in KEY -out NEW', to a file that only the bot may read."
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"bot.toml: [web] certificate_key = '{key}' is the key of another certificate than '{certificate}'. "
                "Name the two files that were made together."
            ) from None
        raise ConfigError(
            f"bot.toml: [web] certificate = '{certificate}' with the key '{key}' cannot be used: "
            f"{error.reason or error}. One of the two files is damaged; get them anew."
        ) from None
    return context


class _Locked(Exception):
    """The key has a password."""


def _locked() -> NoReturn:
    raise _Locked


def _check(name: str, path: Path, kind: str, what: str) -> None:
    """Refuse a file that cannot be the right one, before OpenSSL does with less to say."""
    if not path.is_absolute():
        raise ConfigError(f"bot.toml: [web] {name} = '{path}' has to begin at the root or with '~'.")
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for, for ever
            raise ConfigError(f"bot.toml: [web] {name} = '{path}' is no file.")
        with path.open("rb") as file:
            content = file.read(LARGEST)
    except OSError as error:
        raise ConfigError(f"bot.toml: [web] {name} = '{path}' cannot be read: {error.strerror}.") from None
    if f"{kind}-----".encode() not in content:
        raise ConfigError(f"bot.toml: [web] {name} = '{path}' has no '{kind}' in PEM form in it. It has to be {what}.")


def certificate_doubts(config: WebTable, now: float | None = None) -> Iterator[Doubt]:
    """What is wrong with the certificate of `[web]`, or soon will be. `now` is in seconds since the epoch."""
    try:
        context = load(config)
    except ConfigError as error:
        yield Doubt(True, str(error))
        return
    certificate, key = _paths(config)
    if is_open(key, 0o044):
        yield Doubt(True, f"Others on this machine can read the private key '{key}'. Say: chmod 600 '{key}'")
    try:
        found = _introduce(context, certificate)
    except ssl.SSLError as error:
        yield Doubt(True, f"[web] certificate = '{certificate}' is one that browsers refuse: {_reason(error)}.")
        return
    yield from _times(str(certificate), found, time.time() if now is None else now)
    yield from _names(config, context)


def _times(path: str, found: dict[str, Any], now: float) -> Iterator[Doubt]:
    begin, end = (ssl.cert_time_to_seconds(found[name]) for name in ("notBefore", "notAfter"))
    day = time.strftime("%Y-%m-%d", time.gmtime(end))
    if now >= end:
        yield Doubt(True, f"[web] certificate = '{path}' is over since {day}. Get a new one; no restart is needed.")
    elif now < begin:
        yield Doubt(True, f"[web] certificate = '{path}' is not valid yet. See whether this machine's clock is right.")
    elif end - now < min(SOON, (end - begin) / 5):
        left = int((end - now) / DAY)
        yield Doubt(False, f"[web] certificate = '{path}' ends on {day}, in {left} days. See that it is renewed.")


def _names(config: WebTable, context: ssl.SSLContext) -> Iterator[Doubt]:
    host = urlsplit(config.public_url).hostname or ""
    if not host or urlsplit(config.public_url).scheme != "https":
        return
    try:
        _introduce(context, _paths(config)[0], host)
    except ssl.SSLError as error:
        yield Doubt(
            False, f"[web] certificate is not for '{host}' of public_url, so browsers refuse it: {_reason(error)}."
        )


def _introduce(server: ssl.SSLContext, certificate: Path, host: str = "") -> dict[str, Any]:
    """What a client that trusts just this certificate, at any time, sees of it. Raises ssl.SSLError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = bool(host)
    client.verify_flags = ssl.VerifyFlags(client.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN | _ANY_TIME)
    client.load_verify_locations(certificate)
    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    guest = client.wrap_bio(inward, outward, server_hostname=host or None)
    sides = (guest, server.wrap_bio(outward, inward, server_side=True))
    for side in sides * 4:
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return guest.getpeercert() or {}


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error.reason or error).rstrip(".")
