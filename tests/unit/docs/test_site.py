"""The site's navigation is the table of contents, and links out of docs/ lead to the repository."""

from __future__ import annotations

import importlib.util
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
    assert sorted(pages) == sorted(str(path.relative_to(_ROOT / "docs")) for path in _ROOT.glob("docs/**/*.md"))


@pytest.mark.parametrize(
    ("link", "shown"),
    [
        ("[a](../../CHANGELOG.md)", "[a](https://github.com/gatecast/gatecast/blob/main/CHANGELOG.md)"),
        (
            "[a](../../src/gatecast/hub.py#L1)",
            "[a](https://github.com/gatecast/gatecast/blob/main/src/gatecast/hub.py#L1)",
        ),
        ("[a](../README.md#design)", "[a](../README.md#design)"),
        ("[a](upgrade.md)", "[a](upgrade.md)"),
        ("[a](https://example.com/../b)", "[a](https://example.com/../b)"),
    ],
)
def test_links_out_of_the_folder_lead_to_the_repository(hooks: ModuleType, link: str, shown: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="how-to/upgrade.md"))
    assert hooks.on_page_markdown(link, page=page) == shown
