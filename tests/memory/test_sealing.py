"""A memory's folder becomes unreadable as a whole and readable again, whatever interrupts that."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plug import Died, Plug

from roost.cipher import SEALED_ID, Cipher
from roost.contracts import Role, Turn
from roost.errors import StoreError
from roost.memory import sealing
from roost.memory.disk import Disk
from roost.memory.sealing import DONE, seal_folder, unseal_folder
from roost.memory.settings import WindowConfig
from roost.memory.window import Window
from roost.memory.words import cut
from roost.values import Place

CIPHER = Cipher(bytes(range(32)))
HERE, THERE = Place("stage", "ännchen-von-tharau"), Place("stage", "2", kind="group")
CANARY = "Nußknacker".lower().encode()
ROLES: tuple[Role, Role] = ("user", "assistant")
CONFIG = WindowConfig(compact_keep=2, compact_action="extract", fsync="os")


async def opened(home: Path, cipher: Cipher | None) -> Window:
    window = Window(CONFIG, home)
    window.cipher = cipher
    await window.open()
    return window


async def fill(home: Path, cipher: Cipher | None = None) -> None:
    """Two conversations, one with an archive and its index, facts, a damaged copy."""
    window = await opened(home, cipher)
    for place in (HERE, THERE):
        for number in range(4):
            said = [Turn(role, f"Nußknacker {number} of {role}", id=f"{role}-{number}") for role in ROLES]
            await window.remember(place, said)
    await window.compact(HERE, None)
    await window.search(HERE, "nußknacker")
    await window.note(str(HERE), "Nußknacker crack nuts")
    await window.close()
    (home / "due.jsonl.damaged-12345678").write_bytes(b"nu\xc3\x9fknacker")


async def told(home: Path, cipher: Cipher | None) -> list[Any]:
    """All that the memory says of what `fill` wrote."""
    window = await opened(home, cipher)
    try:
        facts = [(fact.id, fact.text) for fact in await window.facts(str(HERE))]
        hits = [hit.turns for hit in await window.search(HERE, "nußknacker")]
        turns = [[turn.text for turn in await window.turns(place)] for place in (HERE, THERE)]
        size, reports = await window.size(HERE), len(await window.reports())
        owners = await window.places(), await window.owners()
        return [*owners, facts, hits, turns, size.folded, size.summary, reports]
    finally:
        await window.close()


def everything(home: Path) -> bytes:
    files = [path for path in home.rglob("*") if path.is_file()]
    return b"".join(path.read_bytes() + path.name.encode() for path in files).lower()


def unreadable(home: Path) -> bool:
    """Also as an index writes it."""
    words = [CANARY, "nußknacker".encode("utf-16-le"), *(word.encode() for word in cut("nußknacker"))]
    return not any(word in everything(home) for word in words)


@pytest.fixture
async def clear(tmp_path: Path) -> Path:
    await fill(tmp_path / "memory")
    return tmp_path / "memory"


async def test_opened_with_a_cipher_all_of_it_is_sealed_also_what_nobody_asks_for(clear: Path) -> None:
    before = await told(clear, None)
    assert not unreadable(clear) and b"nnchen-von" in everything(clear)
    (index,) = clear.glob("*.index")
    assert any(word.encode() in index.read_bytes() for word in cut("nußknacker"))
    await (await opened(clear, CIPHER)).close()
    assert unreadable(clear) and b"nnchen-von" not in everything(clear)
    assert await told(clear, CIPHER) == before
    assert unreadable(clear)
    unseal_folder(clear, CIPHER, Disk())
    assert await told(clear, None) == before
    assert everything(clear).count(CANARY) > 10 and not list(clear.rglob("*seal*"))
    assert (clear / "due.jsonl.damaged-12345678").read_bytes().strip() == b"nu\xc3\x9fknacker"


async def test_killed_at_any_step_of_being_sealed_it_is_sealed_by_the_next_start(clear: Path) -> None:
    before = await told(clear, None)
    for killed in each_kill(clear, lambda home, disk: seal_folder(home, CIPHER, disk)):
        assert await told(killed, CIPHER) == before
        assert unreadable(killed) and b"nnchen-von" not in everything(killed)


async def test_killed_at_any_step_of_being_decrypted_it_can_go_on_either_way(clear: Path) -> None:
    before = await told(clear, CIPHER)
    for killed in each_kill(clear, lambda home, disk: unseal_folder(home, CIPHER, disk)):
        back = killed.with_name("back")
        shutil.copytree(killed, back)
        unseal_folder(killed, CIPHER, Disk())
        assert not any(b"sealed" in path.read_bytes() for path in killed.rglob("*.*"))
        assert not any(SEALED_ID.to_bytes(4, "big") in path.read_bytes() for path in killed.rglob("*.index"))
        assert await told(killed, None) == before
        assert await told(back, CIPHER) == before
        assert unreadable(back) and b"nnchen-von" not in everything(back)
        shutil.rmtree(back)


def each_kill(home: Path, act: Callable[[Path, Disk], None]) -> Iterator[Path]:
    """Copies of the folder, each killed one step later than the one before; a write is half done then."""
    at = 0
    while True:
        at += 1
        copy = home.with_name(f"killed-{at}")
        shutil.copytree(home, copy)
        plug = Plug(at, "half")
        try:
            act(copy, plug)
        except Died:
            yield copy
            continue
        finally:
            for file in plug.files:
                file.close()
        assert at > 30
        return


async def test_a_folder_that_is_sealed_is_not_looked_through_again(
    clear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await opened(clear, CIPHER)).close()
    assert (clear / DONE).exists()
    monkeypatch.setattr(sealing, "seal_all", None)
    await (await opened(clear, CIPHER)).close()


async def test_two_files_of_one_place_are_both_kept(clear: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One in clear text was put back from a backup."""
    (old,) = clear.glob("*nnchen*.jsonl")
    data = old.read_bytes()
    await (await opened(clear, CIPHER)).close()
    old.write_bytes(data)
    (clear / DONE).unlink()
    await (await opened(clear, CIPHER)).close()
    assert "keeps its name" in caplog.text
    assert unreadable(clear) and old.exists()


async def test_a_copy_of_a_store_under_another_name_overwrites_nothing(clear: Path) -> None:
    before = await told(clear, None)
    for path in clear.glob("*nnchen*"):
        (clear / f"copy-0123456789abcdef{path.suffix}").write_bytes(path.read_bytes())
    for name in ("a-0123456789abcdef.jsonl", "z-0123456789abcdef.jsonl"):
        (clear / name).write_bytes((clear / "copy-0123456789abcdef.jsonl").read_bytes())
    window = await opened(clear, CIPHER)
    assert unreadable(clear)
    assert [turn.text for turn in await window.turns(HERE)] == before[4][0]
    assert len(list(clear.glob("*-0123456789abcdef.*"))) == 4
    await window.close()


async def test_an_archive_that_nothing_can_be_read_of_stays_sealed(clear: Path) -> None:
    await (await opened(clear, CIPHER)).close()
    (cold,) = clear.glob("*.cold")
    cold.write_bytes(cold.read_bytes()[:-20] + bytes(20))
    before = cold.read_bytes()
    unseal_folder(clear, CIPHER, Disk())
    (cold,) = clear.glob("*.cold")
    assert cold.read_bytes() == before


async def test_another_key_decrypts_nothing(clear: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = await told(clear, CIPHER)
    unseal_folder(clear, Cipher(bytes(32)), Disk())
    assert unreadable(clear) and "another key" in caplog.text
    assert await told(clear, CIPHER) == before
    with pytest.raises(StoreError):
        await opened(clear, Cipher(bytes(32)))


async def test_unsealing_a_window_with_no_cipher_or_no_folder_does_nothing(tmp_path: Path) -> None:
    window = Window(CONFIG, tmp_path / "none")
    await window.unseal()
    window.cipher = CIPHER
    await window.unseal()
    await window.close()
    assert not (tmp_path / "none").exists()
