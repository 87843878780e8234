"""What the site needs beyond the pages as they stand in the repository: navigation, and links to other files there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_REPOSITORY = "https://github.com/gatecast/gatecast/blob/main"

#: Files of the repository that are pages of the site, too.
_PAGES = {"CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}

_LINK = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
#: What a fence says to the tests beside its language: where the block is run.
_PLACE = re.compile(r"^( *```\w+) \w+$", re.MULTILINE)
#: A list in a list: the repository's page takes two blanks for it, the site's renderer wants four.
_NESTED = re.compile(r"^ {2,3}(?=(?:[-*]|\d+\.) )", re.MULTILINE)
_BLOCK = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
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
    return [*nav, {"Promises": "promises.md"}, {"Changes": "changelog.md"}, {"Security": "security.md"}]


def on_files(files: Any, *, config: Any) -> Any:  # noqa: ANN401 - as above
    """The changelog and the security policy, which stand beside docs/, are pages, too."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - only where the site is built

    for source, shown in _PAGES.items():
        files.append(File.generated(config, shown, content=(_ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:  # noqa: ANN401 - as above
    """Links out of docs/ lead to the repository, or to the page that shows the file; fences name a language alone."""
    parts = _BLOCK.split(_PLACE.sub(r"\1", markdown))
    markdown = "".join(part if number % 2 else _NESTED.sub("    ", part) for number, part in enumerate(parts))
    if page.file.src_uri in _PAGES.values():
        return markdown.replace("](docs/", "](")
    folder = (_ROOT / "docs" / page.file.src_uri).parent

    def outside(link: re.Match[str]) -> str:
        target = (folder / link["up"] / link["path"]).resolve()
        if target.is_relative_to(_ROOT / "docs"):
            return link[0]
        if (shown := _PAGES.get(str(target.relative_to(_ROOT)))) is not None:
            return f"]({'../' * (len(Path(page.file.src_uri).parts) - 1)}{shown}{link['anchor'] or ''})"
        return f"]({_REPOSITORY}/{target.relative_to(_ROOT)}{link['anchor'] or ''})"

    return _LINK.sub(outside, markdown)
