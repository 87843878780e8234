"""Links inside the public text lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]+`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TEXTS = [_ROOT / "README.md", _ROOT / "CHANGELOG.md", *sorted(_ROOT.glob("docs/**/*.md"))]


def _anchors(path: Path) -> set[str]:
    headings = _HEADING.findall(path.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", _TEXTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", path.read_text("utf-8"))):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_page_is_in_the_table_of_contents() -> None:
    contents = (_ROOT / "docs/README.md").read_text("utf-8")
    pages = {str(each.relative_to(_ROOT / "docs")) for each in _ROOT.glob("docs/*/*.md")} | {
        "tutorial.md",
        "promises.md",
    }
    assert {page for page in pages if f"]({page}" not in contents} == set()
