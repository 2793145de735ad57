"""Lists of words in text files of ours: `[heading]`, then words with spaces between; `#` begins a remark."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def listed(file: str) -> dict[str, tuple[str, ...]]:
    """The words of a file beside this module by their heading; those before the first under the empty one."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            heading = line.strip("[]")
        elif not line.startswith("#"):
            found.setdefault(heading, []).extend(line.split())
    return {name: tuple(words) for name, words in found.items()}
