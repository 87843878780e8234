"""What the console serves of others is what its notes say, and nothing of it asks another server for anything."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import gatecast.server.console

_STATIC = Path(gatecast.server.console.__file__).parent / "static"
_FOLDERS = [_STATIC / "vendor", Path(__file__).parents[3] / "browser/vendor"]


@pytest.mark.parametrize("folder", _FOLDERS, ids=["served", "testing"])
def test_every_file_is_the_one_that_its_note_describes(folder: Path) -> None:
    notes = json.loads((folder / "vendor.json").read_text())
    files = {file.name: file for file in folder.iterdir() if file.name != "vendor.json"}
    assert notes.keys() == files.keys()
    for name, note in notes.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == note["sha256"], name
        assert all(note[field] for field in ("package", "version", "license"))


def test_our_own_files_name_no_other_server() -> None:
    folder = Path(gatecast.server.console.__file__).parent
    own = [file for kind in ("static/*.js", "static/*.css", "templates/*.html") for file in folder.glob(kind)]
    assert len(own) > 15
    for file in own:
        assert not re.search(r"(src|href|url\()=?[\"']?https?://", file.read_text()), file.name


def test_no_template_needs_what_the_policy_of_content_forbids() -> None:
    """No inline style, no inline script, no handler in an attribute."""
    folder = Path(gatecast.server.console.__file__).parent / "templates"
    for file in folder.glob("*.html"):
        text = file.read_text()
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), file.name
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", text)), file.name
