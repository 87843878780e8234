"""LLM proxies (gateway-protocol.md 4.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field

from gatecast.controlplane.documents.artifact import SET_HEADERS, ProviderReference, Surroundings
from gatecast.controlplane.documents.credentials import NO_CREDENTIAL, Auth, LlmAuth
from gatecast.controlplane.documents.document import Part
from gatecast.controlplane.documents.kinds import Kind
from gatecast.controlplane.documents.llm import LlmArtifact
from gatecast.controlplane.documents.policies import PolicyReference
from gatecast.controlplane.documents.refusals import Broken, InvalidDocument
from gatecast.controlplane.documents.texts import JsonObject, LocalName, MajorVersion, PolicyName, ProviderId

HOST_REWRITE = PolicyReference(name="host-rewrite")

_PRIMARY = "provider.auth"


class ProviderUse(Part):
    """A provider of this control plane, and the credential that a proxy presents to it."""

    #: The provider's id here, or its handle, which is replaced by the id; gateways get the handle.
    id: ProviderId
    auth: LlmAuth | None = None

    def masked(self) -> Self:
        """The same without the credential."""
        return self if self.auth is None else self.model_copy(update={"auth": self.auth.masked()})

    def rendered(self, handle: str, secret: str | None) -> dict[str, Any]:
        """What a gateway reads; `secret` is the handle of the stored credential."""
        auth = NO_CREDENTIAL if self.auth is None else self.auth.rendered(secret)
        return {"id": handle} | self._alias() | {"auth": auth}

    def _alias(self) -> dict[str, Any]:
        return {}


U = TypeVar("U", bound=ProviderUse)


class Transformer(Part):
    """How requests are translated for a provider."""

    type: PolicyName
    version: MajorVersion
    params: JsonObject | None = None


class AdditionalProvider(ProviderUse):
    """A provider that policies can choose."""

    #: What policies call it; left out: its handle.
    as_: Annotated[LocalName | None, Field(alias="as")] = None
    transformer: Transformer | None = None

    @property
    def place(self) -> str:
        """The place of its credential."""
        return f"additionalProviders/{self.id}"

    def rendered(self, handle: str, secret: str | None) -> dict[str, Any]:
        """What a gateway reads; `secret` is the handle of the stored credential."""
        transformer = {} if self.transformer is None else {"transformer": self.transformer.content()}
        return super().rendered(handle, secret) | transformer

    def _alias(self) -> dict[str, Any]:
        return {} if self.as_ is None else {"as": self.as_}


class LlmProxy(LlmArtifact):
    """An LLM provider under another path, with policies of its own."""

    kind: ClassVar[Kind] = Kind.LLM_PROXY

    provider: ProviderUse
    additional_providers: tuple[AdditionalProvider, ...] = ()

    def broken_rules(self) -> Iterator[Broken]:
        """The rules of LLM kinds, and that providers are distinguishable."""
        yield from super().broken_rules()
        ids, aliases = {self.provider.id}, set[str | None]()
        for index, each in enumerate(self.additional_providers):
            if each.id in ids:
                yield Broken("be different from the other providers", ("additionalProviders", index, "id"))
            if each.as_ is not None and each.as_ in aliases:
                yield Broken("be different from the other names", ("additionalProviders", index, "as"))
            ids.add(each.id)
            aliases.add(each.as_)

    def with_providers(self, ids: Mapping[str, str]) -> Self:
        """The same with the ids of providers in the place of handles.

        Raises:
            InvalidDocument: it names one of them twice.
        """

        def named(use: U) -> U:
            return use.model_copy(update={"id": ids.get(use.id, use.id)})

        others = tuple(map(named, self.additional_providers))
        update = {"provider": named(self.provider)} | ({"additional_providers": others} if others else {})
        document = self.model_copy(update=update)
        if len({document.provider.id, *(each.id for each in others)}) <= len(others):
            raise InvalidDocument(
                "additionalProviders", sorted(ids), "name each provider once, by its id or its handle"
            )
        return document

    def auths(self) -> Iterator[tuple[str, Auth]]:
        """The primary provider's, then the others'."""
        if self.provider.auth is not None:
            yield _PRIMARY, self.provider.auth
        for each in self.additional_providers:
            if each.auth is not None:
                yield each.place, each.auth

    def masked(self) -> Self:
        """The same without credentials."""
        if not self.additional_providers:
            return self.model_copy(update={"provider": self.provider.masked()})
        others = tuple(each.masked() for each in self.additional_providers)
        return self.model_copy(update={"provider": self.provider.masked(), "additional_providers": others})

    def specification(self, surroundings: Surroundings) -> dict[str, Any]:
        """`spec`, with handles of providers in the place of ids."""
        credentials, primary = surroundings.credentials, surroundings.provider
        if primary is None:
            raise InvalidDocument("provider", primary, "be known when a proxy is rendered")
        handles = {each.id: surroundings.additional[each.id].handle for each in self.additional_providers}
        self._check_names(primary.handle, handles)
        return {
            **self.heading(),
            "provider": self.provider.rendered(primary.handle, credentials.get(_PRIMARY)),
            "additionalProviders": [
                each.rendered(handles[each.id], credentials.get(each.place)) for each in self.additional_providers
            ],
            **self.policy_lists(),
        }

    def _check_names(self, primary: str, handles: dict[str, str]) -> None:
        """Names are handles unless there is an alias, so only with the handles can they be compared."""
        names = {primary}
        for each in self.additional_providers:
            name = each.as_ or handles[each.id]
            if name in names:
                raise InvalidDocument("additionalProviders", name, "have different names, which are handles or `as`")
            names.add(name)

    def policies_needed(self, providers: Iterable[ProviderReference]) -> Iterator[PolicyReference]:
        """What a gateway must offer."""
        yield SET_HEADERS
        if any(each.vhost is not None for each in providers):
            yield HOST_REWRITE
        yield from self.named_policies()
