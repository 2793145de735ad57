"""What every test shares."""

from __future__ import annotations

import pytest
from system import require


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("system"):
        require(*mark.args)
