"""Run the benches that are named, all of them when none is: `python -m bench start telegram --rounds 5`."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from rich.console import Console

from bench.figures import brief, load, write

BENCHES = ("start", "telegram", "brain", "growth", "journal", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="BENCH", help=f"one or more of: {', '.join(BENCHES)}")
    parser.add_argument(
        "--rounds", type=int, default=0, help="how often each is repeated (5 times; brain and growth 3)"
    )
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="the folder for NAME.json")
    given = parser.parse_args()
    if unknown := set(given.names) - set(BENCHES):
        parser.error(f"there is no bench '{unknown.pop()}'. There are: {', '.join(BENCHES)}.")
    console = Console(width=max(120, Console().width))
    for name in given.names or BENCHES:
        before = load()
        rounds = given.rounds or (3 if name in ("brain", "growth") else 5)
        report = importlib.import_module(f"bench.{name}").measure(rounds)
        report.show(console)
        console.print(
            f"  {rounds} rounds; median (smallest..largest); load {brief(before)} before, {brief(load())} after."
        )
        console.print(f"  Written to {write(given.out, report, before)}\n")


if __name__ == "__main__":
    main()
