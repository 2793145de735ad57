"""The page of threats holds: its tests exist, and each row has one that fails when the defence is taken away."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from mutants import MUTANTS, ROOT, Mutant

PAGE = ROOT / "docs" / "threat-model.md"
TEST = re.compile(r"`([\w/]+\.py::\w+)`")
ROWS = [
    line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "| test |" not in line
]


@cache
def names_in(file: str) -> frozenset[str]:
    found = ast.walk(ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")))
    return frozenset(one.name for one in found if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (ROOT / "tests" / file).is_file() and name.startswith("test_") and name in names_in(file)


def row_id(row: str) -> str:
    return row.split("|")[1].strip()


@pytest.mark.parametrize("row", ROWS, ids=row_id)
def test_a_row_names_tests_that_exist_and_one_of_them_fails_without_the_defence(row: str) -> None:
    wants, defence, tests, *_ = [cell.strip() for cell in row.split("|")[1:]]
    named = TEST.findall(tests)
    assert wants and defence and named, "who wants what, which defence, which test"
    assert re.sub(r"[`, ]", "", tests) == "".join(named), "a test is written as `path.py::name`, below tests/"
    assert [one for one in named if not exists(one)] == []
    assert set(named) <= {one.test for one in MUTANTS.values()}, "take the defence away, in tests/mutants.py"


def test_every_mutant_is_a_row() -> None:
    named = {test for row in ROWS for test in TEST.findall(row)}
    assert {one.test for one in MUTANTS.values()} - named == set()
    assert ROWS


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_still_finds_what_it_takes_away(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, f"'{mutant.old}' has to be in {mutant.file} once: correct tests/mutants.py"
    ast.parse(text.replace(mutant.old, mutant.new))
    assert exists(mutant.test)
