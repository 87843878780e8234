"""The base of all models of documents."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel

from gatecast.controlplane.documents.refusals import Broken, all_refused, is_stored, refused
from gatecast.controlplane.documents.tenant_data import broken_tenant_data


class Part(BaseModel):
    """A part of a document: camelCase outside, snake_case inside; unknown fields are errors; never changed."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _check_object(cls, written: Any) -> Any:  # noqa: ANN401 - whatever was sent
        """Runs before any other check, because their errors would show a value in a credential's place."""
        if not isinstance(written, dict | Part):
            raise refused("be an object")
        return written

    @model_validator(mode="after")
    def _check_rules(self, info: ValidationInfo) -> Self:
        """Check the rules between its fields; report all mistakes at once."""
        broken = list(self.broken_rules())
        if not is_stored(info):
            broken += self.broken_later()
        if broken:
            raise all_refused(broken)
        return self

    def broken_rules(self) -> Iterator[Broken]:
        """The rules between its fields that it breaks, each field being right by itself."""
        yield from ()

    def broken_later(self) -> Iterator[Broken]:
        """Rules that came with a later release, so that stored documents may break them."""
        yield from ()

    def content(self) -> dict[str, Any]:
        """The given fields, in the form and order of gateways."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


class Document(Part):
    """A whole document."""

    #: Fields that gateways are not sent, and that have bounds of their own.
    for_people: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _check_tenant_data(cls, written: Any) -> Any:  # noqa: ANN401 - whatever was sent
        """Check the rules of every document; report their mistakes together with others."""
        fields = dict(written) if isinstance(written, Part) else written
        if isinstance(fields, dict):
            fields = {name: value for name, value in fields.items() if name not in cls.for_people}
        _broken.get().extend(broken_tenant_data(fields))
        return written

    @model_validator(mode="wrap")
    @classmethod
    def _tell_all(cls, written: Any, check: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401 - whatever was sent
        broken: list[Broken] = []
        before = _broken.set(broken)
        try:
            document = check(written)
        except ValidationError as error:
            raise (all_refused(broken, beside=error) if broken else error) from None
        finally:
            _broken.reset(before)
        if broken:
            raise all_refused(broken)
        return document


#: The mistakes in the document being checked that concern no single field's type.
_broken: ContextVar[list[Broken]] = ContextVar("broken")


class Target(Part):
    """Where requests go: an address, or a name in `upstreamDefinitions`."""

    url: str | None = None
    ref: str | None = None

    def broken_rules(self) -> Iterator[Broken]:
        """Both ways to say it, or none."""
        if (self.url is None) == (self.ref is None):
            yield Broken("have exactly one of url and ref")
