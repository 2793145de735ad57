"""What the owner can ask for in a chat."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from roost import bot as bot_module
from roost.errors import Undeliverable
from roost.testing import Stage

OWNER = '[bot]\nowner = "stage:ann"\n'


async def test_letters_are_listed_shown_sent_again_and_dropped_in_a_chat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot_module, "HEED", 0.01)
    async with Stage(tmp_path, config=OWNER) as stage:
        assert await stage.talk("/letters") == "There is nothing that could not be delivered."
        for word in ("first", "second"):
            stage.channel.fail = [Undeliverable("blocked by the person")]
            await stage.talk(word)
        listed = await stage.talk("/letters")
        assert listed.splitlines()[0] == "- **2** to `stage:1`: blocked by the person"
        assert (await stage.talk("/letters show 3")).endswith("blocked by the person\n\nsecond")
        before = len(stage.channel.sent)
        assert "1 to be sent again." in await stage.talk("/letters resend 2")  # the letter may come first
        async with stage.channel.came:
            await stage.channel.came.wait_for(lambda: len(stage.channel.sent) > before + 1)
        assert "first" in [reply.text for _, reply in stage.channel.sent[before:]]
        assert await stage.talk("/letters drop") == "1 deleted."
        assert await stage.talk("/letters show 3") == "There is no letter 3."


async def test_only_the_owner_reads_letters_and_sees_the_commands_for_it(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNER) as stage:
        assert await stage.talk("/letters", person="Bob") == "/letters is for my owner."
        assert "/letters" not in await stage.talk("/help", person="Bob")
        assert "/letters" in await stage.talk("/help")
        assert "letters" not in dict(stage.bot.channels["stage"].commands())


async def test_the_status_tells_of_channels_of_what_waits_and_of_letters(tmp_path: Path) -> None:
    async with Stage(tmp_path, config=OWNER) as stage:
        stage.channel.fail = [Undeliverable("blocked")]
        await stage.talk("hello")
        told = await stage.talk("/status")
        assert re.search(r"^- stage: running for \d+ s, last sign of life \d+ s ago$", told, re.MULTILINE)
        assert "- 1 could not be delivered: `/letters`" in told
