"""The store behaves as TinyDB does, and writes what changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tinydb import TinyDB, where
from tinydb.middlewares import CachingMiddleware
from tinydb.operations import increment
from tinydb.storages import JSONStorage, MemoryStorage
from tinydb.table import Document

from roost.errors import StoreError
from roost.memory import store as store_module
from roost.memory.disk import Disk
from roost.memory.lines import HEADER, encode, seal
from roost.memory.store import JsonlStorage, Store
from roost.memory.tables import JournalTable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.jsonl"


@pytest.fixture(params=["store", "stock table", "memory storage", "json storage", "caching middleware"])
def db(request: pytest.FixtureRequest, path: Path):
    """The same tests hold for the store, for TinyDB's own table on our storage, and our table on others."""
    database = {
        "store": lambda: Store(path),
        "stock table": lambda: TinyDB(path, storage=JsonlStorage),
        "memory storage": lambda: Store(storage=MemoryStorage),
        "json storage": lambda: Store(str(path), storage=JSONStorage),
        "caching middleware": lambda: Store(path, storage=CachingMiddleware(JsonlStorage)),
    }[request.param]()
    with database:
        yield database


def test_documents_get_ids_in_order_and_are_found_by_them(db):
    assert db.insert({"n": 1}) == 1
    assert db.insert_multiple([{"n": 2}, {"n": 3}]) == [2, 3]
    assert db.get(doc_id=2) == {"n": 2}
    assert db.get(doc_id=2).doc_id == 2
    assert db.get(doc_id=9) is None
    assert [doc.doc_id for doc in db.get(doc_ids=[1, 3, 9])] == [1, 3]
    assert len(db) == 3
    assert [doc["n"] for doc in db] == [1, 2, 3]


def test_a_document_may_bring_its_own_id(db):
    assert db.insert(Document({"n": 7}, doc_id=7)) == 7
    assert db.insert({"n": 8}) == 8
    with pytest.raises(ValueError, match="already exists"):
        db.insert(Document({}, doc_id=7))
    with pytest.raises(ValueError, match="already exists"):
        db.insert_multiple([{"new": True}, Document({}, doc_id=7)])
    assert len(db) == 2


def test_queries_search_count_and_contain(db):
    db.insert_multiple({"n": n, "in": {"deep": [n]}} for n in range(10))
    assert len(db.search(where("n") < 3)) == db.count(where("n") < 3) == 3
    assert db.contains(where("in").deep.any([4]))
    assert not db.contains(where("n") == 10)
    assert db.contains(doc_id=10) and not db.contains(doc_id=11)
    assert db.get(where("n") == 5).doc_id == 6


def test_updates_replace_upsert_and_call(db):
    db.insert_multiple([{"n": 1}, {"n": 2}, {"n": 3}])
    assert db.update({"seen": True}, where("n") > 1) == [2, 3]
    assert db.update(increment("n"), doc_ids=[1, 99]) == [1]
    assert db.update({"all": 1}) == [1, 2, 3]
    assert db.update_multiple([({"n": 0}, where("n") == 3)]) == [3]
    assert db.upsert({"n": 50}, where("n") == 49) == [4]
    assert db.upsert({"more": 1}, where("n") == 50) == [4]
    assert db.upsert(Document({"own": 1}, doc_id=20)) == [20]
    assert db.all() == [
        {"n": 2, "all": 1},
        {"n": 2, "seen": True, "all": 1},
        {"n": 0, "seen": True, "all": 1},
        {"n": 50, "more": 1},
        {"own": 1},
    ]


def test_removal_and_truncation(db):
    db.insert_multiple({"n": n} for n in range(6))
    assert db.remove(where("n") >= 4) == [5, 6]
    assert db.remove(doc_ids=[1, 99]) == [1]
    assert [doc.doc_id for doc in db] == [2, 3, 4]
    db.truncate()
    assert len(db) == 0 and db.all() == []
    assert db.insert({"again": True}) == 1


def test_tables_are_apart_and_can_be_dropped(db):
    db.table("a").insert({"in": "a"})
    db.table("b").insert({"in": "b"})
    assert db.tables() == {"a", "b"}
    db.drop_table("a")
    db.drop_table("never there")
    assert db.tables() == {"b"} and db.table("b").all() == [{"in": "b"}]
    db.drop_tables()
    assert db.tables() == set() and len(db.table("b")) == 0
    db.table("kept empty", persist_empty=True)
    assert db.tables() == {"kept empty"}


def test_a_failing_update_changes_nothing(path: Path):
    with Store(path) as db:
        db.insert_multiple([{"n": [1]}, {"n": [2]}])
        size = path.stat().st_size

        def fail(doc):
            doc["n"].append(9)
            if doc["n"][0] == 2:
                raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            db.update(fail)
        with pytest.raises(TypeError):
            db.insert({"not json": object()})
        assert db.all() == [{"n": [1]}, {"n": [2]}]
        assert path.stat().st_size == size


def test_what_is_handed_out_cannot_change_what_is_stored(path: Path):
    with Store(path) as db:
        db.insert({"deep": {"list": [1]}})
        db.get(doc_id=1)["deep"]["list"].append(2)
        db.all()[0]["deep"].clear()
        assert db.get(doc_id=1) == {"deep": {"list": [1]}}


def test_everything_is_there_after_reopening_with_the_same_ids(path: Path):
    with Store(path) as db:
        db.insert_multiple({"n": n} for n in range(4))
        db.remove(doc_ids=[2])
        db.update({"text": "grüße 你好 🐓 \ud83d \x00\n\r\u2028"}, doc_ids=[3])
        db.insert({"not a number": [float("inf"), -1e300], "big": 2**70})
        db.table("other").insert(Document({"far": True}, doc_id=1000))
        before = {name: [(d.doc_id, dict(d)) for d in db.table(name)] for name in db.tables()}
    with Store(path) as db:
        assert {name: [(d.doc_id, dict(d)) for d in db.table(name)] for name in db.tables()} == before
        assert db.insert({}) == 6
        assert db.table("other").insert({}) == 1001
    with TinyDB(path, storage=JsonlStorage) as stock:
        assert len(stock) == 5


def test_one_more_document_costs_the_same_bytes_however_many_there_are(path: Path):
    class Counting(Disk):
        written = 0

        def write(self, file, data):
            self.written += len(data)
            super().write(file, data)

    disk = Counting()
    with Store(path, fsync="os", disk=disk) as db:
        db.insert({"n": 100_000})
        first, disk.written = disk.written - len(HEADER), 0
        db.insert_multiple({"n": n} for n in range(100_001, 103_000))
        disk.written = 0
        db.insert({"n": 200_000})
        assert disk.written <= first + 4
        disk.written = 0
        db.update({"n": 300_000}, doc_ids=[1500])
        assert disk.written <= first + 4
        disk.written = 0
        db.update({"n": 300_000}, doc_ids=[1500])
        assert disk.written == 0


def test_a_stock_table_appends_only_the_difference(path: Path):
    with TinyDB(path, storage=JsonlStorage) as db:
        db.insert_multiple({"n": n} for n in range(1000))
        size = path.stat().st_size
        db.insert({"n": -1})
        assert path.stat().st_size - size < 60


def test_a_file_that_is_mostly_history_is_rewritten(path: Path):
    with Store(path, fsync="os") as db:
        db.insert({"n": 0, "text": "x" * 100})
        for n in range(1000):
            db.update({"n": n}, doc_ids=[1])
        assert path.stat().st_size < store_module.SLACK + 4 * 150
        db.storage.compact()
        assert path.stat().st_size < 300
    with Store(path) as db:
        assert db.all() == [{"n": 999, "text": "x" * 100}]


def test_a_rewrite_that_fails_is_no_failure_of_the_write(path: Path, caplog, monkeypatch):
    class Full(Disk):
        def replace(self, source, target):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "SLACK", 0)
    with Store(path, disk=Full()) as db:
        for n in range(50):
            db.upsert(Document({"n": n, "text": "x" * 50}, doc_id=1))
        assert db.get(doc_id=1)["n"] == 49
    assert "could not be rewritten" in caplog.text
    with Store(path) as db:
        assert db.get(doc_id=1)["n"] == 49


@pytest.mark.parametrize("broken", ["write", "sync"])
@pytest.mark.parametrize("truncate_too", [False, True])
def test_a_refused_write_is_taken_back_and_the_next_one_is_whole(path: Path, broken: str, truncate_too: bool):
    class Failing(Disk):
        failing = False

        def write(self, file, data):
            if self.failing and broken == "write":
                super().write(file, data[: len(data) // 2])
                raise OSError(28, "No space left on device")
            super().write(file, data)

        def sync(self, file):
            if self.failing and broken == "sync":
                raise OSError(5, "Input/output error")
            super().sync(file)

        def truncate(self, file, size):
            if self.failing and truncate_too:
                raise OSError(5, "Input/output error")
            super().truncate(file, size)

    disk = Failing()
    with Store(path, disk=disk) as db:
        db.insert({"n": 1})
        disk.failing = True
        with pytest.raises(OSError):
            db.insert({"n": "lost"})
        assert db.all() == [{"n": 1}]
        disk.failing = False
        db.insert({"n": 2})
    with Store(path) as db:
        assert db.all() == [{"n": 1}, {"n": 2}]


def test_files_are_their_owners_alone(path: Path):
    with Store(path) as db:
        db.insert({})
        db.storage.compact()
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        assert others == 0 or os.name == "nt"  # Windows has no such bits


def test_a_file_from_a_newer_version_is_refused_and_left_alone(path: Path):
    content = seal(encode(["roost journal", 2])) + b"something new\n"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="newer Roost"):
        Store(path)
    assert path.read_bytes() == content


def test_folders_are_made_when_asked_for(path: Path):
    with Store(path.parent / "new" / "x.jsonl", create_dirs=True) as db:
        db.insert({})
    with pytest.raises(FileNotFoundError):
        Store(path.parent / "missing" / "x.jsonl")


def test_put_writes_whole_documents_under_given_ids(path: Path):
    with Store(path) as db:
        table: JournalTable = db.table("t")
        table.insert({"old": 1})
        table.put({1: {"new": 1}, 5: {"five": 5}})
        assert [(d.doc_id, dict(d)) for d in table] == [(1, {"new": 1}), (5, {"five": 5})]
        assert table.insert({}) == 6


# A torn or damaged file.


def fill(path: Path, count: int = 10) -> list[int]:
    """Sizes of the file after each of `count` inserts of {"n": 0}, {"n": 1}, …"""
    sizes = []
    with Store(path) as db:
        for n in range(count):
            db.insert({"n": n})
            sizes.append(path.stat().st_size)
    return sizes


def numbers(path: Path) -> list[int]:
    with Store(path) as db:
        return [doc["n"] for doc in db]


def test_cut_anywhere_the_file_opens_with_every_whole_line(path: Path):
    sizes = fill(path, 4)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        whole = sum(size <= length for size in sizes)
        assert numbers(path) == list(range(whole))
        assert numbers(path) == list(range(whole))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_flipped_bit_costs_at_most_the_two_lines_it_touches(path: Path):
    fill(path, 4)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        left = numbers(path)
        assert set(left) <= set(range(4)) and len(left) >= 2
        assert numbers(path) == left


def test_damage_is_logged_once_without_the_content_and_the_file_kept_beside(path: Path, caplog):
    with Store(path) as db:
        db.insert_multiple([{"text": "secret"}])
        db.insert({"text": "tell nobody"})
    damaged = path.read_bytes().replace(b"secret", b"sacret")
    path.write_bytes(damaged)
    with Store(path) as db:
        assert db.all() == [{"text": "tell nobody"}]
        db.insert({"text": "more"})
    with Store(path) as db:
        assert len(db) == 2
    assert len(caplog.records) == 1 and caplog.records[0].name == "roost.memory"
    assert "1 are not" in caplog.text and "nobody" not in caplog.text and "sacret" not in caplog.text
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == damaged


@pytest.mark.parametrize(
    "content", [b"\0" * 5000, b"{}", b"text\nmore\n", bytes(range(256)) * 9, b"\n", b"00000000 \n"]
)
def test_a_file_of_something_else_is_kept_beside_and_a_new_one_begun(path: Path, content: bytes, caplog):
    path.write_bytes(content)
    with Store(path) as db:
        assert len(db) == 0
        db.insert({"n": 1})
    assert numbers(path) == [1]
    assert [file.read_bytes() for file in path.parent.glob("*.damaged-*")] == [content]
    assert len(caplog.records) == 1


@given(data=st.binary(max_size=300), at=st.integers(0, 600), remove=st.integers(0, 300))
@settings(deadline=None, max_examples=60)
def test_whatever_is_spliced_in_the_file_opens_and_goes_on(tmp_path_factory, data, at, remove):
    path = tmp_path_factory.mktemp("spliced") / "x.jsonl"
    fill(path, 8)
    content = path.read_bytes()
    path.write_bytes(content[:at] + data + content[at + remove :])
    left = numbers(path)
    assert set(left) <= set(range(8))
    with Store(path) as db:
        db.insert({"n": 99})
    assert numbers(path) == [*left, 99]


# The store against TinyDB's own, operation by operation.

documents = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3) | st.text(max_size=3), max_size=3)
ids = st.lists(st.integers(1, 8), max_size=3, unique=True)
operations = st.one_of(
    st.tuples(st.just("insert"), documents),
    st.tuples(st.just("insert_multiple"), st.lists(documents, max_size=3)),
    st.tuples(st.just("update"), documents, st.just(where("a") == 1)),
    st.tuples(st.just("upsert"), documents, st.just(where("b") == 2)),
    st.tuples(st.just("remove"), st.just(where("c") == 0)),
    st.tuples(st.just("remove"), st.none(), ids),
    st.tuples(st.just("truncate")),
    st.tuples(st.just("reopen")),
    st.tuples(st.just("compact")),
)


@given(st.lists(st.tuples(st.sampled_from(["one", "two"]), operations), max_size=25))
@settings(deadline=None, max_examples=100)
def test_any_sequence_of_operations_ends_as_it_does_in_tinydb(tmp_path_factory, sequence):
    path = tmp_path_factory.mktemp("parity") / "x.jsonl"
    ours, theirs = Store(path, fsync="os"), TinyDB(storage=MemoryStorage)
    for table, (name, *arguments) in sequence:
        if name == "reopen":
            ours.close()
            ours = Store(path, fsync="os")
            theirs._tables.clear()
        elif name == "compact":
            ours.storage.compact()
        else:
            results = [getattr(db.table(table), name)(*arguments) for db in (ours, theirs)]
            assert results[0] == results[1]
        assert ours.tables() == theirs.tables()
        for each in theirs.tables():
            assert {d.doc_id: d for d in ours.table(each)} == {d.doc_id: d for d in theirs.table(each)}
    ours.close()
