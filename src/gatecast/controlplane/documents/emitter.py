r"""YAML of plain values: the same bytes for the same value, which every parser reads alike.

Every text is a double-quoted scalar in the notation of JSON, which YAML shares. What YAML reads differently inside
quotes (line separators, the byte order mark) is written as `\uXXXX`. There are no anchors, tags or folded lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

#: The values that can be written.
Value: TypeAlias = "Mapping[str, Value] | Sequence[Value] | str | int | float | bool | None"

_INDENT = "  "
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_PLAIN_KEY = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z][a-zA-Z]*")


def emit(document: Mapping[str, Value]) -> bytes:
    """A document in UTF-8, its lines ended with LF, its keys in the order of the mapping."""
    return "".join(f"{line}\n" for line in _lines(document)).encode()


def quoted(text: str) -> str:
    """A text as a scalar on one line."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))


def _lines(value: Value) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _entry(f"{_key(key)}:", item)
    elif isinstance(value, Sequence) and not isinstance(value, str) and value:
        for item in value:
            yield from _element(item)
    else:
        yield _scalar(value)


def _entry(key: str, value: Value) -> Iterator[str]:
    if _is_nested(value):
        yield key
        yield from (_INDENT + line for line in _lines(value))
    else:
        yield f"{key} {_scalar(value)}"


def _element(value: Value) -> Iterator[str]:
    lines = _lines(value)
    yield f"- {next(lines)}"
    yield from (_INDENT + line for line in lines)


def _is_nested(value: Value) -> bool:
    return not isinstance(value, str) and isinstance(value, Mapping | Sequence) and bool(value)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else quoted(key)


def _scalar(value: Value) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        # YAML 1.1 takes `1e+16` for a text; with a fraction it is a number everywhere.
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))
    return json.dumps(value)  # true, false, null, an integer, or an empty collection
