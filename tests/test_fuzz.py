"""Whatever comes in: no crash, no hang, nothing that the journal cannot give back."""

from __future__ import annotations

from random import Random

import pytest
from fuzz.mutations import damage
from fuzz.oracle import Meter, TooManyCalls, check
from fuzz.targets import NOT_FUZZED, TARGETS, Target
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from roost.registry import Registry

EXAMPLES = 60
PHASES = (Phase.generate, Phase.shrink)
all_targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def test_every_channel_is_fuzzed_or_says_why_not() -> None:
    registry = Registry()
    registry.load()
    known = set(registry.channels.entries)
    fuzzed = {one.kind for one in TARGETS.values()}
    assert known - fuzzed - NOT_FUZZED.keys() == set(), "write a target in tests/fuzz/targets.py"
    assert (fuzzed | NOT_FUZZED.keys()) <= known, "there is no such channel any more"


@all_targets
def test_recorded_updates_and_those_that_once_did_harm_are_read(target: Target) -> None:
    found = 0
    for path in target.corpus:
        found += len(check(target, path.read_bytes()))
    assert target.corpus and (found or target.name == "web"), "the corpus is of some other format"


@all_targets
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink)
)
@given(data=st.data())
def test_a_damaged_update_is_read_or_refused_and_never_does_harm(target: Target, data: st.DataObject) -> None:
    seeds = target.seeds()
    random = data.draw(st.randoms(use_true_random=False))
    sent = damage(data.draw(st.sampled_from(seeds)), target.shape, random, seeds if target.shape == "json" else ())
    note(f"{target.name}: {sent!r}")
    check(target, sent)


def test_a_reader_that_goes_over_its_input_again_and_again_is_ended() -> None:
    with pytest.raises(TooManyCalls), Meter(1000):
        while True:
            Random(0)
