"""An archive keeps turns, finds them again, forgets them for good, and shows nothing of one place to another."""

from __future__ import annotations

import random
import string
from dataclasses import replace
from pathlib import Path

import pytest
from hiding import Hiding
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.contracts import Call, Turn
from roost.errors import StoreError
from roost.memory.archive import Archive
from roost.memory.disk import Disk
from roost.memory.records import HEADER_SIZE

NOW = 1_700_000_000.0
DAY = 86400.0

SMALL_TALK = [
    "Good morning",
    "Not much going on",
    "It rained all day",
    "True",
    "I should sleep",
    "Thanks",
    "Let me think",
    "No hurry",
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.cold"


@pytest.fixture
def archive(path: Path):
    opened = Archive(path, fsync="os")
    yield opened
    opened.close()


def chat(*said: str, first: int = 1, at: float = NOW - DAY) -> dict[int, Turn]:
    """People's and the bot's lines in turn, as the core remembers them: an answer has its question's id."""
    turns = {}
    for number, text in enumerate(said, first):
        if (number - first) % 2 == 0:
            turns[number] = Turn("user", text, "Ann", at + number, f"m{number}", 7, "test:ann")
        else:
            turns[number] = Turn("assistant", text, id=f"m{number - 1}", tokens=9)
    return turns


def filler(count: int, first: int = 1, seed: int = 1) -> dict[int, Turn]:
    chance = random.Random(seed)
    return chat(*(f"{chance.choice(SMALL_TALK)}. {chance.choice(SMALL_TALK)}." for _ in range(count)), first=first)


def found(archive: Archive, words: str, **more) -> list[str]:
    return [turn.text for hit in archive.search(words, now=NOW, **more) for turn in hit.turns]


# Keeping.


def test_what_is_appended_is_there_also_for_the_next_process(path: Path, archive: Archive):
    assert (archive.last, len(archive), list(archive.turns())) == (0, 0, [])
    assert list(path.parent.iterdir()) == []
    archive.append(filler(20))
    archive.append(filler(5, first=21))
    again = Archive(path)
    assert dict(again.turns()) == filler(20) | filler(5, first=21)
    assert (again.last, len(again)) == (25, 25)
    assert [number for number, _ in again.turns(4, 7)] == [4, 5, 6, 7]
    assert [number for number, _ in again.turns(24)] == [24, 25]
    assert list(again.turns(26)) == list(again.turns(9, 8)) == []
    again.close()


def test_appending_the_same_again_writes_nothing(path: Path, archive: Archive):
    archive.append(filler(30))
    data = path.read_bytes()
    archive.append(filler(30))
    archive.append({7: filler(30)[7]})
    assert path.read_bytes() == data
    archive.append(filler(40))
    assert len(archive) == 40
    assert path.read_bytes().startswith(data)


def test_another_turn_under_the_same_number_overrides_the_older_one(path: Path, archive: Archive):
    turns = filler(30)
    archive.append(turns)
    edited = {4: replace(turns[3 + 2], text="we went to Valparaiso"), 12: replace(turns[12], tokens=99)}
    archive.append(edited)
    assert dict(archive.turns()) == turns | edited
    assert len(archive) == 30
    assert any("Valparaiso" in text for text in found(archive, "Valparaiso"))
    archive.append({4: turns[4]})
    assert dict(Archive(path).turns()) == turns | {12: edited[12]}
    assert found(archive, "Valparaiso") == []


def test_numbers_may_be_missing_and_come_later(archive: Archive):
    turns = filler(300)
    odd = {number: turn for number, turn in turns.items() if number % 3}
    archive.append(odd)
    archive.append({number: turn for number, turn in turns.items() if number not in odd})
    assert dict(archive.turns()) == turns
    assert list(dict(archive.turns(100, 110))) == list(range(100, 111))


def test_turns_can_be_appended_while_others_are_read(archive: Archive):
    archive.append(filler(300))
    seen = []
    for number, _ in archive.turns():
        seen.append(number)
        if number == 10:
            for first in range(301, 330):
                archive.append(filler(1, first=first))
    assert seen == list(range(1, 330))


def test_a_message_is_found_by_its_role_and_id(path: Path, archive: Archive):
    assert archive.number("user", "m1") is None
    archive.append(filler(40))
    archive.append({41: Turn("user", "no id"), 42: Turn("tool", "result", id="m41", call="c")})
    for opened in (archive, Archive(path)):
        assert opened.number("user", "m7") == 7
        assert opened.number("assistant", "m7") == 8
        assert opened.number("tool", "m41") == 42
        assert opened.number("user", "m8") is None
        assert opened.number("user", "") is None
    archive.append({7: replace(filler(40)[7], id="new"), 50: replace(filler(40)[7], id="m9")})
    assert archive.number("user", "m7") is None
    assert archive.number("user", "new") == 7
    assert archive.number("assistant", "m7") == 8
    assert archive.number("user", "m9") == 50


def test_many_small_appends_make_few_segments_and_the_same_answers(path: Path, archive: Archive):
    turns = filler(90) | chat("The hedgehog lives behind the shed", "Noted", first=91) | filler(100, first=93)
    for number, turn in turns.items():
        archive.append({number: turn})
    assert dict(archive.turns()) == turns
    assert archive.number("user", "m91") == 91
    hits = archive.search("hedgehog shed", now=NOW)
    assert any("hedgehog" in turn.text for turn in hits[0].turns)
    (path.parent / "x.index").unlink()
    again = Archive(path)
    assert again.search("hedgehog shed", now=NOW) == hits
    again.close()


# Finding.


def test_a_hit_is_the_stretch_around_what_was_said(archive: Archive):
    said = ("We should fix the boat", "Which part of it?", "The rudder is loose", "I see. When?", "In spring", "Fine")
    archive.append(filler(30) | chat(*said, first=31) | filler(30, first=37))
    (hit,) = archive.search("what was wrong with the rudder of the boat?", now=NOW)
    assert 6 <= len(hit.turns) <= 10
    assert [said[0], said[2]] == [turn.text for turn in hit.turns if "boat" in turn.text or "rudder" in turn.text]
    assert hit.turns[0].role == "user"
    assert 0 < hit.score <= 1


def test_hits_come_best_first_do_not_overlap_and_are_no_more_than_asked_for(archive: Archive):
    turns = filler(200)
    for number in (11, 51, 91, 131, 171):
        turns[number] = replace(turns[number], text="The telescope needs a new mirror")
    turns[131] = replace(turns[131], text="The telescope, always the telescope and its mirror, that telescope")
    archive.append(turns)
    hits = archive.search("telescope mirror", now=NOW, limit=4)
    assert len(hits) == 4
    assert "always" in "".join(turn.text for turn in hits[0].turns)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    ids = [turn.id + turn.role for hit in hits for turn in hit.turns]
    assert len(ids) == len(set(ids))
    assert archive.search("telescope mirror", now=NOW, limit=0) == []
    assert len(archive.search("telescope mirror", now=NOW, limit=1)) == 1


def test_of_two_that_are_alike_the_newer_comes_first(archive: Archive):
    old = chat("The plumber is called Igor Petrov", "Noted", first=31, at=NOW - 700 * DAY)
    new = chat("The plumber is called Anna Petrov", "Noted", first=71, at=NOW - 2 * DAY)
    archive.append(filler(30) | old | filler(38, first=33) | new | filler(30, first=73))
    first, second = archive.search("plumber Petrov", now=NOW)
    assert "Anna" in "".join(turn.text for turn in first.turns)
    assert "Igor" in "".join(turn.text for turn in second.turns)
    assert archive.search("plumber Petrov", now=NOW - 900 * DAY)  # a clock that was set back


def test_what_is_still_in_the_prompt_is_left_out(archive: Archive):
    archive.append(filler(50) | chat("My locker is number 4711 downstairs", "Noted", first=51) | filler(8, first=53))
    assert found(archive, "locker downstairs")
    assert found(archive, "locker downstairs", before=52)
    for before in (51, 49, 6, 1, 0, -5):
        assert found(archive, "locker downstairs", before=before) == []
    assert all(turn in filler(50).values() for hit in archive.search("rain", now=NOW, before=51) for turn in hit.turns)


@pytest.mark.parametrize(
    "question",
    ["", "   ", "?!", "what did you say about that?", "who are you", "你说什么？", "der ist das", "🙂", "'", '"'],
)
def test_a_question_without_a_word_that_matters_finds_nothing(archive: Archive, question: str):
    archive.append(filler(60) | chat("what did you say about that, 你说什么", "who are you? der ist das", first=61))
    assert archive.search(question, now=NOW) == []


def test_a_question_about_nothing_that_was_said_finds_nothing(archive: Archive):
    archive.append(filler(60) | chat("The violin teacher moved to Galway in autumn", "Oh no!", first=61))
    assert found(archive, "where did the violin teacher move?")
    assert found(archive, "quantum chromodynamics on the lattice, and the violin") == []
    assert found(archive, "which submarine won the curling championship in autumn?") == []


def test_a_word_that_is_everywhere_finds_nothing_alone(archive: Archive):
    archive.append({n: replace(turn, text=f"weather {turn.text}") for n, turn in filler(300).items()})
    assert archive.search("weather", now=NOW) == []


@pytest.mark.parametrize("asked", ["giraffe", "girafe", "giarffe", "girraffe", "giraffw", "GIRAFFES", "the gjraffe"])
def test_a_typing_error_is_forgiven(archive: Archive, asked: str):
    archive.append(filler(60) | chat("A giraffe has a very long tongue", "Indeed", first=61))
    assert any("giraffe" in text for text in found(archive, asked))


def test_a_word_that_was_meant_as_it_is_comes_before_a_guess(archive: Archive):
    turns = filler(40) | chat("The baker sells rolls", "Ok", first=41) | filler(20, first=43)
    archive.append(turns | chat("The maker sells rolls", "Ok", first=63) | filler(20, first=65))
    assert "maker" in "".join(turn.text for turn in archive.search("maker rolls", now=NOW)[0].turns)


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("我家的猫叫团子，今年三岁了", "我的猫叫什么名字？团子吗"),
        ("下个月我们去桂林看漓江", "什么时候去桂林？"),
        ("护照放在书桌的抽屉里", "护照在哪里"),
        ("田中さんの誕生日は五月です", "田中さんの誕生日はいつですか"),
        ("新しいカメラを買いました", "カメラを買ったのはいつ？"),
        ("우리 고양이 이름은 보리야", "고양이 이름이 뭐였지?"),
        ("ฉันชอบกินข้าวผัดกุ้ง", "ข้าวผัดกุ้ง"),
        ("Die Schlüssel liegen unter der Fußmatte", "wo sind die schluessel fussmatte schlüssel"),
        ("Ключи лежат под ковриком", "где ключ, ковриком?"),
        ("Las llaves están en el cajón", "¿dónde están las llaves? cajon"),
    ],
)
def test_every_script_can_be_searched(archive: Archive, said: str, asked: str):
    others = ["今天天气很好", "電車が遅れました", "오늘은 비가 온다", "Heute regnet es", "Сегодня дождь", "Hoy llueve"]
    archive.append(filler(30) | chat(*others * 5, first=31) | chat(said, "ok", first=61) | filler(30, first=63))
    assert said in [turn.text for turn in archive.search(asked, now=NOW)[0].turns]
    assert archive.search("量子色動力学の潜水艦 잠수함 подлодка", now=NOW) == []


HOSTILE = [
    '" OR 1=1 --',
    "words MATCH 'x'",
    "NEAR(a b, 3)",
    "said:secret",
    "a* ^b -c +d",
    "(((((",
    '""""',
    "AND OR NOT",
    "{said} : x",
    "\0",
    "'; DROP TABLE words; --",
    "\ud800",
    "%s %d {0}",
    "x" * 100_000,
    "word " * 20_000,
    " ".join(map("".join, zip(string.ascii_letters * 40, string.digits * 208, strict=True))),
    "𝕳𝖊𝖑𝖑𝖔",
    "\u202e\u200b\ufeff",
]


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_no_words_are_taken_for_a_command(archive: Archive, words: str):
    archive.append(filler(40))
    archive.append(chat(words, words, first=41))
    archive.search(words, now=NOW)
    assert len(archive) == 42
    assert archive.number("user", words) is None
    assert not archive.damage()


@given(st.text(max_size=40))
@settings(max_examples=80, deadline=None)
def test_no_text_breaks_the_search(tmp_path_factory, text: str):
    archive = Archive(tmp_path_factory.mktemp("a") / "x.cold", fsync="os")
    archive.append(chat(text, "nothing else"))
    archive.search(text, now=NOW)
    archive.close()


def test_a_call_and_its_results_stay_together(archive: Archive):
    turns = filler(30)
    turns |= {
        31: Turn("user", "How warm is the greenhouse?", "Ann", NOW, "m31"),
        32: Turn("assistant", "", id="m31", calls=(Call("1", "read_sensor"), Call("2", "read_sensor"))),
        33: Turn("tool", "23.5 degrees at the greenhouse door", id="m31", call="1"),
        34: Turn("tool", "25 degrees", id="m31", call="2"),
        35: Turn("assistant", "Between 23.5 and 25 degrees.", id="m31"),
    }
    archive.append(turns | filler(30, first=36))
    for asked in ("greenhouse degrees sensor", "greenhouse door", "greenhouse warm"):
        (hit, *_) = archive.search(asked, now=NOW)
        roles = [turn.role for turn in hit.turns]
        assert roles[0] == "user"
        for place, turn in enumerate(hit.turns):
            if turn.calls:
                assert roles[place + 1 : place + 3] == ["tool", "tool"]


def test_a_very_long_turn_is_found_by_words_near_its_beginning(archive: Archive):
    text = "The inventory: " + " ".join(f"item{number}" for number in range(60_000)) + " zanzibar"
    archive.append(filler(30) | chat(text, "thanks", first=31))
    assert text in found(archive, "inventory item77")
    assert dict(archive.turns(31, 31))[31].text == text


# Forgetting.


def test_a_rewrite_drops_turns_for_good(path: Path, archive: Archive):
    secret = chat("The vault is called Xylophagou", "Xylophagou it is", first=31)
    archive.append(filler(30) | secret | filler(30, first=33))
    archive.append({5: replace(filler(30)[5], text="An older Xylophagou")})
    archive.append({5: filler(30)[5]})
    assert found(archive, "Xylophagou")
    assert archive.rewrite(lambda turn: "Xylophagou" not in turn.text) == 2
    assert dict(archive.turns()) == filler(30) | filler(30, first=33)
    assert found(archive, "Xylophagou") == []
    assert archive.number("user", "m31") is None
    assert archive.number("user", "m33") == 33
    assert_nothing_says(path.parent, "Xylophagou", Archive(path))
    assert archive.rewrite(lambda turn: True) == 0


def test_after_a_rewrite_that_keeps_nothing_there_are_no_files(path: Path, archive: Archive):
    archive.append(filler(30))
    assert archive.rewrite(lambda turn: False) == 30
    assert list(path.parent.iterdir()) == []
    assert (archive.last, len(archive), found(archive, "rain"), archive.number("user", "m1")) == (0, 0, [], None)
    archive.append(filler(10))
    assert dict(Archive(path).turns()) == filler(10)


def test_a_rewrite_drops_damage_as_well_since_nobody_knows_what_it_says(path: Path, archive: Archive):
    archive.append(filler(10))
    archive.append(chat("Xylophagou", "yes", first=11))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    damaged = Archive(path)
    assert len(damaged.damage()) == 1
    assert damaged.rewrite(lambda turn: True) == 0
    assert damaged.damage() == []
    assert dict(damaged.turns()) == filler(10)
    damaged.close()


def test_erasing_leaves_nothing(path: Path, archive: Archive):
    (path.parent / "y.cold").write_bytes(b"another one's")
    archive.append(chat("The vault is called Xylophagou", "ok"))
    archive.close()
    for leftover in ("x.cold.new", "x.index-journal", "x.index-wal", "x.index-shm"):
        (path.parent / leftover).write_bytes(b"Xylophagou")
    Archive.erase(path, Disk())
    assert [one.name for one in path.parent.iterdir()] == ["y.cold"]
    Archive.erase(path, Disk())


def test_one_archive_knows_nothing_of_another(tmp_path: Path):
    mine, yours = Archive(tmp_path / "a.cold", fsync="os"), Archive(tmp_path / "b.cold", fsync="os")
    mine.append(filler(30) | chat("The vault is called Xylophagou", "ok", first=31))
    yours.append(filler(30, seed=2) | chat("My vault is green", "ok", first=31))
    assert found(yours, "Xylophagou") == []
    assert "My vault is green" not in found(mine, "vault")
    for ending in ("cold", "index"):
        assert b"xylophagou" not in (tmp_path / f"b.{ending}").read_bytes().lower()
    Archive.erase(tmp_path / "a.cold", Disk())
    assert "My vault is green" in found(yours, "green vault")
    mine.close()
    yours.close()


def assert_nothing_says(folder: Path, secret: str, archive: Archive) -> None:
    """Neither in the files as they are nor in what is unpacked of them."""
    archive.close()
    for one in folder.iterdir():
        assert secret.lower().encode() not in one.read_bytes().lower(), one
    assert all(secret not in turn.text for _, turn in archive.turns())


# Encryption.


def test_a_sealed_archive_shows_no_word_and_does_all_the_same(path: Path):
    sealed, clear = Archive(path, cipher=Hiding()), Archive(path.with_name("clear.cold"))
    turns = filler(40) | chat("The giraffe Xylophagou", "我的猫很可爱", first=41) | filler(40, first=43)
    for archive in (sealed, clear):
        archive.append(turns)
        archive.append({3: replace(turns[3], text="edited")})
        archive.append({44: replace(turns[44], text="an afterthought")})
        archive.close()
    for name in ("x.cold", "x.index"):
        data = path.with_name(name).read_bytes().lower()
        # None is so short that chance could write it.
        for word in (b"giraffe", b"xylophagou", "可爱".encode(), b"afterthought", b"test:ann", b"assistant"):
            assert word not in data, (name, word)
    assert path.read_bytes().startswith(b"roost sealed")
    assert path.with_name("x.index").read_bytes()[68:72] == b"RooS"
    sealed = Archive(path, cipher=Hiding())
    assert dict(sealed.turns()) == dict(clear.turns())
    assert sealed.number("assistant", "m41") == clear.number("assistant", "m41") == 42
    for asked in ("giraffe", "girafe", "可爱的猫", "afterthought", "xylophon"):
        assert sealed.search(asked, now=NOW) == clear.search(asked, now=NOW)
    assert sealed.damage() == []
    sealed.close()
    clear.close()


def test_without_its_key_a_sealed_archive_is_refused_and_left_as_it_is(path: Path):
    Archive(path, cipher=Hiding()).append(filler(20))
    data = path.read_bytes()
    with pytest.raises(StoreError, match="encrypted"):
        Archive(path)
    with pytest.raises(StoreError, match="another key"):
        Archive(path, cipher=Hiding(b"other"))
    assert path.read_bytes() == data


def test_switching_encryption_on_seals_what_is_there(path: Path, archive: Archive):
    archive.append(filler(40) | chat("The giraffe Xylophagou", "ok", first=41))
    archive.close()
    for look in (len, lambda sealed: found(sealed, "giraffe")):
        sealed = Archive(path, cipher=Hiding())
        assert look(sealed)
        sealed.close()
        for one in path.parent.iterdir():
            assert b"xylophagou" not in one.read_bytes().lower()


def test_records_of_another_sealed_archive_are_damage(path: Path, tmp_path: Path):
    other = tmp_path / "y.cold"
    Archive(path, cipher=Hiding()).append(filler(10))
    Archive(other, cipher=Hiding()).append(chat("smuggled", "in", first=11))
    path.write_bytes(path.read_bytes() + other.read_bytes()[HEADER_SIZE:])
    archive = Archive(path, cipher=Hiding())
    assert dict(archive.turns()) == filler(10)
    assert "turns 11 to 12" in archive.damage()[0]


# Damage.


def test_damage_is_told_and_the_rest_is_still_found(path: Path, archive: Archive):
    archive.append(chat("The hedgehog lives behind the shed", "Noted") | filler(60, first=3))
    archive.append(filler(60, first=63) | chat("The giraffe has a long tongue", "Indeed", first=123))
    archive.close()
    data = bytearray(path.read_bytes())
    data[200] ^= 4
    path.write_bytes(data)
    opened = Archive(path)
    assert opened.damage() == [
        f"'{path}' is damaged: turns 1 to 62 ({len_of_first(data)} bytes) at byte {HEADER_SIZE} cannot be read."
    ]
    assert found(opened, "hedgehog shed") == []
    assert found(opened, "giraffe tongue")
    assert [number for number, _ in opened.turns()] == list(range(63, 125))
    assert len(opened) == 62
    opened.append(filler(30))
    assert len(opened) == 92
    opened.close()


def len_of_first(data: bytes) -> int:
    return int.from_bytes(data[HEADER_SIZE + 5 : HEADER_SIZE + 9], "little")
