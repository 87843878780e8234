"""Credentials inside documents: they leave a document before it is stored, and return as references to secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, StringConstraints

from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.refusals import Broken, refused
from gatecast.controlplane.documents.texts import HeaderName

#: Stands where a credential was; sent back, it keeps the stored one.
MASK = "***"

#: Longest credential, in characters: what a gateway's `set-headers` policy takes.
MAX_CREDENTIAL_LENGTH = 8_192

#: A gateway removes a credential only on explicit request (gateway-protocol.md 4.1).
NO_CREDENTIAL = {"type": "none"}


def _credential(value: Any) -> str:  # noqa: ANN401 - whatever was sent
    """Runs before any other check, because their errors would show the value."""
    if not isinstance(value, str) or not value or len(value) > MAX_CREDENTIAL_LENGTH or not value.isprintable():
        raise refused(f"be 1 to {MAX_CREDENTIAL_LENGTH:,} printable characters")
    return value


Credential = Annotated[str, BeforeValidator(_credential)]


class Auth(Part):
    """How a gateway authenticates where it sends requests."""

    type: str
    header: HeaderName | None = None
    #: Written once; `***` wherever it is read.
    value: Credential | None = None

    def masked(self) -> Self:
        """The same without the credential."""
        return self if self.value is None else self.model_copy(update={"value": MASK})

    def rendered(self, secret: str | None) -> dict[str, Any]:
        """What a gateway reads; `secret` is the handle of the stored value."""
        reference = {} if secret is None else {"value": f'{{{{ secret "{secret}" }}}}'}
        return self.content() | reference


class LlmAuth(Auth):
    """A credential of an LLM provider, or of a proxy for its provider. The header is set to exactly the value."""

    type: Literal["api-key", "other", "none"]

    def broken_rules(self) -> Iterator[Broken]:
        """The rules of the type."""
        if self.type == "none" and (self.header is not None or self.value is not None):
            yield Broken("have neither header nor value when type is none")
        if self.type == "api-key" and self.header is None:
            yield Broken("name the header of the API key", ("header",))
        if self.type != "none" and self.value is None:
            # A gateway that finds no value keeps using the last one.
            yield Broken(f'be the credential, or "{MASK}" to keep the stored one', ("value",))


class McpAuth(Auth):
    """A credential of an MCP server; a gateway passes it through a text template, which forbids some characters."""

    type: Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]
    header: HeaderName
    value: Credential

    def broken_rules(self) -> Iterator[Broken]:
        """The rules that follow from a gateway's use of the value."""
        if self.type.casefold() == "none":
            yield Broken("not be none, which a gateway takes for a credential; leave auth out", ("type",))
        if any(character in self.value for character in "'%"):
            yield Broken("not contain a single quote or %, which the gateway cannot pass on", ("value",))
        prefixed = self.value == MASK or self.value.startswith(("Bearer ", "bearer "))
        if self.type.casefold() == "bearer" and not prefixed:
            yield Broken('begin with "Bearer " when type is bearer', ("value",))
