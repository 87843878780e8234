"""Where the database under test lies."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The SQLite file; not there yet."""
    return tmp_path / "events.db"
