"""Regular expressions that come from gateways, as far as they are applied.

A gateway's own expressions take linear time; those of this language may take for ever. So only plain ones are applied,
in which single characters repeat and groups do not, and only to texts that they are done with in a moment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

#: Longest pattern in a policy's schema that is applied, in characters.
MAX_PATTERN_LENGTH = 256

#: Most steps of matching one text with a pattern; a match that needs more is not made.
MAX_STEPS = 20_000

_ESCAPE = r"\\[dDwWsS.\-/\\+*?()\[\]{}|^$]"
_ONE = rf"(?:[^\\\[\](){{}}.*+?^$|]|\.|{_ESCAPE}|\[\^?(?:[^\\\[\]]|{_ESCAPE})+\])"
_REPEAT = r"(?:[*+?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})"
_PLAIN = re.compile(rf"\^?(?:{_ONE}{_REPEAT}?|\((?:\?:)?|\)\??|\|)*\$?")

_SET_OR_ESCAPE = re.compile(rf"{_ESCAPE}|\[\^?(?:[^\\\[\]]|{_ESCAPE})+\]|\(\?:")


@dataclass(frozen=True, slots=True)
class TextPattern:
    """An expression that is safe to apply."""

    _expression: re.Pattern[str]
    #: In how many places the length of a repetition is free.
    _repeats: int
    #: In how many places there are two ways to go on.
    _choices: int

    def refuses(self, text: str) -> bool:
        """True when no part of a text is like this; False also where it would take long to find out."""
        steps = (len(text) + 1) ** self._repeats * 2**self._choices
        return steps <= MAX_STEPS and self._expression.search(text) is None


@lru_cache(maxsize=512)
def _read(pattern: str) -> TextPattern | None:
    if len(pattern) > MAX_PATTERN_LENGTH or not _PLAIN.fullmatch(pattern):
        return None
    # The end is the end: a line feed behind it does not count for gateways.
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
    """A pattern of a schema, where it can be applied."""
    return _read(pattern) if isinstance(pattern, str) else None
