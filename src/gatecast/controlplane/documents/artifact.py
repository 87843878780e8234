"""The parts that all artifacts share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from pydantic import model_validator

from gatecast.controlplane.documents.contexts import DerivedContext
from gatecast.controlplane.documents.credentials import Auth
from gatecast.controlplane.documents.document import Document, Part
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.policies import CheckedPolicy, PolicyReference
from gatecast.controlplane.documents.routes import Route
from gatecast.controlplane.documents.texts import Annotations, Description, Labels

#: The default of `version`.
FIRST_VERSION = "v1.0"

SET_HEADERS = PolicyReference(name="set-headers")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderReference:
    """The fields of a provider that a proxy's document needs."""

    handle: str
    vhost: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """The values that a document is rendered with."""

    #: Handle of the stored secret for each place that carries a credential.
    credentials: Mapping[str, str]
    #: The primary provider.
    provider: ProviderReference | None = None
    #: The other providers, by id.
    additional: Mapping[str, ProviderReference] = field(default_factory=dict)


class Artifact(Document):
    """An operator's document of something that gateways run. They do not get its description and other notes."""

    kind: ClassVar[Kind]

    name: str
    version: str = FIRST_VERSION
    description: Description = ""
    #: Sent as they are; keys have no blanks.
    labels: Labels | None = None
    annotations: Annotations | None = None

    def auths(self) -> Iterator[tuple[str, Auth]]:
        """The places that may hold a credential."""
        yield from ()

    def masked(self) -> Self:
        """The same without credentials."""
        return self

    def with_providers(self, ids: Mapping[str, str]) -> Self:
        """The same with the ids of providers in the place of handles, for kinds that need providers."""
        del ids
        return self

    @property
    def derived_context(self) -> str | None:
        """The context derived from the name; None: one was given, or there is none."""
        context = getattr(self, "context", None)
        return context if isinstance(context, DerivedContext) else None

    def placed_at(self, context: str) -> Self:
        """The same under this context."""
        return self.model_copy(update={"context": str(context)})

    @model_validator(mode="after")
    def _keep_derived_context(self) -> Self:
        """Once derived, a context belongs to the document: another name does not move the artifact."""
        self.model_fields_set.add("context")
        return self

    @abstractmethod
    def routes(self) -> frozenset[Route]:
        """Where a gateway serves it; it serves nothing else there."""

    @abstractmethod
    def specification(self, surroundings: Surroundings) -> dict[str, Any]:
        """`spec` of the document; what is None or empty is left out."""

    @abstractmethod
    def policies_needed(self, providers: Iterable[ProviderReference]) -> Iterator[PolicyReference]:
        """The policies that a gateway must offer; `providers` are those of a proxy."""

    def checked_policies(self) -> Iterator[CheckedPolicy]:
        """Policies whose parameters a gateway checks by its schemas; it reads only name and version of others."""
        yield from ()


def contents(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Parts as gateways read them."""
    return [part.content() for part in parts]


def content(part: Part | None) -> dict[str, Any] | None:
    """A part as gateways read it."""
    return None if part is None else part.content()
