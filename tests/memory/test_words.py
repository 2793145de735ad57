"""What an index finds the same, and what it takes for what was meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.memory.words import LONGEST, STOP, ask, cut, near, root


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        ("Cafés", "cafe"),
        ("the puppies were running", "puppy run"),
        ("two boxes of cherries", "box cherry"),
        ("Ann's car", "ann car"),
        ("Straße", "strasse"),
        ("ＡＢＣ ﬁne", "abc fine"),
        ("книгу", "книги"),
        ("Ёлка", "елку"),
        ("İSTANBUL", "istanbul"),
        ("ｶﾞｷﾞ", "ガギ"),
        ("Ελλάδα", "ελλαδα"),
        ("قَلَم", "قلم"),
    ],
)
def test_forms_of_a_word_are_the_same_word(said: str, asked: str):
    assert set(cut(asked)) <= set(cut(said))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("我的猫很可爱", ["猫", "可爱"]),
        ("小笼包", ["小笼", "笼包"]),
        ("犬の散歩に行く", ["犬", "の", "散歩", "に", "行", "く"]),
        ("コーヒー豆", ["コー", "ーヒ", "ヒー", "豆"]),
        ("고양이는 이름", ["고양", "양이", "이는", "이름"]),
        ("iPhone15を買った", ["iphone15", "を", "買", "った"]),
        ("हिन्दी किताब", ["हिन्दी", "किताब"]),
        ("12.50 €, foo_bar", ["12", "50", "foo", "bar"]),
        ("!?… 🎉", []),
        ("\ud800 abc\0def", ["abc", "def"]),
    ],
)
def test_every_script_is_cut_into_words(text: str, words: list[str]):
    assert cut(text) == words


def test_a_question_is_what_it_asks_for():
    assert list(ask("Do you remember what we said about the broken camera?")) == ["broken", "camera"]
    assert ask("Wie heißt der Hund von Jürgen?")["hund"] == "hund"
    assert list(ask("¿Qué pasó con la bicicleta?")) == ["paso", "bicicleta"]
    assert ask("我的护照在哪里？")["护照"] == ""


def test_a_question_of_nothing_but_small_words_asks_for_nothing():
    assert ask("what did he say to you then?") == {}
    assert ask("...") == {}
    assert {"the", "und", "что", "什么"} <= STOP


@given(st.text())
def test_no_text_breaks_it_and_words_stay_words_when_cut_again(text: str):
    for word in cut(text):
        assert 0 < len(word) <= LONGEST
        assert not word.isspace()
        assert '"' not in word


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("recieve", "receive"),
        ("wierd", "weird"),
        ("necesary", "necessary"),
        ("tommorrow", "tomorrow"),
        ("elephent", "elephant"),
        ("москвва", "москва"),
    ],
)
def test_one_slip_is_undone(slip: str, meant: str):
    assert root(meant) in set(near(slip))


@given(st.text(max_size=60).filter(bool))
def test_the_slips_of_a_word_are_bounded(word: str):
    assert len(list(near(word))) < 60 * LONGEST
