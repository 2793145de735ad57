"""How often the archive finds what is asked for, in a labelled set of dialogues, measured against floors.

Floors lie a little below what was measured, and far above what a search without ranking reaches.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from dialogues import BEGUN, CHINESE, ENGLISH, OTHERS, Corpus, make

from roost.contracts import Hit
from roost.memory import search, words
from roost.memory.archive import Archive

NOW = BEGUN + 4e7
CORPORA = {
    "English": make([ENGLISH], 120, 1),
    "Chinese": make([CHINESE], 80, 2),
    "five others": make(list(OTHERS.values()), 80, 3),
    "all in one": make([ENGLISH, CHINESE, *OTHERS.values()], 140, 4),
}
FLOORS = {"English": (0.73, 0.87), "Chinese": (0.76, 0.95), "five others": (0.80, 0.92), "all in one": (0.73, 0.92)}


@pytest.fixture(scope="module", params=list(CORPORA))
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Archive]]:
    archive = Archive(tmp_path_factory.mktemp("recall") / "x.cold", fsync="os")
    archive.append(CORPORA[request.param].turns)
    yield request.param, archive
    archive.close()


def recall(archive: Archive, corpus: Corpus, questions: list[str] | None = None) -> tuple[float, float]:
    """The shares of questions whose answer is in the best hit, and in the best five."""
    numbers = {(turn.role, turn.id): number for number, turn in corpus.turns.items()}
    best = five = 0
    for place, (question, told) in enumerate(corpus.questions):
        hits = archive.search(questions[place] if questions else question, now=NOW)
        found = [bool(told & {numbers[turn.role, turn.id] for turn in hit.turns}) for hit in hits]
        best, five = best + any(found[:1]), five + any(found)
    return best / len(corpus.questions), five / len(corpus.questions)


def test_answers_are_found_and_mostly_first(filled: tuple[str, Archive]):
    name, archive = filled
    reached = recall(archive, CORPORA[name])
    print(f"{name}: recall@1 {reached[0]:.3f}, recall@5 {reached[1]:.3f} of {len(CORPORA[name].questions)}")
    assert reached[0] >= FLOORS[name][0]
    assert reached[1] >= FLOORS[name][1]


@pytest.mark.parametrize("order", ["the worst first", "the newest first"])
def test_a_broken_ranking_would_be_noticed(filled: tuple[str, Archive], monkeypatch: pytest.MonkeyPatch, order: str):
    """The floors are worth something: the same hits in another order do not reach them."""
    name, archive = filled
    right = search.choose

    def wrong(stretches, limit: int) -> list[search.Stretch]:
        every = right(stretches, 20)[::-1]
        return (every if order == "the worst first" else sorted(every, key=lambda one: -one.numbers[0]))[:limit]

    monkeypatch.setattr(search, "choose", wrong)
    assert recall(archive, CORPORA[name])[0] < FLOORS[name][0] - 0.1


def test_what_nobody_spoke_of_is_not_found(filled: tuple[str, Archive]):
    name, archive = filled
    assert [line for line in CORPORA[name].strange if archive.search(line, now=NOW)] == []
    assert [
        line for line in ("Hello!", "谢谢", "Danke!", "どうも", "Thanks, you too") if archive.search(line, now=NOW)
    ] == []


def misspell(text: str, chance: random.Random) -> str:
    """One slip in one of the words that matter, of those long enough for it to be seen."""
    long = [word for word in text.split() if len(word) > 5 and word.isalpha() and word.lower() not in words.STOP]
    if not long:
        return text
    word = chance.choice(long)
    at = chance.randrange(1, len(word) - 1)
    other = chance.choice("aeinrst")
    slips = [word[:at] + word[at + 1 :], word[:at] + other + word[at:], word[:at] + other + word[at + 1 :]]
    return text.replace(word, chance.choice([*slips, word[:at] + word[at + 1] + word[at] + word[at + 2 :]]))


def test_a_misspelt_word_costs_little(tmp_path: Path):
    corpus = CORPORA["English"]
    archive = Archive(tmp_path / "x.cold", fsync="os")
    archive.append(corpus.turns)
    chance = random.Random(6)
    misspelt = [misspell(question, chance) for question, _ in corpus.questions]
    reached = recall(archive, corpus, misspelt)
    print(f"misspelt: recall@1 {reached[0]:.3f}, recall@5 {reached[1]:.3f}")
    assert reached[1] >= FLOORS["English"][1] - 0.12
    archive.close()


def test_hits_are_short_enough_for_a_prompt(filled: tuple[str, Archive]):
    name, archive = filled
    hits: list[Hit] = [hit for question, _ in CORPORA[name].questions[:40] for hit in archive.search(question, now=NOW)]
    assert max(len(hit.turns) for hit in hits) <= search.LONGEST + 2 * search.FARTHEST
    assert all(0 <= hit.score <= 1 for hit in hits)
