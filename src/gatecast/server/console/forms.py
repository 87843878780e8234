"""The input of forms, and its mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable

from fastapi.exceptions import RequestValidationError

from gatecast.controlplane.documents.refusals import mistakes


def json_or_text(text: str) -> object:
    """The value of a JSON text; other texts are passed on as they are, and refused later."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def errors_by_field(error: RequestValidationError, field_of: Callable[[str], str]) -> dict[str, str]:
    """The first mistake of each field; `field_of` maps a place in the document to its field."""
    found: dict[str, str] = {}
    for each in mistakes(error.errors()):
        place = ".".join(str(part) for part in each["loc"][1:])
        found.setdefault(field_of(place), _in_words(each["type"], each["msg"]))
    return found


def _in_words(kind: str, message: str) -> str:
    if kind == "string_pattern_mismatch":
        return "It does not have the form described under the field."
    return f"{message.replace('Input should', 'It must').replace('String should', 'It must').rstrip('.')}."
