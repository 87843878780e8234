"""How a document is refused, with the place at fault and without its content, which may be a credential."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from gatecast.errors import InvalidValue


class InvalidDocument(InvalidValue):
    """A document, or something that it is rendered with, breaks a rule of gateways."""


#: The validation context of documents that are read back: those of earlier releases keep the rules of their time.
STORED = {"stored": True}


#: Most mistakes of one document that one error reports.
MAX_REFUSALS = 100

#: Longest key, in characters: YAML parsers give up on keys beyond 1,024 characters, escapes included.
MAX_KEY_LENGTH = 160


def is_showable(key: str) -> bool:
    """Whether a key may be named."""
    return len(key) <= MAX_KEY_LENGTH and key.isprintable()


def is_stored(info: ValidationInfo) -> bool:
    """Whether a document is read back, so that rules which came after it do not make it unreadable."""
    context: Any = info.context
    return bool(context == STORED)


class Broken(NamedTuple):
    """A rule that is broken, and where."""

    #: Continues "should …".
    rule: str
    #: Relative to what is validated.
    place: tuple[str | int, ...] = ()


def broken_in(error: ValidationError) -> list[Broken]:
    """The mistakes in an error, without the content."""
    return [
        Broken(each["ctx"]["rule"] if "rule" in each.get("ctx", {}) else each["msg"], each["loc"])
        for each in error.errors(include_url=False, include_input=False)
    ]


def refused(rule: str, *place: str | int) -> ValidationError:
    """The error that a validator raises; `rule` continues "should …", `place` is relative to what is validated."""
    return all_refused([Broken(rule, place)])


def all_refused(broken: Collection[Broken], *, beside: ValidationError | None = None) -> ValidationError:
    """The same for several rules at once, and what is wrong beside them at other places."""
    details = [_details(each) for each in broken]
    if beside is not None:
        details += _others(beside, {each.place for each in broken})
    return ValidationError.from_exception_data("document", details[:MAX_REFUSALS], hide_input=True)


def mistakes(errors: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Errors of pydantic, without those that only follow from others: what is derived, and lists of nothing valid."""
    places = [each["loc"] for each in errors]
    return [
        each
        for each in errors
        if each["type"] != "default_factory_not_called"
        and not (each["type"] == "too_short" and any(place[:-1][: len(each["loc"])] == each["loc"] for place in places))
    ]


def _others(error: ValidationError, known: Container[tuple[str | int, ...]]) -> Iterator[InitErrorDetails]:
    """Those at places whose names are fit to be shown, and that are not known to be wrong."""
    for each in mistakes(error.errors(include_url=False, include_context=False, include_input=False)):
        place = each["loc"]
        if place not in known and all(isinstance(part, int) or is_showable(part) for part in place):
            said = PydanticCustomError(each["type"], each["msg"])
            yield InitErrorDetails(type=said, loc=place, input={})


def _details(broken: Broken) -> InitErrorDetails:
    error = PydanticCustomError("document_rule", "Input should {rule}", {"rule": broken.rule})
    # The input is left out: where it is shown, a credential would be shown.
    return InitErrorDetails(type=error, loc=broken.place, input={})
