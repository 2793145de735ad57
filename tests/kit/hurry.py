"""A stop that does not wait for what hangs."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from roost import bot

CUTTABLE = ("last answers", "answers", "outbox", "channels")


def hurry(monkeypatch: pytest.MonkeyPatch, *steps: str, seconds: float = 0.05) -> None:
    """Let a stop leave these steps behind soon. All others, which close files, keep their time."""
    do = bot.step

    async def step(name: str, work: Coroutine[Any, Any, None], quiet: bool = False) -> None:
        with pytest.MonkeyPatch.context() as patched:
            if name in (steps or CUTTABLE):
                patched.setattr(bot, "STEP_TIME", seconds)
            await do(name, work, quiet)

    monkeypatch.setattr(bot, "step", step)
