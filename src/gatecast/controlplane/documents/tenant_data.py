"""Rules that every document must keep."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from pydantic import BaseModel

from gatecast.controlplane.documents.emitter import quoted
from gatecast.controlplane.documents.refusals import MAX_KEY_LENGTH, MAX_REFUSALS, Broken
from gatecast.events import MAX_DEPTH, MAX_INTEGER

#: Longest text in a document, in bytes of UTF-8.
MAX_TEXT_BYTES = 64 * 1024

#: Most elements of a list, and most keys of an object, in a document.
MAX_ELEMENTS = 1_000

#: Largest document, in bytes of YAML, so that an event of 1 MiB has room for it and its other fields.
MAX_DOCUMENT_BYTES = 512 * 1024

#: Opens a template, which a gateway would execute with access to its environment and to every secret.
TEMPLATE = "{{"

_LINE_OVERHEAD = 4

_Path = tuple[str | int, ...]

#: A size in bytes, or a mistake.
_Found: TypeAlias = int | Broken


def broken_tenant_data(document: object) -> list[Broken]:
    """The mistakes in a tenant's document, at any depth; if it is too large, only that."""
    size, found = 0, list[Broken]()
    for part in _parts(document, ()):
        if isinstance(part, Broken):
            found.append(part)
        else:
            size += part
        if size > MAX_DOCUMENT_BYTES:
            return [Broken(f"have at most {MAX_DOCUMENT_BYTES:,} bytes as YAML")]
        if len(found) == MAX_REFUSALS:
            break
    return found


def _parts(value: object, path: _Path) -> Iterator[_Found]:
    """The bytes that each part takes; a generator, so that nothing past the limit is looked at."""
    if len(path) > MAX_DEPTH:
        yield Broken(f"be nested at most {MAX_DEPTH} deep", path)
        return
    yield 2 * len(path) + _LINE_OVERHEAD
    if isinstance(value, BaseModel):
        value = dict(value)
    if not isinstance(value, Mapping | list | tuple):
        yield _scalar(value, path)
    elif len(value) > MAX_ELEMENTS:
        yield Broken(f"have at most {MAX_ELEMENTS:,} elements", path)
    elif isinstance(value, Mapping):
        yield from _parts_of_object(value, path)
    else:
        for index, item in enumerate(value):
            yield from _parts(item, (*path, index))


def _parts_of_object(value: Mapping[object, object], path: _Path) -> Iterator[_Found]:
    """A bad key is reported at the object that has it, because a place itself must be fit to be shown."""
    for key, item in value.items():
        problem = _problem_of_key(key)
        if problem is not None:
            yield Broken(f"have valid keys only; each must {problem}", path)
        else:
            yield len(quoted(str(key)).encode())
            yield from _parts(item, (*path, str(key)))


def _problem_of_key(key: object) -> str | None:
    if not isinstance(key, str):
        return "be text"
    if (problem := _problem(key)) is not None:
        return problem
    return f"have at most {MAX_KEY_LENGTH} characters" if len(key) > MAX_KEY_LENGTH else None


def _scalar(value: object, path: _Path) -> _Found:
    """Values that are not JSON at all are refused by the type of their field."""
    if isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        return Broken("be an integer of at most 64 bits", path)
    if isinstance(value, float) and not math.isfinite(value):
        return Broken("be a finite number", path)
    if not isinstance(value, str):
        return len(str(value))
    if (problem := _problem(value)) is not None:
        return Broken(problem, path)
    return len(quoted(value).encode())


def _problem(text: str) -> str | None:
    """The rule that a text breaks."""
    if TEMPLATE in text:
        return f"not contain {TEMPLATE}"
    if "\0" in text:
        return "not contain NUL"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "not contain unpaired surrogates"
    return None if size <= MAX_TEXT_BYTES else f"have at most {MAX_TEXT_BYTES:,} bytes"
