"""The tests that the promises name exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_TEXT = (_ROOT / "docs/promises.md").read_text("utf-8")
_NAMED = re.findall(r"^- `([^`]+)::(\w+)`$", _TEXT, re.MULTILINE)


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("file", sorted({file for file, _ in _NAMED}))
def test_every_named_test_exists(file: str) -> None:
    named = {name for named_file, name in _NAMED if named_file == file}
    assert named - _functions(_ROOT / file) == set()


def test_every_promise_names_tests() -> None:
    promises = re.split(r"^## ", _TEXT, flags=re.MULTILINE)[1:]
    assert [each.split()[0] for each in promises] == [f"P{number}" for number in range(1, 12)]
    assert all("::test_" in each for each in promises)


def test_every_scenario_is_in_one_row_of_the_table_of_engines() -> None:
    rows = re.findall(r"^\| (S\d\d(?:, S\d\d)*) \|", _TEXT, re.MULTILINE)
    assert sorted(name for row in rows for name in row.split(", ")) == [f"S{number:02}" for number in range(1, 41)]


def test_every_scenario_has_a_test_with_its_number() -> None:
    folders = (_ROOT / "tests", _ROOT / "src" / "gatecast" / "testing")
    texts = [path.read_text("utf-8") for folder in folders for path in folder.rglob("*.py")]
    names = [name for text in texts for name in re.findall(r"^ *(?:async )?def (test_\w+)", text, re.MULTILINE)]
    tested = {int(number) for name in names for number in re.findall(r"_s(\d\d)(?=_)", name)}
    assert tested == set(range(1, 41))
