"""The channels that come with Roost, each imported only when it is switched on."""

from __future__ import annotations

import sys
from collections.abc import Callable

from roost.hookspecs import hookimpl


@hookimpl
def register_channels(register: Callable[..., None]) -> None:
    register("terminal", "roost.channels.terminal:Terminal", always=True)
    register("web", "roost.channels.web:WebChat", always=True)
    # python-telegram-bot imports httpx, and that its own command line with rich and pygments if it can: a tenth of
    # the time to start, and 3 MB. httpx does without it.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    register("telegram", "roost.channels.telegram:Telegram")
    register("webhook", "roost.channels.webhook:Webhook")
    register("mqtt", "roost.channels.mqtt:Mqtt")
    register("mumble", "roost.channels.mumble:Mumble")
    register("ntfy", "roost.channels.ntfy:Ntfy")
    register("gotify", "roost.channels.gotify:Gotify")
    register("email", "roost.channels.email:Email")
    register("irc", "roost.channels.irc:Irc")
    register("sms", "roost.channels.sms:Sms")
    register("slack", "roost.channels.slack:Slack")
    register("matrix", "roost.channels.matrix:Matrix")
    register("nostr", "roost.channels.nostr:Nostr")
    register("mastodon", "roost.channels.mastodon:Mastodon")
    register("xmpp", "roost.channels.xmpp:Xmpp")
    register("homeassistant", "roost.channels.homeassistant:HomeAssistant")
    register("smpp", "roost.channels.smpp:Smpp")
    register("deltachat", "roost.channels.deltachat:DeltaChat")
    register("bluesky", "roost.channels.bluesky:Bluesky")
    register("sip", "roost.channels.sip:Sip")
    register("tox", "roost.channels.tox:ToxChannel")
