"""The reference says what the code says."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest

from gatecast import errors
from gatecast.server.admin_api.models import EventState, WhyCode
from gatecast.storage.migrations import available, tables

_FOLDER = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script that writes the generated parts."""
    spec = importlib.util.spec_from_file_location("docs_generate", _FOLDER / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("reference/settings.md", "settings"),
        ("reference/commands.md", "commands"),
        ("reference/http-api.md", "routes"),
        ("reference/http-api.md", "problems"),
        ("reference/errors.md", "errors"),
        ("reference/close-codes.md", "close codes"),
        ("reference/limits.md", "limits"),
        ("reference/metrics.md", "metrics"),
    ],
)
def test_a_generated_part_is_up_to_date(generate: ModuleType, file: str, name: str) -> None:
    """If it is not: `python docs/generate.py`."""
    text = (_FOLDER / file).read_text("utf-8")
    assert f"<!-- {name}: begin -->" in text
    assert text == generate.with_part(text, name, generate.PARTS[file, name]())


def test_every_limit_is_in_the_reference_once(generate: ModuleType) -> None:
    """Each public number of the product is a row; what two doors share is one number and not two."""
    rows = [line.split(" | ") for line in generate.limits().splitlines() if line.startswith("| `")]
    names = [(row[0], row[-1]) for row in rows]
    assert len(set(names)) == len(names)
    for name in ("MAX_IDENTIFIER_LENGTH", "MAX_PAYLOAD_BYTES", "MAX_INTEGER", "RETRY_AFTER", "MAX_INBOUND_BYTES"):
        assert len([row for row in rows if row[0] == f"| `{name}`"]) == 1


def test_every_code_of_why_is_in_the_reference() -> None:
    text = (_FOLDER / "reference/http-api.md").read_text("utf-8")
    assert [code for code in get_args(WhyCode) if f"\n| `{code}` |" not in text] == []


def test_every_state_of_an_event_is_in_the_reference() -> None:
    text = (_FOLDER / "reference/http-api.md").read_text("utf-8")
    assert [state for state in get_args(EventState) if f"\n| `{state}` |" not in text] == []


def test_every_migration_is_in_the_guide_to_upgrades_with_the_tables_that_it_makes() -> None:
    text = (_FOLDER / "how-to/upgrade.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    for migration in available("gatecast.storage.postgres.migrations", "gatecast.controlplane.migrations"):
        found = [row for row in rows if f"`{migration.number:04}`" in row.split(" | ")[0]]
        assert len(found) == 1, migration.number
        if migration.number > 1000:
            assert [table for table in tables([migration]) if f"`{table}`" not in found[0]] == []


def test_every_error_is_in_the_reference() -> None:
    """The tree is drawn by hand in the module, so it could lack one."""
    text = (_FOLDER / "reference/errors.md").read_text("utf-8")
    names = [
        name for name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.GatecastError)
    ]
    assert [name for name in names if name not in text] == []
