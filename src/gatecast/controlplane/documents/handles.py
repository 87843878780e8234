"""Names of artifacts on gateways (`metadata.name`)."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection

from gatecast.controlplane.documents.refusals import InvalidDocument

#: Longest handle of an artifact, in characters.
MAX_HANDLE_LENGTH = 253

#: Longest derived handle; the rest is for what makes it unique.
_MAX_DERIVED_LENGTH = 180

_PART = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
HANDLE_PATTERN = rf"^{_PART}(?:\.{_PART})*$"
_HANDLE = re.compile(HANDLE_PATTERN)
_LATIN = re.compile("LATIN (?:SMALL|CAPITAL) (?:LETTER|LIGATURE) ([A-Z]{1,2})(?: WITH .+)?")


def derive_handle(name: str) -> str:
    """A valid handle that resembles a name; other names may have the same.

    Names are compared in one normal form: without letter case, accents and other marks, in any encoding. A name without
    Latin letters or digits is written in the notation of host names (Punycode).
    """
    plain = "".join(map(_latin, unicodedata.normalize("NFKD", name.casefold())))
    slug = _dashed(plain.encode("ascii", "ignore").decode())
    return slug or _dashed(_punycode(plain)) or "artifact"


def first_free(wanted: str, taken: Collection[str]) -> str:
    """The wanted name, or the first of `wanted-2`, `wanted-3` … that is not taken."""
    numbered = (f"{wanted}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([wanted], numbered) if each not in taken)


def _dashed(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text)[:_MAX_DERIVED_LENGTH].strip("-")


def _latin(character: str) -> str:
    """A letter that has no decomposition and is made of Latin ones all the same: `ø`, `ł`, `æ`."""
    if character.isascii():
        return character.lower()
    found = _LATIN.fullmatch(unicodedata.name(character, ""))
    return found[1].lower() if found else character


def _punycode(text: str) -> str:
    """The text without marks, blanks and other separators, in ASCII."""
    kept = "".join(each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each)[0] in "LNS")
    kept = kept.encode("utf-8", "ignore").decode()[:_MAX_DERIVED_LENGTH]
    return f"artifact-{kept.encode('punycode').decode()}" if kept else ""


def is_handle(text: str) -> bool:
    """Whether gateways take a text for a handle."""
    return len(text) <= MAX_HANDLE_LENGTH and _HANDLE.fullmatch(text) is not None


def check_handle(handle: str) -> None:
    """Check a handle.

    Raises:
        InvalidDocument: no gateway would take it.
    """
    if not is_handle(handle):
        rule = (
            f"be 1 to {MAX_HANDLE_LENGTH} lower-case letters, digits, dots and dashes, dashes only inside a dotted part"
        )
        raise InvalidDocument("handle", handle, rule)
