"""The grammar of all endpoints: identifiers, instants, and the limits of everything that is published.

REST, the library, the client, the properties of gateways and the SQL function `gatecast.publish` refuse the same
values, so that every reader reads back exactly what was stored. The rules for JSON are in
`gatecast.events.json_values`. The SQL function repeats the same rules in
`storage/postgres/functions/grammar.sql`; a contract test compares them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from gatecast.errors import InvalidValue

#: Longest gateway id, event type, entity type, entity id and replica name, in characters.
MAX_IDENTIFIER_LENGTH = 255

#: Largest `data` of one event, in bytes of UTF-8 JSON.
MAX_PAYLOAD_BYTES = 1024 * 1024

#: Deepest nesting of a value: this many arrays and objects may enclose it.
MAX_DEPTH = 32

#: Deepest nesting that is read back from values that were stored before this rule existed.
MAX_STORED_DEPTH = 200

#: Largest integer in JSON, and the largest offset. A number with a fraction or an exponent is a double.
MAX_INTEGER = 2**63 - 1

#: Earliest and latest instant that a publisher may name, in UTC.
EARLIEST_INSTANT = datetime.min.replace(tzinfo=UTC)
LATEST_INSTANT = datetime.max.replace(tzinfo=UTC)

#: The characters that are trimmed at both ends of an identifier: Unicode's white space, as ranges of code points.
BLANKS = "0009-000D 001C-0020 0085 00A0 1680 2000-200A 2028-2029 202F 205F 3000"

#: The characters that no identifier holds: controls, formats and bidi overrides, blanks other than the space,
#: surrogates, private use. Listed by code point, because releases of Python differ in what they consider printable.
UNPRINTABLE = (
    "0000-001F 007F-00A0 00AD 0600-0605 061C 06DD 070F 0890-0891 08E2 1680 180E 2000-200F 2028-202F 205F-206F 3000 "
    "D800-F8FF FDD0-FDEF FEFF FFF9-FFFB FFFE-FFFF 110BD 110CD 13430-1343F 1BCA0-1BCA3 1D173-1D17A E0001 E0020-E007F "
    "F0000-10FFFF"
)


def _characters(ranges: str) -> str:
    """These ranges as the inside of a character class."""
    return "".join("-".join(f"\\U{int(end, 16):08x}" for end in each.split("-")) for each in ranges.split())


#: Matches nearly every identifier; a match needs no trimming, and is never refused.
_PLAIN = re.compile(f"[!-~](?:[ -~]{{0,{MAX_IDENTIFIER_LENGTH - 2}}}[!-~])?")

_UNPRINTABLE = re.compile(f"[{_characters(UNPRINTABLE)}]")
_BLANK_ENDS = re.compile(f"^[{_characters(BLANKS)}]+|[{_characters(BLANKS)}]+\\Z")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TRACE_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


# --- texts and instants -----------------------------------------------------------------------------------------------


def clean_identifier(field: str, value: object) -> str:
    """The identifier without surrounding blanks.

    Every id is trimmed once, here, at the edge: inside, `" gw-1"` and `"gw-1"` never both exist (scenario S17).

    Raises:
        InvalidValue: it is not a string, blank, longer than 255 characters, or holds an unprintable character.
    """
    if type(value) is str and _PLAIN.fullmatch(value):
        return value
    if not isinstance(value, str):
        raise InvalidValue(field, value, "be a string")
    cleaned = _BLANK_ENDS.sub("", value)
    if not cleaned:
        raise InvalidValue(field, value, "not be blank")
    if len(cleaned) > MAX_IDENTIFIER_LENGTH:
        raise InvalidValue(field, value, f"have at most {MAX_IDENTIFIER_LENGTH} characters, not {len(cleaned):,}")
    if not is_printable(cleaned):
        # NUL cannot be stored in PostgreSQL, lone surrogates cannot be encoded, and the rest forges log lines.
        raise InvalidValue(field, value, "hold only printable characters")
    return cleaned


def is_printable(text: str) -> bool:
    """Whether an identifier may consist of these characters."""
    return _UNPRINTABLE.search(text) is None


def printable(text: str, limit: int = MAX_IDENTIFIER_LENGTH) -> str:
    """A peer's text, cut to `limit` characters, and safe to log, store and show."""
    return _UNPRINTABLE.sub(" ", text[:limit])


def is_storable(text: str) -> bool:
    """Whether every database can store this text: none stores NUL, and a lone surrogate is not text."""
    return _UNSTORABLE.search(text) is None


def clean_instant(field: str, value: object) -> datetime:
    """The instant in UTC.

    Raises:
        InvalidValue: it is not an instant with a time zone, or lies outside the years 1 to 9999 in UTC.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidValue(field, value, "be a date and time, and carry a time zone")
    if type(value) is datetime and value.tzinfo is UTC:
        return value
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidValue(field, value, "lie within the years 1 to 9999 in UTC") from None


def clean_trace_parent(field: str, value: object) -> str:
    """The `traceparent` as it is.

    Raises:
        InvalidValue: W3C Trace Context does not allow it.
    """
    if not isinstance(value, str) or not _TRACE_PARENT.fullmatch(value):
        raise InvalidValue(field, value, "be a W3C traceparent, like 00-<32 hex digits>-<16 hex digits>-01")
    return value
