"""What all models of documents share."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel

from gatecast.controlplane.documents.refusals import refused
from gatecast.controlplane.documents.tenant_data import check_tenant_data


class Part(BaseModel):
    """A part of a document: camelCase outside, snake_case inside; unknown fields are errors; never changed."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _check_object(cls, written: Any) -> Any:  # noqa: ANN401 - whatever was sent
        """Before any other check, because errors of those would show what stands where a credential belongs."""
        if not isinstance(written, dict | Part):
            raise refused("be an object")
        return written

    def content(self) -> dict[str, Any]:
        """What was said, in the form and the order of gateways."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Document(Part):
    """A whole document."""

    #: Fields that gateways are not sent, and that have bounds of their own.
    for_people: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _check_tenant_data(cls, written: Any) -> Any:  # noqa: ANN401 - whatever was sent
        fields = dict(written) if isinstance(written, Part) else written
        if isinstance(fields, dict):
            fields = {name: value for name, value in fields.items() if name not in cls.for_people}
        check_tenant_data(fields)
        return written


class Target(Part):
    """Where requests go: an address, or a name in `upstreamDefinitions`."""

    url: str | None = None
    ref: str | None = None

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if (self.url is None) == (self.ref is None):
            raise refused("have exactly one of url and ref")
        return self
