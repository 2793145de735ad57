"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reference import DOCS, PAGES

from roost.testing import Stage

ROOT = DOCS.parent


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_fresh(name: str) -> None:
    assert (DOCS / name).read_text() == PAGES[name](), "stale: run `make docs`"


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


async def test_the_example_plugins_of_the_tutorial_work_as_written(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    examples = re.findall(r"```python\n# plugins/(\w+\.py)\n(.*?)```", (DOCS / "plugins.md").read_text(), re.S)
    assert len(examples) >= 3
    for name, code in examples:
        (tmp_path / "plugins" / name).write_text(code)
    async with Stage(tmp_path) as stage:
        assert stage.registry.failures == []
        for said, answer in re.findall(r"^> you: (.+)\n> bot: (.+)$", (DOCS / "plugins.md").read_text(), re.M):
            assert await stage.talk(said) == answer
