"""How well texts fit a question."""

from __future__ import annotations

from roost.memory.weighing import weigh


def test_what_has_the_rarer_words_weighs_more_and_what_has_none_weighs_nothing() -> None:
    texts = ["a day at the sea", "a cat at the sea", "nothing", "a cat, a cat", ""]
    found = weigh("Which cat went to the sea on that day?", texts)
    assert found[2] == found[4] == 0
    assert found[0] > found[3] and found[1] > found[3]


def test_words_are_cut_as_for_recall() -> None:
    assert weigh("cafes", ["Das Café ist zu", "Le thé"])[0] > 0
    assert weigh("博物馆门票", ["门票价格", "散步"])[0] > weigh("博物馆门票", ["门票价格", "散步"])[1] == 0


def test_nothing_asked_and_nothing_to_weigh() -> None:
    assert weigh("", ["a", "b"]) == [0, 0]
    assert weigh("a question", []) == []
