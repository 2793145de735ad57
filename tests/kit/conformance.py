"""Every channel, in every mode, against every scenario.

The cases are dealt out to several test modules, to run side by side.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import cache
from pathlib import Path

import pytest

from kit.rig import Rig
from kit.scenarios import Scenario
from kit.table import applying, page
from kit.talk import Talk
from roost.registry import Registry

PAGE = Path(__file__).parents[2] / "docs" / "channels.md"
REGISTRY = Registry()
REGISTRY.load()
PARTS = 4
UNKNOWN = 15.0
# What all scenarios of a rig take, in seconds, where that is not about UNKNOWN:
# pytest --durations=0 tests/channels/test_conformance_*.py
SECONDS: dict[str, float] = {
    "tox": 200,
    "deltachat": 75,
    "matrix": 65,
    "matrix (encrypted)": 65,
    "irc": 65,
    "mastodon": 44,
    "nostr": 34,
    "email": 30,
    "xmpp": 30,
    "xmpp (ejabberd)": 38,
    "webhook": 26,
    "email (Postfix, Dovecot)": 25,
    "homeassistant": 21,
    "ntfy": 18,
    "sip": 18,
    "bluesky": 18,
    "terminal": 7,
    "web": 5,
    "sms (polling)": 9,
}


def rigs() -> dict[str, type[Rig]]:
    """Name -> rig, from tests/rigs: RIG of each module, and MODES where the channel can be run in other ways too."""
    folder = Path(__file__).parents[1] / "rigs"
    found = [importlib.import_module(f"rigs.{path.stem}") for path in sorted(folder.glob("[a-z]*.py"))]
    return {
        rig.name(): rig
        for module in found
        if hasattr(module, "RIG")
        for rig in (module.RIG, *getattr(module, "MODES", ()))
    }


RIGS = rigs()
PROOFS: dict[str, dict[str, bool]] = defaultdict(dict)
SERVERS: dict[str, str] = {}


@cache
def dealt() -> tuple[tuple[str, ...], ...]:
    """The names of every part: the longest channel first, each to the part that has the least to do so far.

    A channel is not torn apart: its modes share servers that take long to start.
    """
    spans = {kind: sum(SECONDS.get(name, UNKNOWN) for name in RIGS if RIGS[name].kind == kind) for kind in kinds()}
    parts: list[list[str]] = [[] for _ in range(PARTS)]
    for kind in sorted(spans, key=lambda kind: (-spans[kind], kind)):
        min(parts, key=lambda part: sum(spans[one] for one in part)).append(kind)
    return tuple(tuple(name for name in sorted(RIGS) if RIGS[name].kind in part) for part in parts)


def kinds() -> set[str]:
    """Every channel that has a rig."""
    return {rig.kind for rig in RIGS.values()}


def names(part: int) -> tuple[str, ...]:
    """The rigs of one part."""
    return dealt()[part]


def cases(part: int) -> list[object]:
    """For parametrize: a rig's name and a scenario."""
    return [
        pytest.param(
            name,
            one,
            id=f"{re.sub('[^a-zA-Z0-9]+', '-', name).strip('-')}-{one.name}",
            marks=[pytest.mark.system(*pair) for pair in RIGS[name].programs],
        )
        for name in names(part)
        for one in applying(REGISTRY.channels.take(RIGS[name].kind), RIGS[name])
    ]


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    folder = tmp_path / "platform"
    folder.mkdir()
    one = RIGS[request.getfixturevalue("name")](folder)
    try:
        await one.start()
        yield one
    finally:
        await one.stop()


async def prove(name: str, scenario: Scenario, rig: Rig, folder: Path) -> None:
    SERVERS[name] = rig.server
    PROOFS[name][scenario.name] = False
    missing = [one for one in scenario.needs if not rig.has(one)]
    assert not missing, f"The channel can do this; so the rig of {name} needs {', '.join(missing)}."
    await scenario.run(Talk(rig, folder))
    PROOFS[name][scenario.name] = True


def check_page(part: int) -> None:
    """What docs/channels.md says of the rigs of a part is what was proven just now.

    Skips when not all of its scenarios ran. With a folder in ROOST_PROOFS, the page is written anew by the last part.
    """
    ran, wanted = sum(len(PROOFS[name]) for name in names(part)), len(cases(part))
    if ran < wanted:
        pytest.skip(f"Only {ran} of {wanted} scenarios ran.")
    if folder := os.environ.get("ROOST_PROOFS"):
        keep(Path(folder), part)
        return
    own = names(part)
    made = page({name: PROOFS[name] for name in own}, RIGS, SERVERS)
    kept = PAGE.read_text(encoding="utf-8")
    for name in own:
        assert said(kept, name) == said(made, name), "make channels"


def keep(folder: Path, part: int) -> None:
    """Leave what was proven in a folder; write the page when every part is there."""
    own = {name: (SERVERS[name], PROOFS[name]) for name in names(part)}
    (folder / f"{part}.json").write_text(json.dumps(own), encoding="utf-8")
    kept = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    if len(kept) == PARTS:
        found = {name: one for part in kept for name, one in part.items()}
        proofs = {name: proof for name, (_, proof) in found.items()}
        servers = {name: server for name, (server, _) in found.items()}
        PAGE.write_text(page(proofs, RIGS, servers), encoding="utf-8")


def said(text: str, name: str) -> list[str]:
    """What a page says of one rig: its tier and server, then the marks of its column. Without versions: the servers
    of the system differ from machine to machine.
    """
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    own = [row[1:] for row in rows if row[0].startswith(f"[{name}]")]
    marks = text[text.index("\n| | ") + 1 :].splitlines()
    columns = [cell.strip() for cell in marks[0].split("|")]
    column = columns.index(name) if name in columns else -1
    found = [(line.split("|")[1].strip(), line.split("|")[column].strip()) for line in marks[2:]]
    return [re.sub(r"\d+(\.\d+)+\S*", "", cell) for row in own for cell in row] + [
        f"{row}: {mark}" for row, mark in found if mark != "–"
    ]
