"""Programs of the system that a test needs: named when they are missing, demanded where CI is set."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


def require(command: str, package: str) -> None:
    """Skip the running test when `command`, or a file that fits its pattern, is missing; fail it where CI is set."""
    if shutil.which(command) or any(Path("/").glob(command.lstrip("/"))):
        return
    reason = f"{command} is not installed: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
