"""Finding what was said in other words. What is measured here is in docs/memory.md."""

from __future__ import annotations

import importlib.util
import re
import sqlite3
import subprocess
import sys
from collections import deque
from contextlib import closing
from pathlib import Path

import pytest
from dialogues import BEGUN, ENGLISH, Corpus, make
from hiding import Hiding
from paraphrases import LATER, OTHERS, PAIRS, STRANGER, mixed, pairs

from roost.contracts import Turn
from roost.errors import ConfigError
from roost.memory import vectors, words
from roost.memory.archive import Archive
from roost.memory.meaning import LEAST, Meaning, content, load
from roost.memory.settings import WindowConfig
from roost.memory.window import Window

NOW = BEGUN + 4e7
ASKED, TOLD = "Which instrument is my girl learning?", "My daughter started playing the cello in March."
HALF = len(pairs(PAIRS)) // 2


def turns(*texts: str, first: int = 1) -> dict[int, Turn]:
    said = (text for one in texts for text in (one, "I see."))
    return {n: Turn("user" if n % 2 else "assistant", text, id=str(n)) for n, text in enumerate(said, first)}


def archive(folder: Path, **named: object) -> Archive:
    return Archive(folder / "x.cold", fsync="os", **{"vectors": True, **named})  # type: ignore[arg-type]


def finds(one: Archive, asked: str = ASKED, told: str = TOLD) -> bool:
    return any(turn.text == told for hit in one.search(asked, now=NOW) for turn in hit.turns)


def recall(one: Archive, corpus: Corpus) -> float:
    numbers = {(turn.role, turn.id): number for number, turn in corpus.turns.items()}
    found = 0
    for question, told in corpus.questions:
        hits = one.search(question, now=NOW)
        found += any(numbers[turn.role, turn.id] in told for hit in hits for turn in hit.turns)
    return found / len(corpus.questions)


def bits(text: str) -> bytes:
    import numpy as np

    vector = load().vector(content(text))
    assert vector is not None
    return np.packbits(vector > 0).tobytes()


def index(folder: Path) -> bytes:
    return (folder / "x.index").read_bytes()


# How good it is.


def test_a_paraphrase_shares_no_word_with_what_it_asks_for():
    shared = [
        (told, asked) for told, asked in pairs(PAIRS + OTHERS + LATER) if set(words.ask(told)) & set(words.ask(asked))
    ]
    assert shared == []


@pytest.mark.parametrize("half", [0, 1])
def test_half_of_all_paraphrases_are_found_and_none_without_vectors(tmp_path: Path, half: int):
    told = pairs(PAIRS)[HALF:] if half else pairs(PAIRS)[:HALF]
    corpus = mixed(told, 120, 7)
    reached = {}
    for wanted in (False, True):
        with closing(Archive(tmp_path / f"{wanted}.cold", fsync="os", vectors=wanted)) as one:
            one.append(corpus.turns)
            reached[wanted] = recall(one, corpus)
    print(f"recall@5 with vectors {reached[True]:.3f}, without {reached[False]:.3f}")
    assert reached[True] >= 0.5
    assert reached[False] <= 0.05


def test_questions_about_nothing_that_was_said_find_hardly_more_than_without(tmp_path: Path):
    corpus = mixed(pairs(PAIRS)[:HALF], 120, 7)
    found = {}
    for wanted in (False, True):
        with closing(Archive(tmp_path / f"{wanted}.cold", fsync="os", vectors=wanted)) as one:
            one.append(corpus.turns)
            found[wanted] = [line for line in corpus.strange if one.search(line, now=NOW)]
    more = set(found[True]) - set(found[False])
    print(f"{len(more)} of {len(corpus.strange)} more: {more}")
    assert len(more) <= 2
    assert more <= set(STRANGER.split("\n"))


def test_what_exact_words_find_is_found_as_well_as_before(tmp_path: Path):
    corpus = make([ENGLISH], 120, 1)
    reached = []
    for wanted in (False, True):
        with closing(Archive(tmp_path / f"{wanted}.cold", fsync="os", vectors=wanted)) as one:
            one.append(corpus.turns)
            reached.append(recall(one, corpus))
    assert reached[1] >= reached[0]


def test_words_that_both_have_do_not_make_them_alike():
    meaning = load()
    assert meaning.alike(content("Who repaired the church organ?"), content("The choir sings in the church.")) < 0.25
    assert meaning.alike(content("How often should I water the orchid?"), content("I finished Winter Orchard.")) < 0.25
    assert meaning.alike(content(ASKED), content(TOLD)) > 0.3


def test_words_are_cut_as_the_models_own_tokenizer_cuts_them():
    import tokenizers

    found = importlib.util.find_spec("wordllama")
    assert found is not None and found.submodule_search_locations
    file = next(Path(found.submodule_search_locations[0]).glob("tokenizers/l2_supercat*.json"))
    theirs = tokenizers.Tokenizer.from_file(str(file))
    every = sorted(set(re.findall("[a-z]+", (PAIRS + OTHERS + STRANGER + words._STOP).lower())))
    mine = {word: list(load()._pieces(word)) for word in every}
    assert mine == {word: theirs.encode(word, add_special_tokens=False).ids for word in every}


# Whose it is: nothing without being asked for, nothing from outside.


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_with_vectors_off_nothing_of_them_is_imported(tmp_path: Path):
    program = f"""
import sys
from pathlib import Path
from roost.contracts import Turn
from roost.memory.archive import Archive
one = Archive(Path({str(tmp_path)!r}) / "x.cold", fsync="os")
one.append({{1: Turn("user", {TOLD!r})}})
print(one.search({ASKED!r}, now=1.0), [name for name in ("numpy", "wordllama") if name in sys.modules])
"""
    assert run(program).strip() == "[] []"


def test_vectors_need_no_network_and_run_no_code_that_could_fetch(tmp_path: Path):
    program = f"""
import socket, sys
def refuse(*args, **named):
    raise AssertionError("a connection")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
from pathlib import Path
from roost.contracts import Turn
from roost.memory.archive import Archive
one = Archive(Path({str(tmp_path)!r}) / "x.cold", fsync="os", vectors=True)
one.append({{1: Turn("user", {TOLD!r})}})
others = [name for name in ("wordllama", "requests", "huggingface_hub", "tokenizers") if name in sys.modules]
print(len(one.search({ASKED!r}, now=1.0)), others)
"""
    assert run(program).strip() == "1 []"


async def test_a_bot_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    load.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    memory = Window(WindowConfig(vectors=True), tmp_path)
    with pytest.raises(ConfigError, match=r'vectors = true needs .*pip install -e "\.\[vectors\]"'):
        await memory.open()
    await memory.close()


def test_files_that_are_no_vectors_are_said_to_be_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "l2_supercat_256.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    load.cache_clear()
    monkeypatch.setattr("roost.memory.meaning.Meaning.__init__", lambda self, home: original(self, tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        load()


original = Meaning.__init__

# Where they are.


def test_vectors_of_an_encrypted_archive_are_sealed(tmp_path: Path):
    for name, key in (("clear", None), ("sealed", Hiding())):
        folder = tmp_path / name
        folder.mkdir()
        with closing(archive(folder, cipher=key)) as one:
            one.append(turns(TOLD, "Nothing else of note happened."))
            assert finds(one)
        assert (bits(TOLD) in index(folder)) == (name == "clear")


def test_forgotten_turns_leave_no_vector(tmp_path: Path):
    with closing(archive(tmp_path)) as one:
        one.append(turns(TOLD, "The lawnmower broke down halfway across the grass."))
        assert bits(TOLD) in index(tmp_path)
        one.rewrite(lambda turn: turn.text != TOLD)
        assert not finds(one)
        assert finds(one, "What garden machine gave up on me?", "The lawnmower broke down halfway across the grass.")
    assert bits(TOLD) not in index(tmp_path)


def test_an_archive_from_before_is_taken_in_bit_by_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vectors.Vectors.update, "__defaults__", (2,))
    with closing(archive(tmp_path, vectors=False)) as one:
        for at, text in enumerate(["Something about ships.", "More about houses.", TOLD]):
            one.append(turns(text, first=2 * at + 1))
        assert not finds(one)
    with closing(archive(tmp_path)) as one:
        assert [finds(one) for _ in range(3)] == [False, False, True]


def test_vectors_switched_off_for_a_while_are_made_up_for(tmp_path: Path):
    with closing(archive(tmp_path)) as one:
        one.append(turns("Something about ships."))
    with closing(archive(tmp_path, vectors=False)) as one:
        one.append(turns("More about houses.", first=3))
        deque(one._tidy(), 0)
        one.append(turns(TOLD, first=5))
    with closing(archive(tmp_path)) as one:
        assert finds(one)


def test_damaged_vectors_are_made_again(tmp_path: Path):
    with closing(archive(tmp_path)) as one:
        one.append(turns(TOLD))
    with closing(sqlite3.connect(tmp_path / "x.index")) as db, db:
        db.execute("UPDATE meaning SET bits = substr(bits, 1, 20) || x'00' || substr(bits, 22)")
    with closing(archive(tmp_path)) as one:
        assert finds(one)


def test_an_index_that_is_gone_is_made_again_with_its_vectors(tmp_path: Path):
    with closing(archive(tmp_path)) as one:
        one.append(turns(TOLD))
    (tmp_path / "x.index").unlink()
    with closing(archive(tmp_path)) as one:
        assert finds(one)


def test_vectors_follow_a_rewritten_archive_without_being_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(archive(tmp_path)) as one:
        one.append(turns(TOLD))
        one.append(turns("More about houses.", first=3))
        monkeypatch.setattr(Meaning, "vector", None)
        deque(one._tidy(), 0)
        monkeypatch.undo()
        assert finds(one)


def test_an_edited_turn_is_found_by_what_it_says_now(tmp_path: Path):
    with closing(archive(tmp_path)) as one:
        one.append(turns(TOLD, "Something about ships."))
        one.append({1: Turn("user", "The lawnmower broke down halfway across the grass.", id="1")})
        assert not finds(one)
        assert finds(one, "What garden machine gave up on me?", "The lawnmower broke down halfway across the grass.")


def test_turns_of_the_window_are_left_out(tmp_path: Path):
    with closing(archive(tmp_path)) as one:
        one.append(turns("Something about ships.", TOLD))
        assert one.search(ASKED, before=3, now=NOW) == []


def test_too_few_words_mean_nothing():
    assert load().vector(content("music?")) is None
    assert load().vector([]) is None
    assert len(content("What about the music, then?")) < LEAST
    assert content("我女儿三月份开始学大提琴。") == []
