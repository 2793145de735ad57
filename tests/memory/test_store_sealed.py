"""A sealed store keeps every promise of a clear one, and shows nothing to who has no key.

The tests of the clear store that are imported here run again, with every store sealed.
"""

# ruff: noqa: F401, F811
from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
from base64 import b64decode, b64encode
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest
import test_store
import test_store_crash
from hypothesis import given, settings
from hypothesis import strategies as st
from plug import PHASES, Died, Phase, Plug, PowerCut
from seeded import seeded
from test_store import (
    db,
    path,
    test_a_document_may_bring_its_own_id,
    test_a_failing_update_changes_nothing,
    test_a_file_from_a_newer_version_is_refused_and_left_alone,
    test_a_refused_write_is_taken_back_and_the_next_one_is_whole,
    test_a_rewrite_that_fails_is_no_failure_of_the_write,
    test_any_sequence_of_operations_ends_as_it_does_in_tinydb,
    test_cut_anywhere_the_file_opens_with_every_whole_line,
    test_documents_get_ids_in_order_and_are_found_by_them,
    test_everything_is_there_after_reopening_with_the_same_ids,
    test_files_are_their_owners_alone,
    test_folders_are_made_when_asked_for,
    test_one_more_document_costs_the_same_bytes_however_many_there_are,
    test_removal_and_truncation,
    test_tables_are_apart_and_can_be_dropped,
    test_updates_replace_upsert_and_call,
    test_whatever_is_spliced_in_the_file_opens_and_goes_on,
)
from test_store_crash import (
    new_file,
    test_a_power_cut_at_any_step_loses_nothing_that_was_synced,
    test_killed_at_any_step_nothing_acknowledged_is_lost,
)
from tinydb import TinyDB

from roost.cipher import SEALED, Cipher, begin
from roost.errors import StoreError
from roost.memory import lines, store
from roost.memory.disk import Disk
from roost.memory.lines import HEADER, SEALED_HEADER, replay, reveal, seal
from roost.memory.store import Fsync, JsonlStorage, Store, seal_all, unseal_all

CIPHER = Cipher(bytes(range(32)))
OTHER = Cipher(bytes(32))
CANARY = "canary"


def sealed_store(*arguments, **options) -> Store:
    return Store(*arguments, **options) if "storage" in options else Store(*arguments, cipher=CIPHER, **options)


@pytest.fixture(autouse=True)
def sealed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.function.__module__ == "test_store_crash":
        monkeypatch.setattr(store, "SLACK", 100)
    for module in (test_store, test_store_crash):
        monkeypatch.setattr(module, "Store", sealed_store)
    monkeypatch.setattr(test_store, "JsonlStorage", functools.partial(JsonlStorage, cipher=CIPHER))
    monkeypatch.setattr(test_store, "HEADER", SEALED_HEADER)


def fill(path: Path, cipher: Cipher | None, documents: int = 5) -> bytes:
    """A store of documents {"n": 0, "text": "canary"}, {"n": 1, …}, and what its file then holds."""
    with Store(path, cipher=cipher, fsync="os") as db:
        for n in range(documents):
            db.table(CANARY).insert({"n": n, "text": CANARY})
    return path.read_bytes()


def numbers(path: Path, cipher: Cipher | None = CIPHER) -> list[int]:
    with Store(path, cipher=cipher, fsync="os") as db:
        return [doc["n"] for doc in db.table(CANARY)]


def shown(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# What is on the disk.


def test_nothing_of_what_is_written_can_be_found_in_the_folder(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SLACK", 500)
    with Store(path, cipher=CIPHER) as db:
        for n in range(30):
            db.table(CANARY).upsert({"key": 1, "text": f"canary {n}"}, lambda doc: True)
            db.table("other").insert({"Vögel": [CANARY]})
        db.drop_table("other")
        db.storage.compact()
        db.insert({CANARY: CANARY})
    content = path.read_bytes()
    path.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    Store(path, cipher=CIPHER).close()
    assert len(list(path.parent.iterdir())) == 2
    everything = shown(path.parent)
    # With their quotes, which base64 has not: it may well spell three letters.
    for word in (b"canary", b'"other"', b'"key"', b'"text"', b"V\xc3\xb6gel"):
        assert word not in everything


def test_every_line_but_the_first_is_a_checksum_a_mark_and_base64(path: Path):
    content = fill(path, CIPHER, 20)
    first, *rest, end = content.split(b"\n")
    assert first + b"\n" == SEALED_HEADER and end == b"" and len(rest) == 20
    for line in rest:
        assert line[:9] == b"%08x " % crc32(line[9:]) and line[9:10] == b"~"
        assert set(line[10:]) <= set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
    assert SEALED in content[:64]


def test_the_same_document_never_looks_the_same(path: Path):
    fill(path, CIPHER, 1)
    again = path.with_name("again.jsonl")
    fill(again, CIPHER, 1)
    assert path.read_bytes().splitlines()[1] != again.read_bytes().splitlines()[1]


def test_without_encryption_a_file_is_as_clear_as_ever(path: Path):
    content = fill(path, None)
    assert content.startswith(HEADER) and content.count(b"canary") == 10
    assert numbers(path, None) == list(range(5))
    assert path.read_bytes() == content


@given(
    st.dictionaries(
        st.text(max_size=5), st.recursive(st.none() | st.text() | st.floats(), st.lists, max_leaves=4), max_size=4
    )
)
@settings(deadline=None, max_examples=50)
def test_every_document_comes_back_as_it_was(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("round") / "x.jsonl"
    with Store(path, fsync="os", cipher=CIPHER) as db:
        db.insert(document)
    with Store(path, cipher=CIPHER) as db:
        assert repr(dict(db.get(doc_id=1))) == repr(document)
    with TinyDB(path, storage=JsonlStorage, cipher=CIPHER) as stock:
        assert repr(dict(stock.get(doc_id=1))) == repr(document)


def test_a_file_that_an_earlier_version_sealed_still_opens(path: Path):
    lines = [
        '6a3aae02 ["roost sealed",2]',
        "9854a51d ~HsgQbhzreXsAAAABjZosQ+gv7gRv9M7vRuBQwrUchdHxifAUhShyRJmlQrVCA3wb6FIfLcIQvUkoYofkdAvWeCq5X7jkzg==",
        "b3ee129a ~HsgQbhzreXsAAAACC5nXU9XQmzjTuJy/Cn10CMgV40NeWm6WSY06U61c8g77x2Kf8evLN2Mzn9cntlAn2g7txkFV7JY=",
    ]
    path.write_text("\n".join(lines) + "\n")
    with Store(path, cipher=CIPHER) as db:
        assert db.all() == [{"n": 1}] and db.table("two").all() == [{"n": "ü"}]
    assert path.read_text().splitlines() == lines


# Keys that are missing or wrong.


@pytest.mark.parametrize(("cipher", "sentence"), [(None, "no key to read it with"), (OTHER, "with another key")])
@pytest.mark.parametrize("damage", ["none", "header", "torn", "torn first line", "one line"])
def test_without_the_key_a_sealed_file_is_refused_and_left_as_it_is(
    path: Path,
    cipher: Cipher | None,
    sentence: str,
    damage: str,
):
    content = fill(path, CIPHER, 3)
    content = {
        "none": content,
        "header": b"x" + content[1:],
        "torn": content[:-40],
        "torn first line": b"x" + content[1 : len(SEALED_HEADER) + 60],
        "one line": content[:-40] + b"!" + content[-39:],
    }[damage]
    if damage == "torn first line" and cipher:
        return  # nothing whole is left, so no key is wrong
    path.write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreError, match=sentence) as caught:
            Store(path, cipher=cipher)
        assert f"'{path}' cannot be opened. It is encrypted" in str(caught.value)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == content


def test_an_empty_sealed_file_is_refused_without_a_key_as_well(path: Path):
    content = fill(path, CIPHER, 0)
    assert content == SEALED_HEADER
    with pytest.raises(StoreError, match="no key"):
        Store(path)
    assert path.read_bytes() == content
    with pytest.raises(StoreError, match="no key"):
        replay(content)


def test_a_sealed_file_from_a_newer_version_is_refused_and_left_alone(path: Path):
    content = seal(b'["roost sealed",3]') + b"something new\n"
    path.write_bytes(content)
    for cipher in (None, CIPHER):
        with pytest.raises(StoreError, match="newer Roost"):
            Store(path, cipher=cipher)
    assert path.read_bytes() == content


def test_the_key_of_a_folder_opens_its_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROOST_KEY", "00" * 32)
    fill(tmp_path / "x.jsonl", begin(tmp_path, "env:ROOST_KEY"))
    assert numbers(tmp_path / "x.jsonl", begin(tmp_path, "env:ROOST_KEY")) == list(range(5))
    for file in tmp_path.glob("cipher*"):
        file.unlink()
    with pytest.raises(StoreError, match=r"x\.jsonl' is encrypted"):
        begin(tmp_path, "env:ROOST_KEY")


# Damage, and lines where they do not belong.


def test_a_changed_byte_anywhere_costs_one_line_and_is_noticed(path: Path, caplog):
    content = fill(path, CIPHER, 3)
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        left = numbers(path)
        assert len(left) >= (1 if content[place] == 0x0A else 2) and set(left) <= set(range(3))
        assert numbers(path) == left
    assert shown(path.parent).count(CANARY.encode()) == 0
    assert "canary" not in caplog.text


def changed(line: bytes) -> bytes:
    """A line whose content was changed by somebody who knows how the checksum is made."""
    payload = bytearray(line[9:])
    payload[40] = ord("A") if payload[40] != ord("A") else ord("B")
    return seal(bytes(payload))[:-1]


def renumbered(line: bytes, number: int) -> bytes:
    data = b64decode(line[10:])
    return seal(b"~" + b64encode(data[:8] + number.to_bytes(4, "big") + data[12:]))


def test_a_line_cannot_be_given_another_number(path: Path):
    lines = fill(path, CIPHER, 4).splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, renumbered(lines[2], 5)]))
    with Store(path, cipher=CIPHER) as db:
        db.table(CANARY).update({"n": 10}, doc_ids=[2])
    assert numbers(path) == [0, 10, 2, 3]
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


def test_a_forged_line_is_damage_though_its_checksum_is_right(path: Path):
    lines = fill(path, CIPHER, 4).splitlines()
    for place in range(1, 5):
        path.write_bytes(b"\n".join([*lines[:place], changed(lines[place]), *lines[place + 1 :]]) + b"\n")
        assert numbers(path) == [n for n in range(4) if n != place - 1]


@pytest.mark.parametrize(
    ("moved", "left"),
    [
        ([0, 1, 2, 4, 3], [0, 1, 3]),
        ([0, 1, 2, 2, 3, 4], [0, 1, 2, 3]),
        ([0, 1, 3, 4], [0, 2, 3]),
        ([0, 2, 3, 4], [1, 2, 3]),
    ],
)
def test_lines_in_another_order_repeated_or_left_out_are_damage(path: Path, moved, left, caplog):
    content = fill(path, CIPHER, 4)
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[n] for n in moved))
    assert numbers(path) == left
    assert "1 are not" in caplog.text
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


def test_a_line_from_another_file_or_an_earlier_one_is_damage(path: Path, caplog):
    other = path.with_name("other.jsonl")
    foreign = fill(other, CIPHER, 9).splitlines(keepends=True)
    before = fill(path, CIPHER, 9).splitlines(keepends=True)
    with Store(path, cipher=CIPHER) as db:
        db.table(CANARY).remove(doc_ids=[1])
        db.storage.compact()
    content = path.read_bytes()
    for line in (foreign[-1], before[-1], foreign[1], before[1]):
        caplog.clear()
        path.write_bytes(content + line)
        assert numbers(path) == list(range(1, 9))
        assert "1 are not" in caplog.text


def test_a_clear_line_in_a_sealed_file_is_not_believed(path: Path):
    forged = lines.write_line({CANARY: {1: b'{"n":666}', 99: b'{"n":666}'}})
    content = fill(path, CIPHER, 3)
    for spliced in (content + forged, SEALED_HEADER + forged + content[len(SEALED_HEADER) :]):
        path.write_bytes(spliced)
        assert numbers(path) == [0, 1, 2]


def test_a_damaged_sealed_file_is_kept_beside_byte_for_byte(path: Path, caplog):
    content = fill(path, CIPHER, 3)
    damaged = content[:-40] + b"!" + content[-39:]
    path.write_bytes(damaged)
    assert numbers(path) == [0, 1]
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == damaged
    seen = reveal(damaged, CIPHER).splitlines()
    assert [b'"n":%d' % n in line for n, line in enumerate(seen[:2])] == [True, True]
    assert seen[2] == damaged.splitlines()[3]


def test_damage_of_a_clear_file_found_at_switching_on_is_kept_sealed(path: Path):
    damaged = fill(path, None).replace(b'"n":2', b'"n":7')
    path.write_bytes(damaged)
    assert numbers(path) == [0, 1, 3, 4]
    (aside,) = path.parent.glob("*.damaged-*")
    assert b"canary" not in shown(path.parent)
    assert reveal(aside.read_bytes(), CIPHER).rstrip(b"\n") == damaged.rstrip(b"\n")


@pytest.mark.parametrize("content", [b"\0" * 5000, b"text\nmore\n", bytes(range(256)) * 9, b"\n", b"00000000 \n"])
def test_a_file_of_something_else_is_kept_beside_and_a_new_one_begun(path: Path, content: bytes):
    path.write_bytes(content)
    fill(path, CIPHER, 1)
    assert numbers(path) == [0]
    (aside,) = path.parent.glob("*.damaged-*")
    assert reveal(aside.read_bytes(), CIPHER) == content + b"\n"


# 200 bytes fewer leave one line whole: with less of a file than that, no key is wrong.
@given(data=st.binary(max_size=200), at=st.integers(0, 600), remove=st.integers(0, 200), cipher=st.booleans())
@settings(deadline=None, max_examples=100)
def test_no_splice_makes_a_store_without_a_key_touch_the_file(tmp_path_factory, data, at, remove, cipher):
    path = tmp_path_factory.mktemp("spliced") / "x.jsonl"
    content = fill(path, CIPHER, 4)
    path.write_bytes(content[:at] + data + content[at + remove :])
    before = path.read_bytes()
    with pytest.raises(StoreError):
        Store(path, cipher=OTHER if cipher else None).close()
    assert path.read_bytes() == before


# Switching on and off.


def test_a_clear_file_is_sealed_when_it_is_opened_with_a_key(path: Path):
    fill(path, None)
    with Store(path, cipher=CIPHER) as db:
        assert b"canary" not in shown(path.parent)
        db.table(CANARY).insert({"n": 5})
    assert numbers(path) == list(range(6))
    assert path.read_bytes().startswith(SEALED_HEADER) and b"{" not in path.read_bytes()


@pytest.mark.parametrize("end", [b"", b'0badcafe {"cana', HEADER[:5]])
def test_an_unfinished_write_is_dropped_when_a_file_is_sealed(path: Path, end: bytes):
    content = fill(path, None)
    path.write_bytes(content + end)
    assert numbers(path) == list(range(5))
    assert b"canary" not in shown(path.parent)


@pytest.mark.parametrize("length", [0, 5, len(HEADER) - 1, len(HEADER)])
def test_a_clear_file_that_was_hardly_begun_is_sealed(path: Path, length: int):
    path.write_bytes(HEADER[:length])
    Store(path, cipher=CIPHER).close()
    assert path.read_bytes() == SEALED_HEADER
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("length", [0, 5, len(SEALED_HEADER) - 1])
def test_a_sealed_file_that_was_hardly_begun_holds_nothing_to_lose(path: Path, length: int):
    path.write_bytes(SEALED_HEADER[:length])
    Store(path).close()
    assert path.read_bytes() == HEADER


def test_a_full_disk_at_switching_on_is_said_and_nothing_is_lost(path: Path):
    class Full(Disk):
        def write(self, file, data):
            raise OSError(28, "No space left on device")

    content = fill(path, None)
    with pytest.raises(OSError, match="No space"):
        Store(path, cipher=CIPHER, disk=Full())
    assert path.read_bytes() == content
    assert numbers(path) == list(range(5))


@pytest.mark.parametrize("cut", [Plug, PowerCut])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("damaged", [False, True])
def test_whenever_switching_on_is_cut_short_the_next_try_ends_it(
    tmp_path: Path, phase: Phase, cut: type[Plug], damaged: bool
):
    for at in count(1):
        path = new_file(tmp_path, at)
        plug = cut(at, phase)
        content = fill(path, None)
        path.write_bytes(content.replace(b'"n":2', b'"n":7') if damaged else content)
        if isinstance(plug, PowerCut):
            plug.named = {path.name: path.read_bytes()}
        try:
            Store(path, cipher=CIPHER, disk=plug).close()
        except Died:
            plug.after_death()
        if isinstance(plug, PowerCut):
            plug.lose(path.parent)
        whole = [0, 1, 3, 4] if damaged else list(range(5))
        assert numbers(path) == whole
        assert numbers(path) == whole
        assert b"canary" not in shown(path.parent)
        assert len(list(path.parent.iterdir())) == 1 + damaged
        if not plug.dead:
            assert at > 3
            break


def test_a_store_goes_on_in_clear_text_or_with_another_key_when_told_to(path: Path):
    fill(path, CIPHER)
    for before, after in ((CIPHER, OTHER), (OTHER, None)):
        with Store(path, cipher=before) as db:
            db.storage.turn_over(after)
            db.table(CANARY).insert({"n": 9})
        with Store(path, cipher=after) as db:
            assert [doc["n"] for doc in db.table(CANARY)][:5] == list(range(5))
        if after:
            with pytest.raises(StoreError, match="another key"):
                Store(path, cipher=before)
    assert b"canary" in path.read_bytes() and b"~" not in path.read_bytes()


def test_a_whole_folder_is_sealed_and_unsealed(tmp_path: Path, caplog):
    fill(tmp_path / "a.jsonl", None)
    (tmp_path / "deep").mkdir()
    damaged = fill(tmp_path / "deep" / "b.jsonl", None).replace(b'"n":2', b'"n":7')
    (tmp_path / "deep" / "b.jsonl").write_bytes(damaged)
    assert numbers(tmp_path / "deep" / "b.jsonl", None) == [0, 1, 3, 4]
    (tmp_path / "a.jsonl.new").write_bytes(b"canary")
    (tmp_path / "export.jsonl").write_bytes(b'{"theirs": "not a store"}\n')
    fill(tmp_path / "other.jsonl", OTHER)
    before = {name: (tmp_path / name).read_bytes() for name in ("export.jsonl", "other.jsonl")}

    assert seal_all(tmp_path, CIPHER) == 3
    assert b"canary" not in shown(tmp_path)
    assert seal_all(tmp_path, CIPHER) == 0
    assert numbers(tmp_path / "a.jsonl") == list(range(5))

    caplog.clear()
    assert unseal_all(tmp_path, CIPHER) == 3
    assert "other.jsonl' cannot be opened" in caplog.text
    assert unseal_all(tmp_path, CIPHER) == 0
    assert numbers(tmp_path / "deep" / "b.jsonl", None) == [0, 1, 3, 4]
    (aside,) = (tmp_path / "deep").glob("*.damaged-*")
    assert aside.read_bytes().rstrip(b"\n") == damaged.rstrip(b"\n")
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("turn", [seal_all, unseal_all])
def test_killed_while_it_turns_a_folder_over_nothing_is_lost(tmp_path: Path, phase: Phase, turn):
    for at in count(1):
        folder = new_file(tmp_path, at).parent
        for name in "ab":
            fill(folder / f"{name}.jsonl", None)
            (folder / f"{name}.jsonl.damaged-00000000").write_bytes(b"canary")
        if turn is unseal_all:
            seal_all(folder, CIPHER)
        plug = Plug(at, phase)
        try:
            turn(folder, CIPHER, plug)
        except Died:
            plug.after_death()
        turn(folder, CIPHER)
        for name in "ab":
            assert numbers(folder / f"{name}.jsonl", None if turn is unseal_all else CIPHER) == list(range(5))
        assert (b"canary" in shown(folder)) == (turn is unseal_all)
        assert len(list(folder.iterdir())) == 4
        if not plug.dead:
            assert at > 10
            break


# Failures while it runs.


@pytest.mark.parametrize("deed", [True, False])
def test_a_rename_that_reports_failure_leaves_a_store_that_goes_on(path: Path, deed: bool):
    class Doubtful(Disk):
        def replace(self, source, target):
            if deed:
                super().replace(source, target)
            raise OSError(5, "Input/output error")

    with Store(path, cipher=CIPHER, disk=Doubtful()) as db:
        db.table(CANARY).insert({"n": 1})
        with pytest.raises(OSError):
            db.storage.compact()
        db.table(CANARY).insert({"n": 2})
    assert numbers(path) == [1, 2]
    assert not list(path.parent.glob("*.damaged-*"))


CHILD = """
import sys
from roost.cipher import Cipher
from roost.memory.store import Store
db = Store(sys.argv[1], fsync=sys.argv[2], cipher=Cipher(bytes(range(32))))
n = len(db)
while True:
    db.insert({"n": n, "text": "canary" * (n * 37 % 60)})
    if n > 20:
        db.update({"text": ""}, doc_ids=[n - 20])
    n += 1
    print(n, flush=True)
"""


@pytest.mark.parametrize("fsync", ["always", "os"])
def test_killed_for_real_nothing_acknowledged_is_lost(tmp_path: Path, fsync: Fsync, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(test_store_crash, "CHILD", CHILD)
    chance = seeded()
    path = tmp_path / "x.jsonl"
    for _ in range(4):
        acknowledged = test_store_crash.kill_child(path, fsync, chance.randrange(1, 300))
        with Store(path, cipher=CIPHER) as db:
            assert len(db) >= acknowledged
            assert [doc["n"] for doc in db] == list(range(len(db)))
        assert b"canary" not in shown(tmp_path)


def test_a_clear_store_needs_no_library(tmp_path: Path):
    code = f"import sys; from roost.memory.store import Store; Store({os.fspath(tmp_path / 'x')!r}).insert({{}}); "
    code += "print({'cryptography', 'roost.cipher'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
