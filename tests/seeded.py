"""Randomness that can be repeated."""

from __future__ import annotations

import os
import random


def seeded() -> random.Random:
    """Whose seed is ROOST_SEED, or printed. Where CI is set it is always the same, as with Hypothesis: what lands does
    not hang on luck, and new seeds are tried by whoever runs the tests by hand."""
    seed = os.environ.get("ROOST_SEED") or ("1" if os.environ.get("CI") else random.randrange(10**6))
    print(f"ROOST_SEED={seed}")
    return random.Random(int(seed))
