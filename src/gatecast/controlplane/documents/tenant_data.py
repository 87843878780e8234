"""What every document must keep to, whatever it says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from gatecast.controlplane.documents.emitter import quoted
from gatecast.controlplane.documents.refusals import refused
from gatecast.events import MAX_DEPTH, MAX_INTEGER

#: Longest text in a document, in bytes of UTF-8.
MAX_TEXT_BYTES = 64 * 1024

#: Longest key in a document, in characters: YAML parsers give up on keys beyond 1,024 characters, escapes included.
MAX_KEY_LENGTH = 160

#: Most elements of a list, and most keys of an object, in a document.
MAX_ELEMENTS = 1_000

#: Largest document, in bytes of YAML, so that an event of 1 MiB has room for it and for what is added to it.
MAX_DOCUMENT_BYTES = 512 * 1024

#: Opens a template, which a gateway would execute with access to its environment and to every secret.
TEMPLATE = "{{"

_LINE_OVERHEAD = 4

_Path = tuple[str | int, ...]


def check_tenant_data(document: object) -> None:
    """Check everything that a tenant wrote, at any depth.

    Raises:
        ValidationError: at the place at fault.
    """
    size = 0
    for part in _sizes(document, ()):
        size += part
        if size > MAX_DOCUMENT_BYTES:
            raise refused(f"have at most {MAX_DOCUMENT_BYTES:,} bytes as YAML")


def _sizes(value: object, path: _Path) -> Iterator[int]:
    """The bytes that each part takes; a generator, so that nothing behind the limit is looked at."""
    if len(path) > MAX_DEPTH:
        raise refused(f"be nested at most {MAX_DEPTH} deep", *path)
    yield 2 * len(path) + _LINE_OVERHEAD
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, Mapping):
        yield from _sizes_of_object(value, path)
    elif isinstance(value, list | tuple):
        yield from _sizes_of_list(value, path)
    else:
        yield _size_of_scalar(value, path)


def _sizes_of_object(value: Mapping[object, object], path: _Path) -> Iterator[int]:
    _check_count(len(value), path)
    for key, item in value.items():
        yield _size_of_key(key, path)
        yield from _sizes(item, (*path, str(key)))


def _sizes_of_list(value: list[object] | tuple[object, ...], path: _Path) -> Iterator[int]:
    _check_count(len(value), path)
    for index, item in enumerate(value):
        yield from _sizes(item, (*path, index))


def _check_count(count: int, path: _Path) -> None:
    if count > MAX_ELEMENTS:
        raise refused(f"have at most {MAX_ELEMENTS:,} elements", *path)


def _size_of_key(key: object, path: _Path) -> int:
    """A bad key is told at the object that has it, because the path itself must be fit to be shown."""
    problem = _problem(key) if isinstance(key, str) else "be text"
    if problem is None and len(str(key)) > MAX_KEY_LENGTH:
        problem = f"have at most {MAX_KEY_LENGTH} characters"
    if problem is not None:
        raise refused(f"have valid keys only; each must {problem}", *path)
    return len(quoted(str(key)).encode())


def _size_of_scalar(value: object, path: _Path) -> int:
    if not isinstance(value, str):
        _check_number(value, path)
        return len(str(value))
    if (problem := _problem(value)) is not None:
        raise refused(problem, *path)
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


def _check_number(value: object, path: _Path) -> None:
    """What is not JSON at all is for the type of its field to refuse."""
    if isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
        raise refused("be an integer of at most 64 bits", *path)
    if isinstance(value, float) and not math.isfinite(value):
        raise refused("be a finite number", *path)
