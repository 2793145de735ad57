"""Roll dice: `/roll`, `/roll 20`, `/roll 6 3`."""

import random

from roost import command


@command
def roll(sides: int = 6, times: int = 1) -> str:
    """Roll dice with any number of sides."""
    if not (2 <= sides <= 1000 and 1 <= times <= 100):
        return "I have dice with 2 to 1000 sides, and 100 of each."
    rolls = [random.randint(1, sides) for _ in range(times)]
    return f"🎲 {' + '.join(map(str, rolls))}" + (f" = {sum(rolls)}" if times > 1 else "")
