"""How a document is refused, with the place at fault and without its content, which may be a credential."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from pydantic import ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from gatecast.errors import InvalidValue


class InvalidDocument(InvalidValue):
    """A document, or something that it is rendered with, breaks a rule of gateways."""


#: The validation context of documents that are read back: those of earlier releases keep the rules of their time.
STORED = {"stored": True}


def is_stored(info: ValidationInfo) -> bool:
    """Whether a document is read back, so that rules which came after it do not make it unreadable."""
    context: Any = info.context
    return bool(context == STORED)


class Broken(NamedTuple):
    """A rule that is broken, and where."""

    #: Continues "should …".
    rule: str
    #: Relative to what is validated.
    place: tuple[str | int, ...]


def broken_in(error: ValidationError) -> list[Broken]:
    """What an error says, without the content."""
    return [
        Broken(each["ctx"]["rule"] if "rule" in each.get("ctx", {}) else each["msg"], each["loc"])
        for each in error.errors(include_url=False, include_input=False)
    ]


def refused(rule: str, *place: str | int) -> ValidationError:
    """The error that a validator raises; `rule` continues "should …", `place` is relative to what is validated."""
    return all_refused([Broken(rule, place)])


def all_refused(broken: Iterable[Broken]) -> ValidationError:
    """The same for several rules at once."""
    return ValidationError.from_exception_data("document", [_details(each) for each in broken], hide_input=True)


def _details(broken: Broken) -> InitErrorDetails:
    error = PydanticCustomError("document_rule", "Input should {rule}", {"rule": broken.rule})
    # The input is left out: where it is shown, a credential would be shown.
    return InitErrorDetails(type=error, loc=broken.place, input={})
