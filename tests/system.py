"""Programs of the system that a test needs: named when they are missing, demanded where CI is set."""

from __future__ import annotations

import os
import shutil

import pytest


def require(command: str, package: str) -> None:
    """Skip the running test when `command` is missing, and fail it where CI is set."""
    if shutil.which(command):
        return
    reason = f"{command} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
