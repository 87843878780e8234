from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gatecast.errors import SchemaTooNew
from gatecast.storage.migrations import Migration, SchemaNeed, available, missing, need, newest

_KNOWN = [Migration(number, f"step_{number}", "") for number in (1, 2, 1001)]


def _numbers(migrations: list[Migration]) -> list[int]:
    return [migration.number for migration in migrations]


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two packages of migrations, with a file in each that is none."""
    files = {"first_steps": ["0002_more.sql", "0001_begin.sql"], "other_steps": ["1001_other.sql"]}
    for package, names in files.items():
        (tmp_path / package).mkdir()
        for name in [*names, "notes.txt"]:
            (tmp_path / package / name).write_text(f"-- {name}")
    monkeypatch.syspath_prepend(tmp_path)
    for package in files:
        monkeypatch.delitem(sys.modules, package, raising=False)
    return list(files)


def test_the_migrations_of_several_packages_are_one_sequence(packages: list[str]) -> None:
    found = available(*reversed(packages))
    assert [(one.number, one.name) for one in found] == [(1, "begin"), (2, "more"), (1001, "other")]
    assert found[0].text == "-- 0001_begin.sql"


def test_a_number_that_is_taken_twice_is_a_mistake(packages: list[str], tmp_path: Path) -> None:
    (tmp_path / packages[1] / "0001_again.sql").write_text("")
    with pytest.raises(ValueError, match="begin and again are both number 1"):
        available(*packages)


def test_both_databases_have_the_same_numbers() -> None:
    sqlite = available("gatecast.storage.sqlite.migrations")
    postgres = available("gatecast.storage.postgres.migrations")
    assert [(one.number, one.name) for one in sqlite] == [(one.number, one.name) for one in postgres]


def test_what_is_missing_comes_in_order() -> None:
    assert _numbers(missing(_KNOWN, [])) == [1, 2, 1001]
    assert _numbers(missing(_KNOWN, [1])) == [2, 1001]
    assert missing(_KNOWN, [1, 2, 1001]) == []


def test_a_newer_migration_of_a_known_series_is_refused() -> None:
    with pytest.raises(SchemaTooNew) as caught:
        missing(_KNOWN, [1, 2, 3])
    assert (caught.value.found, caught.value.supported) == (3, 2)


def test_a_series_that_this_release_does_not_use_is_no_matter() -> None:
    assert _numbers(missing(_KNOWN[:2], [1, 1001, 9001])) == [2]


def test_the_need_tells_a_fresh_database_from_an_old_one() -> None:
    assert need(_KNOWN, []) is SchemaNeed.FRESH
    assert need(_KNOWN, [1, 2]) is SchemaNeed.FRESH
    assert need(_KNOWN, [1, 1001]) is SchemaNeed.BEHIND
    assert need(_KNOWN, [1, 2, 1001, 9001]) is SchemaNeed.NOTHING


def test_the_version_is_that_of_the_event_log() -> None:
    assert newest([]) == 0
    assert newest([1, 2, 1001]) == 2
