"""docs/channels.md: what the scenarios proved, for every channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kit.rig import Rig
from kit.scenarios import SCENARIOS, Level, Scenario
from roost.contracts import Channel

Proof = Mapping[str, bool]
"""Scenario name -> whether it was proven; a name that is absent does not apply."""

LEVELS: tuple[Level, ...] = ("bronze", "silver", "gold")
HEAD = """# Channels

Generated from the conformance scenarios: the channel's own code talks to the server named, over a socket. A `✓` is a
scenario that passed, `–` one that does not apply: the platform, or this channel, has no such thing. A test says when
this page is stale. A channel with another way in, or proven against a second server, has a line for each.

**Bronze**: text, Unicode, long texts, groups, refused logins. **Silver**: and nothing is lost, doubled or stuck,
whatever goes wrong on the way. **Gold**: and everything else that the platform has. **Platinum**: gold, against a
server that was not written here.
"""


def applying(channel: type[Channel], rig: type[Rig]) -> list[Scenario]:
    return [one for one in SCENARIOS.values() if one.applies(channel, rig)]


def tier(rig: type[Rig], proof: Proof) -> str:
    """The highest tier all of whose scenarios, and those of the tiers below, were proven."""
    reached = "none"
    for level in LEVELS:
        if not all(done for name, done in proof.items() if SCENARIOS[name].level == level):
            return reached
        reached = level
    return "platinum" if rig.written_by_others else reached


def page(proofs: Mapping[str, Proof], rigs: Mapping[str, type[Rig]], servers: Mapping[str, str]) -> str:
    columns = list(dict.fromkeys(one.column for one in SCENARIOS.values()))
    names = sorted(proofs)
    lines = [HEAD, "| channel | tier | proven against |", "|---|---|---|"]
    lines += [
        f"| [{name}](channels/{rigs[name].kind}.md) | {tier(rigs[name], proofs[name])} | {servers[name]} |"
        for name in names
    ]
    lines += ["", f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| {column} | {' | '.join(cells(column, (proofs[name] for name in names)))} |" for column in columns]
    return "\n".join(lines) + "\n"


def cells(column: str, proofs: Iterable[Proof]) -> Iterable[str]:
    for proof in proofs:
        found = [done for name, done in proof.items() if SCENARIOS[name].column == column]
        yield ("✓" if all(found) else "✗") if found else "–"
