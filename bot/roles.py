"""Who somebody is to the bot."""

from __future__ import annotations

from typing import Literal

Role = Literal["stranger", "guest", "person", "admin", "owner"]
RANK: dict[Role, int] = {"stranger": 0, "guest": 0, "person": 1, "admin": 2, "owner": 3}
"""Each may do what those before it may. A stranger who is answered at all, in an open place, is a guest there."""


def allows(role: Role, needed: Role) -> bool:
    """Whether somebody with `role` may do what needs `needed`."""
    return RANK[role] >= RANK[needed]
