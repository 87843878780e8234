"""What the site needs beyond the pages as they stand in the repository: navigation, and links to other files there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_REPOSITORY = "https://github.com/gatecast/gatecast/blob/main"

_LINK = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_HEADING = re.compile(r"^## (.+)$")
_ENTRY = re.compile(r"^- \[([^\]]+)\]\(([\w./-]+\.md)\)")


def on_config(config: Any) -> Any:  # noqa: ANN401 - mkdocs calls it with values of its own
    """The table of contents in docs/README.md is the navigation."""
    config["nav"] = navigation((_ROOT / "docs/README.md").read_text("utf-8"))
    return config


def navigation(contents: str) -> list[dict[str, Any]]:
    """The sections of the table of contents with their pages."""
    nav: list[dict[str, Any]] = [{"Documentation": "README.md"}, {"Tutorial": "tutorial.md"}]
    for line in contents.splitlines():
        if heading := _HEADING.match(line):
            nav.append({heading[1]: []})
        elif (entry := _ENTRY.match(line)) and isinstance(pages := next(iter(nav[-1].values())), list):
            pages.append({entry[1].replace("`", ""): entry[2]})
    return [*nav, {"Promises": "promises.md"}]


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:  # noqa: ANN401 - as above
    """Links that lead out of docs/ lead to the repository."""
    folder = (_ROOT / "docs" / page.file.src_uri).parent

    def outside(link: re.Match[str]) -> str:
        target = (folder / link["up"] / link["path"]).resolve()
        if target.is_relative_to(_ROOT / "docs"):
            return link[0]
        return f"]({_REPOSITORY}/{target.relative_to(_ROOT)}{link['anchor'] or ''})"

    return _LINK.sub(outside, markdown)
