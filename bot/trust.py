"""Whose certificates a channel believes that speaks TLS by itself."""

from __future__ import annotations

import ssl

from roost.errors import LoginFailed


def trust(name: str, ca: str = "", certificate: str = "") -> ssl.SSLContext:
    """TLS that checks the server's certificate: against `ca` where it is named, a PEM file, else as the system does.

    `certificate` is a PEM file with the bot's own certificate and its key. Raises LoginFailed for files that are none:
    the channel `name` would find them so at each try.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if certificate:
            context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        keys = [f"{key} = '{file}'" for key, file in (("ca", ca), ("certificate", certificate)) if file]
        raise LoginFailed(
            f"bot.toml: [channels.{name}] {' or '.join(keys)} cannot be read as certificates: "
            f"{error.strerror or error}."
        ) from None
    return context
