"""No channel is left out of the scenarios."""

from __future__ import annotations

from kit.conformance import PARTS, REGISTRY, RIGS, SECONDS, kinds, names


def test_every_channel_is_held_to_the_scenarios() -> None:
    assert set(REGISTRY.channels.entries) == kinds()
    assert sorted(name for part in range(PARTS) for name in names(part)) == sorted(RIGS)


def test_what_is_known_of_how_long_a_rig_takes_is_about_rigs_that_are_there() -> None:
    assert SECONDS.keys() <= RIGS.keys()
