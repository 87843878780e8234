"""The one place where identifiers are trimmed and checked."""

from __future__ import annotations

from gatecast.errors import InvalidValue

#: Longest gateway id, event type, entity type, entity id and replica name, in characters.
MAX_IDENTIFIER_LENGTH = 255


def clean_identifier(field: str, value: object) -> str:
    """The identifier without surrounding blanks.

    Every id is trimmed once, here, at the edge: inside, `" gw-1"` and `"gw-1"` never both exist (scenario S17).

    Raises:
        InvalidValue: it is not a string, blank, longer than 255 characters, or holds a control character.
    """
    if not isinstance(value, str):
        raise InvalidValue(field, value, "be a string")
    cleaned = value.strip()
    if not cleaned:
        raise InvalidValue(field, value, "not be blank")
    if len(cleaned) > MAX_IDENTIFIER_LENGTH:
        raise InvalidValue(field, value, f"have at most {MAX_IDENTIFIER_LENGTH} characters, not {len(cleaned):,}")
    if not cleaned.isprintable():
        # NUL cannot be stored in PostgreSQL, lone surrogates cannot be encoded, and the rest forges log lines.
        raise InvalidValue(field, value, "hold only printable characters")
    return cleaned
