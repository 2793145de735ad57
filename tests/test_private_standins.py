from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from roost.private import find
from roost.private_checks import luhn
from roost.restoring import Pair, Restorer, Trie
from roost.standin_forms import HAN_GIVEN, HAN_SURNAMES, LATIN
from roost.standins import StandIns

PRIVATE = (
    "My name is John Smith",
    "JOHN",
    "john@smith.org",
    "call (212) 555-7788",
    "+49 170 1234567",
    "212.555.7788",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "我叫张伟明",
    "张伟明",
    "王老师",
    "13812345678",
    "11010519491231002X",
    "密码是abc12345",
    "sk-proj-abcdefghijklmnopqrstuvwxyz123456",
    "192.168.1.7",
    "221B Baker Street",
    "meine Frau Zelda",
    "меня зовут Иван Петров",
)
POOLED = (*LATIN[:40], *HAN_SURNAMES[:20], *HAN_GIVEN[:20], "Example Street", "555-0142", "@example.com")
PIECES = st.sampled_from((*PRIVATE, *POOLED, " ", "'s ", ", ", "", "x", "1", "和", "\n"))
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=6)), max_size=12).map("".join)
SEEDS = st.sampled_from(("a", "b", "c"))


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), SEEDS)
@example(["John Smith", "Corvane John"], "a")
def test_what_was_hidden_comes_back_whatever_the_text(texts: list[str], seed: str) -> None:
    standins = StandIns(seed)
    for text in texts:
        assert standins.restore(standins.hide(text)) == text
    assert [standins.restore(one) for one in standins.hide_all(texts)] == texts


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS, SEEDS, st.lists(st.integers(0, 200), max_size=12))
def test_any_cutting_of_a_stream_gives_the_same(text: str, answer: str, seed: str, cuts: list[int]) -> None:
    standins = StandIns(seed)
    hidden = standins.hide(text) + answer + standins.hide(text).upper()
    places = [0, *sorted(min(cut, len(hidden)) for cut in cuts), len(hidden)]
    restorer = standins.restorer()
    out = [restorer.feed(hidden[a:b]) for a, b in pairwise(places)]
    assert "".join(out) + restorer.end() == standins.restore(hidden)


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4), SEEDS)
def test_no_two_private_texts_share_a_stand_in(texts: list[str], seed: str) -> None:
    standins = StandIns(seed)
    for text in texts:
        standins.hide(text)
    pairs = standins.plain()["pairs"]
    assert len({standin.lower() for _, _, standin in pairs}) == len({private for _, private, _ in pairs}) == len(pairs)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=4), SEEDS)
def test_a_conversation_goes_on_after_a_restart_with_the_stand_ins_it_had(texts: list[str], seed: str) -> None:
    whole, first = StandIns(seed), StandIns(seed)
    whole.hide(texts[0])
    first.hide(texts[0])
    second = StandIns.of(json.loads(json.dumps(first.plain())))
    assert [second.hide(text) for text in texts] == [whole.hide(text) for text in texts]


def test_a_name_has_one_stand_in_in_a_conversation_alone_and_with_its_surname() -> None:
    standins = StandIns("a")
    full = standins.hide("My name is Zorblax Quux.").removeprefix("My name is ").removesuffix(".")
    given_name, surname = full.split()
    assert standins.hide("Tell Zorblax that Mr Quux was here.") == f"Tell {given_name} that Mr {surname} was here."


def test_what_a_later_message_gives_away_is_hidden_in_an_earlier_one_too() -> None:
    hidden = StandIns("a").hide_all(["Where is Zorblax?", "I mean my friend Zorblax."])
    assert "Zorblax" not in "".join(hidden)


def test_conversations_do_not_share_their_stand_ins() -> None:
    assert StandIns().seed != StandIns().seed
    assert StandIns("a").hide("I am Anna Schmidt") != StandIns("b").hide("I am Anna Schmidt")


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
def test_an_answer_in_another_case_is_restored(change: Callable[[str], str]) -> None:
    standins = StandIns("a")
    name = standins.hide("My name is Anna Schmidt").removeprefix("My name is ")
    assert standins.restore(f"Dear {change(name)},") == f"Dear {change('Anna Schmidt')},"


@pytest.mark.parametrize("after", ["'s car", "’s car", "s Auto", ".", "!", "", " and", "'"])
def test_an_answer_that_goes_on_with_a_possessive_is_restored(after: str) -> None:
    standins = StandIns("a")
    name = standins.hide("My name is Anna").removeprefix("My name is ")
    assert standins.restore(f"It is {name}{after}") == f"It is Anna{after}"


def test_a_number_that_the_model_grouped_otherwise_is_restored_in_its_grouping() -> None:
    standins = StandIns("a")
    number = standins.hide("card 4111 1111 1111 1111").removeprefix("card ")
    assert standins.restore(f"<{number.replace(' ', '-')}>") == "<4111-1111-1111-1111>"
    assert standins.restore(f"<{number.replace(' ', '')}>") == "<4111111111111111>"
    assert standins.restore(number.replace(" ", "") + "7") == number.replace(" ", "") + "7"


def test_a_name_that_a_stand_in_has_is_never_taken() -> None:
    standins = StandIns("a")
    texts = [f"The ships {' '.join(LATIN[:-1])} left.", "My name is Anna."]
    assert standins.hide_all(texts)[1] == f"My name is {LATIN[-1]}."
    earlier = StandIns("a")
    earlier.hide(texts[0])
    later = StandIns.of(json.loads(json.dumps(earlier.plain())))
    assert later.hide(texts[1]) == f"My name is {LATIN[-1]}."


def test_a_date_that_is_said_is_never_made_a_stand_in() -> None:
    born = "I was born on May 5, 1986"
    usual = StandIns("a").hide(born).removeprefix("I was born on ")
    hidden = StandIns("a").hide(f"On {usual} it rained. {born}")
    assert hidden.startswith(f"On {usual} it rained. I was born on ")
    assert not hidden.endswith(usual)


def test_a_stand_in_within_a_longer_number_is_not_one() -> None:
    trie = Trie()
    trie.add(Pair("ip", "10.1.2.3", "192.0.2.1"))
    for cut in range(14):
        restorer = Restorer(trie)
        text = "at 192.0.2.17 or 192.0.2.1."
        out = restorer.feed(text[:cut]) + restorer.feed(text[cut:]) + restorer.end()
        assert out == "at 192.0.2.17 or 10.1.2.3."


def test_a_stand_in_that_the_person_says_later_gets_one_of_its_own() -> None:
    standins = StandIns("a")
    name = standins.hide("My name is Anna.").removeprefix("My name is ").removesuffix(".")
    said = f"Is {name} a town?"
    hidden = standins.hide(said)
    assert name not in hidden
    assert standins.restore(hidden) == said


def test_when_the_pools_are_used_up_names_are_made() -> None:
    standins = StandIns("a")
    texts = [
        f"My name is {first}{chr(97 + a)}{chr(97 + b)}." for first in ("Xav", "Qor") for a in range(9) for b in range(9)
    ]
    hidden = standins.hide_all(texts)
    assert len(set(hidden)) == len(texts)
    assert [standins.restore(one) for one in hidden] == texts


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("4111 1111 1111 1111", "card"),
        ("11010519491231002X", "id"),
        ("DE89370400440532013000", "iban"),
        ("86095742719", "id"),
    ],
)
def test_stand_ins_of_cards_and_ids_fail_their_checks(text: str, kind: str) -> None:
    for seed in range(30):
        hidden = StandIns(str(seed)).hide(text)
        assert hidden != text
        assert kind not in [item.kind for item in find(hidden)]
        assert kind != "card" or not luhn(hidden)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("ann@home.org", r"[a-z]+\.\d{4}@example\.(com|org|net)"),
        ("(212) 555-7788", r"\([2-9]\d\d\) 555-01\d\d"),
        ("+44 7911 123456", r"\+44 7700 900\d{3}"),
        ("13812345678", r"12\d{9}"),
        ("8.8.4.4", r"(192\.0\.2|198\.51\.100|203\.0\.113)\.\d+"),
        ("10 Downing Street, London SW1A 2AA", r"\d+ Example Street, Sampletown"),
        ("北京市朝阳区建国路88号", r"示例市样板区无名路\d+号"),
    ],
)
def test_stand_ins_are_of_the_same_kind_and_nobodys(text: str, pattern: str) -> None:
    for seed in range(10):
        assert re.fullmatch(pattern, StandIns(str(seed)).hide(text))


def test_a_stream_holds_back_no_more_than_a_stand_in_and_gives_the_rest_at_once() -> None:
    trie = Trie()
    trie.add(Pair("name", "Anna", "Corvane"))
    restorer = Restorer(trie)
    assert restorer.feed("Hello Cor") == "Hello "
    assert restorer.feed("n and Corv") == "Corn and "
    assert restorer.feed("an") == ""
    assert restorer.feed("e") == ""
    assert restorer.feed("!") == "Anna!"
    assert restorer.feed("Corv") == ""
    assert restorer.end() == "Corv"


@settings(max_examples=60, deadline=None)
@given(TEXTS, SEEDS)
def test_a_stream_never_holds_more_than_the_longest_stand_in(text: str, seed: str) -> None:
    standins = StandIns(seed)
    hidden = standins.hide(text) * 3
    longest = max([0, *(len(standin) for _, _, standin in standins.plain()["pairs"])])
    restorer = standins.restorer()
    for one in hidden:
        restorer.feed(one)
        assert len(restorer.held) <= 3 * longest
