"""What every test shares."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import platformdirs
import pytest
from system import require

from roost.brains.store import ModelStore


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("system"):
        require(*mark.args)


@pytest.fixture(scope="session")
def model() -> Path:
    """The default model, fetched once by the store's own code and kept for later runs."""
    given = os.environ.get("ROOST_TEST_MODELS")
    folder = Path(given) if given else platformdirs.user_cache_path("roost", appauthor=False) / "test-models"
    return asyncio.run(ModelStore(folder).ensure())
