"""Reads an array one element at a time, so that one which cannot be read keeps no other from being read."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gatecast.events.json_values import TooDeep, decode_foreign

#: Strings, whose brackets do not count, and brackets.
_TEXT = r'"(?:[^"\\]|\\.)*"'
_BRACKETS = frozenset("[]{}")
_TOKEN = re.compile(rf"{_TEXT}|[\[\]{{}}]", re.DOTALL)

#: A text that is the value of the key before it.
_VALUE = re.compile(rf"\s*:\s*({_TEXT})", re.DOTALL)


def elements(name: str, text: str) -> list[object]:
    """The objects in an array that cannot be read as a whole, because something in it is nested too deep.

    An unreadable one is replaced by one with its `dpid`, and the error as its `configuration`.

    Raises:
        InvalidValue: it is not an array of objects.
    """
    return [_element(name, part) for part in _objects(text)]


def _element(name: str, text: str) -> object:
    try:
        return decode_foreign(name, text)
    except TooDeep as error:
        return {"dpid": _own_field(text, "dpid"), "configuration": error}


def _objects(text: str) -> Iterator[str]:
    """The texts of the objects in an array."""
    depth = begin = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            begin = token.start() if depth == _ELEMENT else begin
        elif token[0] in "]}":
            depth -= 1
            if depth == _ELEMENT - 1 and token[0] == "}":
                yield text[begin : token.end()]


#: How many brackets are open within an element.
_ELEMENT = 2


def _own_field(text: str, name: str) -> str:
    """A string field of the object itself, not of a nested one; empty if there is none."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in _BRACKETS:
            depth += 1 if token[0] in "[{" else -1
        elif depth == 1 and token[0] == f'"{name}"' and (value := _VALUE.match(text, token.end())):
            return str(decode_foreign(name, value[1]))
    return ""
