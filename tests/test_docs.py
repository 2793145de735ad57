"""The documentation says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reference import DOCS, PAGES

from roost.config import load
from roost.registry import Registry
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


RECIPE = re.compile(r"^## (\d+\. .+)$", re.M)


def recipes() -> dict[str, str]:
    parts = RECIPE.split((DOCS / "cookbook.md").read_text())
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("name", recipes())
async def test_each_recipe_of_the_cookbook_works_as_written(tmp_path: Path, name: str) -> None:
    text = recipes()[name]
    [(file, code)] = re.findall(r"```python\n# plugins/(\w+\.py)\n(.*?)```", text, re.S)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / file).write_text(code)
    async with Stage(tmp_path) as stage:
        assert stage.registry.failures == []
        for talk in re.findall(r"(?:^> .+\n)+", text, re.M):
            for said, answers in re.findall(r"^> you: (.+)\n((?:> bot: .+\n)+)", talk, re.M):
                assert await stage.talk(said) == "\n\n".join(re.findall(r"> bot: (.+)", answers))


def test_there_are_ten() -> None:
    assert [name.partition(".")[0] for name in recipes()] == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize("page", sorted((DOCS / "channels").glob("*.md")), ids=lambda page: page.stem)
def test_what_a_channels_page_puts_into_bot_toml_is_understood(tmp_path: Path, page: Path) -> None:
    registry = Registry()
    registry.load()
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(), re.S)
    shown = [block for block in blocks if "[channels." in block]
    assert shown or page.stem in registry.channels.always, "a page shows what to write"
    for number, block in enumerate(shown):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        problems = load(path, registry, {}).problems
        assert not [one for one in problems if re.search("has no key|There is no| is not ", one)]
