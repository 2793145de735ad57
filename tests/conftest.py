"""What every test shares."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from hypothesis import HealthCheck, settings
from kit.loop import Loop
from system import require

from roost.brains.store import ModelStore

# How fast this machine is at the moment says nothing about the code.
settings.register_profile("roost", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("roost")


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, type[Loop]]:
    return {"settling": Loop}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("system"):
        require(*mark.args)


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """The command line sets up the log of a process; the next test hears everything again."""
    loggers = (logging.getLogger(), logging.getLogger("roost"))
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def model() -> Path:
    """The default model, fetched once by the store's own code and kept for later runs."""
    given = os.environ.get("ROOST_TEST_MODELS")
    folder = Path(given) if given else platformdirs.user_cache_path("roost", appauthor=False) / "test-models"
    return asyncio.run(ModelStore(folder).ensure())
