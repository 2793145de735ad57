"""What people do works in an encrypted folder as it does in a clear one: tests of it run again here, with a key."""

# ruff: noqa: F401
from __future__ import annotations

from typing import Any

import pytest
from test_remembering import (
    test_a_fact_is_in_every_prompt_until_it_is_forgotten,
    test_a_pinned_message_stays_in_mind_when_the_window_has_left_it_behind,
    test_facts_of_one_person_are_nobody_elses_and_stay_out_of_groups,
    test_three_accounts_become_one_person_and_part_again,
    test_what_was_said_is_found_again,
)
from test_state import (
    test_a_dialogue_of_several_turns_survives_a_restart_at_each_of_them,
    test_a_state_belongs_to_one_person_in_one_place,
    test_a_state_ends_with_its_time,
    test_forgetting_a_conversation_forgets_its_state,
    test_what_fails_changes_nothing,
)
from test_wishes import (
    at_once,
    test_a_running_bot_answers,
    test_without_a_bot_it_is_done_on_the_spot_and_the_folder_is_free_again,
)

from roost.secret import new_key
from roost.testing import Stage

CLEAR = Stage.__init__


def sealed(self: Stage, folder: Any, plugins: Any = (), config: str = "", **more: Any) -> None:
    CLEAR(self, folder, plugins, '[bot]\nencryption = "env:ROOST_KEY"\n' + config, **more)


@pytest.fixture(autouse=True)
def always_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_KEY", new_key())
    monkeypatch.setattr(Stage, "__init__", sealed)
