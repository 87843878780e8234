"""The public text and the source's own text use the field's terms, and not the words that they replaced."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_TEXTS = [_ROOT / "README.md", *sorted(_ROOT.glob("docs/**/*.md"))]

#: Applied migrations never change: their checksums are recorded.
_SOURCES = [
    path
    for suffix in ("py", "sql")
    for path in sorted(_ROOT.glob(f"src/**/*.{suffix}"))
    if suffix == "py" or "migrations" not in path.parts
]

#: What is no prose: fenced blocks, inline code (names that are stable may be retired words), addresses of links.
_CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]+`|\]\([^)]*\)", re.MULTILINE | re.DOTALL)

#: Names in comments: with or without quotes, of a statement, and of a type.
_NAME = re.compile(r"`[^`]+`|^\s*name: .*|\b\w*_\w*\b|\b[A-Z][a-z]+[A-Z]\w*\b")

#: The few uses of "behind" that are plain English: lag, and what a proxy does.
_BEHIND = re.compile(
    r"behind (?:a|the|any) (?:\w+ )?(?:proxy|load balancer|balancer|pooler)|behind\s+PgBouncer|\d+ events? behind"
    r"|behind gateways|connected, current or behind|current, behind|far (?:it is )?behind|lags? behind",
    re.IGNORECASE,
)

#: Retired words, and what stands in their place.
RETIRED = {
    r"behind": "before, after, up to, past the end; 'behind' is for lag and for proxies",
    r"(?:told|tell|tells) (?:it )?again": "republish",
    r"famil(?:y|ies)": "artifact kind",
    r"unrestored": "unrecovered",
    r"withheld": "delivery filter",
    r"(?:re)?seal(?:s|ed|ing)?": "encrypt, key rotation",
    r"dismiss(?:al|als|es|ed)?": "disconnect",
    r"obey(?:s|ed)?": "apply disconnects",
    r"settl(?:e|es|ed|ing)": "ack, acked",
    r"trimmed through": "low-water mark",
    r"life of (?:a|the|this|its) (?:pod|gateway's|database)|(?:new|this) life": "incarnation",
    r"lanes?": "per-log queue",
    r"wish(?:es)?": "connect parameters",
    r"patience": "wait policy",
    r"look(?:s|ed|ing)? after|ma(?:ke|kes|de) good": "reconcile",
    r"happenings?": "fault",
    r"doors?|doorways?": "endpoint",
    r"usual design": "baseline",
    r"lock-first|locks? first": "lock before read",
    r"whoever|somebody|the other one": "a person, thing or condition that acts is named",
}

_ANY_RETIRED = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b", re.IGNORECASE)


def _prose(path: Path) -> str:
    """The text without code, with its lines in place."""
    text = _CODE.sub(lambda found: re.sub(r"[^\n]", "", found[0]), path.read_text("utf-8"))
    return _BEHIND.sub("", text)


def _comments(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and docstrings, without names, by line."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    if path.suffix == ".sql":
        yield from ((number, line.partition("--")[2]) for number, line in enumerate(lines, 1) if "--" in line)
        return
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    yield from ((token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            first, last = node.body[0].lineno, node.body[0].end_lineno or 0
            yield from enumerate(lines[first - 1 : last], first)


def _retired(line: str) -> list[str]:
    if not _ANY_RETIRED.search(line):
        return []
    return [
        f"{each[0]!r}, better: {instead}"
        for word, instead in RETIRED.items()
        for each in re.finditer(rf"\b(?:{word})\b", line, re.IGNORECASE)
    ]


@pytest.mark.parametrize("path", _TEXTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_no_page_uses_a_retired_word(path: Path) -> None:
    found = [f"{number}: {each}" for number, line in enumerate(_prose(path).splitlines(), 1) for each in _retired(line)]
    assert found == []


def test_no_comment_uses_a_retired_word() -> None:
    """Docstrings and comments of the source keep to the same terms."""
    found = [
        f"{path.relative_to(_ROOT)}:{number}: {each}"
        for path in _SOURCES
        # What is read comment by comment takes long.
        if _ANY_RETIRED.search(path.read_text("utf-8"))
        for number, line in _comments(path)
        for each in _retired(_BEHIND.sub("", _NAME.sub("", line)))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("sentence", "word"),
    [
        ("Events behind the position are sent.", "behind"),
        ("The lane settles.", "lane"),
        ("Run behind a load balancer, 3 events behind.", None),
        ("`gatecast reseal` and `withheld` are names.", None),
    ],
)
def test_the_check_tells_retired_words_from_names(sentence: str, word: str | None, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(sentence, "utf-8")
    found = [each for each in RETIRED if re.search(rf"\b(?:{each})\b", _prose(page), re.IGNORECASE)]
    assert bool(found) == (word is not None)


def test_the_check_reads_comments_and_docstrings_but_no_names(tmp_path: Path) -> None:
    """In Python and in SQL; texts of the code itself are left alone."""
    module, statements = tmp_path / "module.py", tmp_path / "statements.sql"
    module.write_text(
        '"""Whoever asks."""\nLANE = "lanes"  # the lane\n#: `lanes` and first_lane are names.\n', "utf-8"
    )
    statements.write_text("-- name: settled\n-- Somebody waits.\nSELECT 'whoever'\n", "utf-8")
    found = [
        (path.name, number)
        for path in (module, statements)
        for number, line in _comments(path)
        if _retired(_NAME.sub("", line))
    ]
    assert sorted(found) == [("module.py", 1), ("module.py", 2), ("statements.sql", 2)]
