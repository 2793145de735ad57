"""`roost memory …`, beside a running bot and alone."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from roost import bot as bot_module
from roost import wishes
from roost.cli import main
from roost.memory.conversation import file_name
from roost.memory.store import Store
from roost.testing import Stage

SMALL = "[memory]\ncompact_keep = 4\n"
Run = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bot_module, "HEED", 0.01)
    monkeypatch.setattr(wishes, "LOOK", 0.01)
    monkeypatch.setenv("ROOST_HOME", str(tmp_path / "home"))
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "bot.toml").write_text('[brain]\nuse = "echo"\n')  # the running bot's brain is scripted
    monkeypatch.chdir(tmp_path / "shell")
    return tmp_path / "home"


def run(*words: str) -> str:
    result = CliRunner().invoke(main, ["memory", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output.strip()


async def ask(*words: str) -> str:
    return await asyncio.to_thread(run, *words)


async def fill(stage: Stage) -> None:
    await stage.talk("/remember Ann likes tea")
    for number in range(6):
        await stage.talk(f"line {number} about the garden")


async def test_a_running_bot_lists_compacts_and_reports(tmp_path: Path, home: Path) -> None:
    async with Stage(tmp_path, config=SMALL) as stage:
        await fill(stage)
        assert (await ask("list")).startswith("stage:1 ")
        assert "12 turns, 0 archived" in await ask("list")
        assert await ask("log") == "There was no compaction yet."
        assert "8 turns, " in await ask("compact", "stage:1")
        assert "4 turns, 8 archived" in await ask("list")
        assert "stage:1" in await ask("log", "stage:1")
        assert await ask("log", "stage:2") == "There was no compaction yet."
        assert await ask("compact") == "There is nothing to fold."
        assert "Ann: line 5 about the garden" in await ask("search", "stage:1", "line", "5")
        assert await ask("check") == "Everything can be read."
        assert "is not a place" in await ask("compact", "nowhere")


async def test_what_is_written_out_can_be_read_in_elsewhere(tmp_path: Path, home: Path) -> None:
    async with Stage(tmp_path, config=SMALL) as stage:
        await fill(stage)
        await ask("compact", "--extract")
        file = tmp_path / "memory.jsonl"
        assert "lines written to" in await ask("export", str(file))
        before = await stage.bot.memory.turns(stage.message("").place)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert {"role", "summary", "fact"} <= {name for row in rows for name in row}
    other = tmp_path / "other"
    other.mkdir()
    async with Stage(other) as stage:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ROOST_HOME", str(other / "home"))
            assert await ask("import", str(file)) == f"12 turns and 1 fact read from {file}"
            await ask("import", str(file))
        again = await stage.bot.memory.turns(stage.message("").place)
        assert [(turn.role, turn.text) for turn in again] == [(turn.role, turn.text) for turn in before]
        assert await stage.talk("/facts") == "1. Ann likes tea"


async def test_without_a_bot_it_works_on_the_folder_itself(tmp_path: Path, home: Path) -> None:
    async with Stage(tmp_path, config=SMALL) as stage:
        await fill(stage)
    assert "12 turns" in await ask("list")
    assert "facts" not in await ask("forget", "stage:1", "--yes")
    assert await ask("list") == "Nothing is remembered."


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("not json\n", "line 1 is not JSON"),
        ("[1, 2]\n", "line 1 is not a JSON object"),
        ('{"place": "stage:1", "role": "user", "text": 7}\n', "line 1 is no turn"),
        ('{"role": "user", "text": "x"}\n', "is not a place"),
    ],
)
async def test_a_file_that_is_none_of_ours_is_refused_by_its_line(
    tmp_path: Path, home: Path, content: str, complaint: str
) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text(content)
    async with Stage(tmp_path):
        assert complaint in await ask("import", str(file))


async def test_the_file_of_a_place_opens_with_tinydb_in_three_lines(tmp_path: Path) -> None:
    async with Stage(tmp_path) as stage:
        await fill(stage)
    with Store(tmp_path / "home" / "memory" / file_name("stage:1")) as db:
        turns = db.table("turns").all()
    assert [turn["text"] for turn in turns[:2]] == ["line 0 about the garden"] * 2


async def test_the_shell_shows_the_turns_of_a_place(tmp_path: Path, home: Path) -> None:
    async with Stage(tmp_path) as stage:
        await fill(stage)
        typed = "print(len(turns.search(Query().role == 'user')), 'asked')\n"
        result = await asyncio.to_thread(CliRunner().invoke, main, ["memory", "shell", "stage:1"], typed)
    assert "6 asked" in result.output
    assert "Nothing is remembered of 'stage:9'" in run("shell", "stage:9")
