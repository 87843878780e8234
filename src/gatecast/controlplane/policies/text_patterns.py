"""Applies regular expressions that come from gateways, as far as that is safe.

A gateway matches in linear time; Python may take exponential time. So only plain expressions are applied, in which
single characters repeat and groups do not, and only to texts that take few steps to match.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

#: Longest pattern in a policy's schema that is applied, in characters.
MAX_PATTERN_LENGTH = 256

#: Most steps of matching one text with a pattern; a text that may need more is not matched.
MAX_STEPS = 20_000

_ESCAPE = r"\\[dDwWsS.\-/\\+*?()\[\]{}|^$]"
_ONE = rf"(?:[^\\\[\](){{}}.*+?^$|]|\.|{_ESCAPE}|\[\^?(?:[^\\\[\]]|{_ESCAPE})+\])"
_REPEAT = r"(?:[*+?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})"
_PLAIN = re.compile(rf"\^?(?:{_ONE}{_REPEAT}?|\((?:\?:)?|\)\??|\|)*\$?")

_SET_OR_ESCAPE = re.compile(rf"{_ESCAPE}|\[\^?(?:[^\\\[\]]|{_ESCAPE})+\]|\(\?:")


@dataclass(frozen=True, slots=True)
class TextPattern:
    """A regular expression that is safe to apply."""

    _expression: re.Pattern[str]
    #: Number of places where a match can be of different lengths; the start of an unanchored pattern counts as one.
    _repeats: int
    #: Number of places where matching can continue in two ways.
    _choices: int

    def refuses(self, text: str) -> bool:
        """Whether no part of the text matches; False also if matching may take more than `MAX_STEPS`."""
        steps = (len(text) + 1) ** self._repeats * 2**self._choices
        return steps <= MAX_STEPS and self._expression.search(text) is None


@lru_cache(maxsize=512)
def _read(pattern: str) -> TextPattern | None:
    if len(pattern) > MAX_PATTERN_LENGTH or not _PLAIN.fullmatch(pattern):
        return None
    # `$` in Python also matches before a last line feed; for gateways it matches only at the end.
    source = pattern[:-1] + r"\Z" if pattern.endswith("$") and not pattern.endswith(r"\$") else pattern
    try:
        expression = re.compile(source, re.ASCII)
    except re.error:
        return None
    marks = _SET_OR_ESCAPE.sub("x", pattern)
    anywhere = not marks.startswith("^") or "|" in marks
    repeats = sum(marks.count(mark) for mark in "*+{") + anywhere
    return TextPattern(expression, repeats, marks.count("?") + marks.count("|"))


def text_pattern(pattern: object) -> TextPattern | None:
    """The pattern of a schema, ready to apply; None if it is no text, too long, or not plain."""
    return _read(pattern) if isinstance(pattern, str) else None
