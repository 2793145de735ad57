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
