"""How a document is refused, with the place at fault and without its content, which may be a credential."""

from __future__ import annotations

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from gatecast.errors import InvalidValue


class InvalidDocument(InvalidValue):
    """A document, or something that it is rendered with, breaks a rule of gateways."""


def refused(rule: str, *place: str | int) -> ValidationError:
    """The error that a validator raises; `rule` continues "should …", `place` is relative to what is validated."""
    error = PydanticCustomError("document_rule", "Input should {rule}", {"rule": rule})
    # The input is left out: where it is shown, a credential would be shown.
    return ValidationError.from_exception_data(
        "document", [InitErrorDetails(type=error, loc=place, input={})], hide_input=True
    )
