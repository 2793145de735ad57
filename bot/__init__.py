"""Roost: your own assistant, on your own machine, reachable from every chat app you already use.

A plugin needs one import:

    from roost import command

    @command
    def hello(name: str = "you") -> str:
        \"\"\"Greet someone.\"\"\"
        return f"Hello, {name}!"
"""

from __future__ import annotations

if __name__ != "roost":
    raise ImportError("This folder is the package 'roost': write `import roost`, not `import bot`.")

from roost.commands import command
from roost.hookspecs import hookimpl
from roost.jobs import job
from roost.keys import key
from roost.plugin_options import options
from roost.tools import tool
from roost.values import (
    Attachment,
    Button,
    Event,
    Mention,
    Message,
    Person,
    Place,
    Quote,
    Reply,
    Sent,
)

__version__ = "0.1.0"

__all__ = [
    "Attachment",
    "Button",
    "Event",
    "Mention",
    "Message",
    "Person",
    "Place",
    "Quote",
    "Reply",
    "Sent",
    "command",
    "hookimpl",
    "job",
    "key",
    "options",
    "tool",
]
