"""The channels that come with Roost, each imported only when it is switched on."""

from __future__ import annotations

from collections.abc import Callable

from roost.hookspecs import hookimpl


@hookimpl
def register_channels(register: Callable[..., None]) -> None:
    register("terminal", "roost.channels.terminal:Terminal", always=True)
    register("web", "roost.channels.web:WebChat", always=True)
    register("telegram", "roost.channels.telegram:Telegram")
