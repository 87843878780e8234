"""The site's navigation is the table of contents, and links out of docs/ lead to the repository."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """What mkdocs calls."""
    spec = importlib.util.spec_from_file_location("site_hooks", _ROOT / "scripts/site_hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once(hooks: ModuleType) -> None:
    nav = hooks.navigation((_ROOT / "docs/README.md").read_text("utf-8"))
    entries = [each for section in nav for each in next(iter(section.values()))]
    pages = [next(iter(each.values())) for each in entries if isinstance(each, dict)]
    pages += [page for section in nav for page in section.values() if isinstance(page, str)]
    assert sorted(pages) == sorted(
        ["changelog.md", "security.md", *(str(path.relative_to(_ROOT / "docs")) for path in _ROOT.glob("docs/**/*.md"))]
    )


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[a](../../CHANGELOG.md)", "[a](../changelog.md)"),
        ("[a](../../README.md)", "[a](https://github.com/gatecast/gatecast/blob/main/README.md)"),
        (
            "[a](../../src/gatecast/hub.py#L1)",
            "[a](https://github.com/gatecast/gatecast/blob/main/src/gatecast/hub.py#L1)",
        ),
        ("[a](../README.md#design)", "[a](../README.md#design)"),
        ("[a](upgrade.md)", "[a](upgrade.md)"),
        ("[a](https://example.com/../b)", "[a](https://example.com/../b)"),
        ("```python server\na\n```", "```python\na\n```"),
        ("1. a\n   - b\n     c\n", "1. a\n    - b\n     c\n"),
        ("```yaml\na:\n  - b\n```\n- c\n  1. d", "```yaml\na:\n  - b\n```\n- c\n    1. d"),
    ],
)
def test_links_out_of_the_folder_lead_to_the_repository_and_fences_name_a_language(
    hooks: ModuleType, link: str, shown: str
) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="how-to/upgrade.md"))
    assert hooks.on_page_markdown(link, page=page) == shown


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_nobody_else_to_show_a_page(tmp_path: Path) -> None:
    """With every page of docs/, the changelog and the security policy; what a page loads is in the site."""
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=_ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list((tmp_path / "site").rglob("index.html"))
    assert len(pages) == len(list(_ROOT.glob("docs/**/*.md"))) + 2
    for page in pages:
        text = page.read_text("utf-8")
        assert "```" not in text, f"{page}: a block is shown as text"
        loaded = re.findall(r"<(?:script|img|iframe|source)[^>]*?\ssrc=\"?([^\s\">]+)", text)
        loaded += re.findall(r"<link[^>]*?rel=\"?(?:stylesheet|preconnect)[^>]*?href=\"?([^\s\">]+)", text)
        assert [each for each in loaded if each.startswith(("http", "//"))] == [], page
        # With it the theme asks GitHub for the stars of the repository.
        assert not re.search(r'data-md-component="?source\b', text)
