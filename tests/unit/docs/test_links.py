"""Links inside the public text lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]+`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TEXTS = [*sorted(_ROOT.glob("*.md")), *sorted(_ROOT.glob("docs/**/*.md"))]


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
        "glossary.md",
        "tutorial.md",
        "promises.md",
    }
    assert {page for page in pages if f"]({page}" not in contents} == set()


def test_every_path_that_the_maps_name_is_there() -> None:
    """Of files and folders, as they are written: `src/gatecast/hub.py`."""
    named = {
        path
        for map_ in ("ARCHITECTURE.md", "CONTRIBUTING.md")
        for path in re.findall(r"`((?:src|tests|docs|simulation)/[^`]*)`", (_ROOT / map_).read_text("utf-8"))
    }
    assert len(named) > 30
    assert {path for path in named if not (_ROOT / path).exists()} == set()


_BOLD = re.compile(r"\*\*([^*`]+)\*\*")
_TERM = re.compile(r"[a-z][a-z-]*(?: [a-z-]+)?")


def test_every_term_is_in_the_glossary() -> None:
    """What is bold and one or two words in small letters is a term; what begins a paragraph, or is code, is none."""
    glossary = (_ROOT / "docs/glossary.md").read_text("utf-8")
    defined = re.findall(r"^- \*\*([^*]+)\*\*: ", glossary, re.MULTILINE)
    used = {term for path in _TEXTS for term in _BOLD.findall(path.read_text("utf-8")) if _TERM.fullmatch(term)}
    assert used - set(defined) == set()
    assert defined == sorted(set(defined))
