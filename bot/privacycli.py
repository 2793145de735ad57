"""`roost privacy …`: what left this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from roost.hookspecs import hookimpl

if TYPE_CHECKING:
    from roost.ledger import Row

NOTHING = "Nothing left this machine in that time."
UNSEEN = "These programs were started. What they connect to is not seen:"
REFUSED = "Refused, since [privacy] has strict = true:"
HEADINGS = ("day", "last", "who", "where", "connections", "sent", "received", "private data")


@hookimpl
def register_cli(cli: click.Group) -> None:
    cli.add_command(privacy)


@click.group()
def privacy() -> None:
    """What left this machine, and what was kept."""


@privacy.command()
@click.option("--days", type=click.IntRange(1), default=7, show_default=True, help="How far back.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
def report(days: int, as_json: bool) -> None:
    """List what left, when, to where, how much, by whom, which kinds of private data; and what was refused."""
    from roost.home import data_folder
    from roost.ledger import FILE, Ledger, day_of

    found = Ledger(data_folder() / FILE).read(day_of(time.time() - (days - 1) * 86400))
    click.echo(json.dumps([asdict(one) for one in found], ensure_ascii=False) if as_json else "\n".join(told(found)))


def told(rows: Sequence[Row]) -> list[str]:
    """The report, in lines."""
    if not rows:
        return [NOTHING]
    left = [one for one in rows if one.sort == "connection" and (one.connections or one.sent or one.received)]
    lines = columns([HEADINGS, *(line(one, kinds_of(one, rows)) for one in left), *unplaced(left, rows)])
    refused = sorted({(one.who, one.host, one.refused) for one in rows if one.refused})
    programs = sorted({(one.who, one.host) for one in rows if one.sort == "program"})
    if refused:
        lines += ["", REFUSED, *(f"  {who}: {host}, {count} times" for who, host, count in refused)]
    if programs:
        lines += ["", UNSEEN, *(f"  {who}: {name}" for who, name in programs)]
    return lines


def line(one: Row, kinds: str) -> tuple[str, ...]:
    where = f"{one.host}:{one.port}" if one.port else one.host
    known = one.unknown < one.connections or one.sent or one.received
    sent, received = (size(one.sent), size(one.received)) if known else ("not known", "not known")
    return one.day, clock(one.last), one.who, where, str(one.connections), sent, received, kinds


def kinds_of(one: Row, rows: Iterable[Row]) -> str:
    """The kinds of private data that somebody sent that day; to this host, where that was written down."""
    same = (other for other in rows if other.sort == "private" and (other.day, other.who) == (one.day, one.who))
    return ", ".join(sorted({kind for other in same if other.host in {"", one.host} for kind in other.kinds}))


def unplaced(left: Sequence[Row], rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Private data that went over a connection of another day, of which no byte was counted on this one."""
    there = {(one.day, one.who) for one in left}
    return [
        (one.day, clock(one.last), one.who, one.host or "(an open connection)", "", "", "", ", ".join(one.kinds))
        for one in rows
        if one.sort == "private" and (one.day, one.who) not in there
    ]


def columns(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines as a table for a terminal."""
    widths = [max(len(one[place]) for one in lines) for place in range(len(HEADINGS))]
    return ["  ".join(text.ljust(width) for text, width in zip(one, widths, strict=True)).rstrip() for one in lines]


def clock(at: float) -> str:
    return time.strftime("%H:%M", time.localtime(at))


def size(count: float) -> str:
    """Bytes, in three digits or so."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
