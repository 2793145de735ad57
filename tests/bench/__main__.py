"""Run the benches that are named, all of them when none is: `python -m bench start telegram --rounds 5`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from rich.console import Console

from bench.figures import Report, brief, load, write

BENCHES = ("start", "telegram", "brain", "last", "growth", "journal", "memory", "archive", "private", "channels")
SLOW = ("channels", "brain", "last", "growth", "memory", "archive")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="BENCH", help=f"one or more of: {', '.join(BENCHES)}")
    slow = f"how often each is repeated (5 times; {', '.join(SLOW)} 3)"
    parser.add_argument("--rounds", type=int, default=0, help=slow)
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="the folder for NAME.json")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHES):
        parser.error(f"there is no bench '{unknown.pop()}'. There are: {', '.join(BENCHES)}.")
    console = Console(width=max(120, Console().width))
    for name in given.names or BENCHES:
        before = load()
        rounds = given.rounds or (3 if name in SLOW else 5)
        measured = importlib.import_module(f"bench.{name}").measure(rounds)
        for report in [measured] if isinstance(measured, Report) else measured:
            report.show(console)
            console.print(
                f"  {rounds} rounds; median (smallest..largest); load {brief(before)} before, {brief(load())} after."
            )
            console.print(f"  Written to {write(given.out, report, before)}\n")


if __name__ == "__main__":
    main()
