"""The gateway's artifact table (gateway-protocol.md 2.1, 2.2, 2.4, 4.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from gatecast.testing.unmodified_gateway.artifact_kinds import LLM_PROVIDER, LLM_PROXY
from gatecast.testing.unmodified_gateway.credentials import credentials_of, inherited, rendered
from gatecast.testing.unmodified_gateway.document_rules import check_document, check_templating
from gatecast.testing.unmodified_gateway.instants import stored
from gatecast.testing.unmodified_gateway.own_artifacts import OwnArtifacts
from gatecast.testing.unmodified_gateway.policy_rules import check_loaded
from gatecast.testing.unmodified_gateway.transformation import Runtime
from gatecast.testing.unmodified_gateway.yaml_values import Rejected, demand, list_of, mapping_of

#: The artifact serves traffic.
DEPLOYED: Final = "deployed"

#: The artifact is kept but serves nothing.
UNDEPLOYED: Final = "undeployed"

#: The control plane sent the artifact.
CONTROL_PLANE: Final = "control-plane"

#: The artifact was made on the gateway itself.
GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One row of the gateway's database."""

    #: `RestApi`, `LlmProvider`, `LlmProxy` or `Mcp`.
    kind: str
    #: `deployed` or `undeployed`.
    state: str
    #: The deployment that was applied last.
    deployment_id: str
    #: When the control plane did it, by the control plane's clock, in milliseconds.
    performed_at: datetime
    #: The YAML document, with the credentials that it inherited; None when the gateway does not follow artifacts.
    document: Mapping[str, Any] | None = None
    #: What requests are given on their way, in the clear, by the place of the document that says so.
    credentials: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: `control-plane` or `gateway`.
    origin: str = CONTROL_PLANE

    @property
    def handle(self) -> str:
        """`metadata.name` of its document; empty when there is none."""
        return _handle(self.document or {})


class Artifacts:
    """What is stored, who serves it, and the ids of the changes that reached them."""

    def __init__(self, policies: Sequence[Mapping[str, Any]], own: OwnArtifacts, secrets: Mapping[str, str]) -> None:
        #: What the gateway's database holds, by artifact id.
        self.stored: dict[str, Artifact] = {}
        #: The runtimes that serve it: one for each replica of the gateway.
        self.runtimes: list[Runtime] = []
        self._policies = policies
        self._own = own
        self._secrets = secrets
        self._published: set[str] = set()

    def save(self, artifact_id: str, artifact: Artifact, *, event_id: str) -> bool:
        """Store the artifact; False when a newer or equally old one is here.

        The comparison is SQLite's, of texts, and strict.
        """
        present = self.stored.get(artifact_id)
        if present is not None and stored(artifact.performed_at) <= stored(present.performed_at):
            return False
        self.stored[artifact_id] = artifact
        self._publish(event_id, artifact_id, artifact)
        return True

    def change_state(self, artifact_id: str, change: Mapping[str, Any], *, event_id: str) -> bool:
        """Store the same artifact with some fields changed, under the same guard as `save`."""
        return self.save(artifact_id, replace(self.stored[artifact_id], **change), event_id=event_id)

    def delete(self, artifact_id: str, *, event_id: str) -> bool:
        """Remove the artifact; False for a provider that a proxy still refers to."""
        if self._is_referenced(artifact_id):
            return False
        self.stored.pop(artifact_id, None)
        self._publish(event_id, artifact_id, None)
        return True

    def insert(self, artifact_id: str, artifact: Artifact, *, event_id: str, seen: bool) -> bool:
        """Save what was checked a moment ago, when the artifact was `seen` here or not.

        Raises:
            Rejected: something has changed since: another replica inserted the artifact, which aborts this transaction
                (section 6), or a constraint of the database does not hold any more.
        """
        demand(seen or artifact_id not in self.stored or len(self.runtimes) == 1, "the transaction was aborted")
        self._check_constraints(artifact_id, artifact.kind, artifact.document)
        return self.save(artifact_id, artifact, event_id=event_id)

    def lose(self) -> None:
        """Forget everything; what runs goes on running."""
        self.stored.clear()
        self._published.clear()

    def of_kind(self, kind: str) -> Iterator[tuple[str, Artifact]]:
        """Id and row of each stored artifact of this kind."""
        return ((artifact_id, artifact) for artifact_id, artifact in self.stored.items() if artifact.kind == kind)

    def completed(self, artifact_id: str, artifact: Artifact) -> Artifact:
        """A new row for this id as it can be saved: with inherited credentials, rendered and checked, in this order.

        Raises:
            Rejected: a secret has no value, a rule of the kind does not hold, the handle, or display name and version,
                are taken, or a template or provider is not here.
        """
        if artifact.document is None:
            return artifact
        present = self.stored.get(artifact_id)
        document = inherited(artifact.kind, artifact.document, (present and present.document) or {})
        check_templating(document.get("spec"))
        applied = rendered(document, self._secrets)
        self._check(artifact_id, artifact.kind, applied)
        return replace(artifact, document=document, credentials=credentials_of(artifact.kind, applied))

    def _check(self, artifact_id: str, kind: str, document: Mapping[str, Any]) -> None:
        check_document(kind, document, self._policies, self._own.templates)
        self._check_constraints(artifact_id, kind, document)

    def _check_constraints(self, artifact_id: str, kind: str, document: Mapping[str, Any] | None) -> None:
        if document is None:
            return
        for other_id, other in self.of_kind(kind):
            if other_id != artifact_id and other.document is not None:
                _check_conflict(document, other.document)
        if kind == LLM_PROXY.kind:
            for handle in _providers_of(document):
                self._check_provider(handle)

    def _check_provider(self, handle: object) -> None:
        """Of a proxy; it does not matter whether the provider is deployed."""
        providers = {provider.handle: provider for _, provider in self.of_kind(LLM_PROVIDER.kind)}
        if handle not in providers:
            raise Rejected(f"unknown provider {handle!r}")
        if _specification(providers[str(handle)].document or {}).get("vhost"):
            check_loaded(("host-rewrite",), self._policies)

    def _is_referenced(self, artifact_id: str) -> bool:
        artifact = self.stored.get(artifact_id)
        if artifact is None or artifact.kind != LLM_PROVIDER.kind or not artifact.handle:
            return False
        proxies = self.of_kind(LLM_PROXY.kind)
        return any(artifact.handle in _providers_of(proxy.document or {}) for _, proxy in proxies)

    def _publish(self, event_id: str, artifact_id: str, artifact: Artifact | None) -> None:
        """Tell every runtime, unless the id repeats: the gateway takes that for something it already told."""
        if event_id in self._published:
            return
        if event_id:
            self._published.add(event_id)
        for runtime in self.runtimes:
            runtime.tell(artifact_id, artifact)


def _handle(document: Mapping[str, Any]) -> str:
    return str((document.get("metadata") or {}).get("name") or "")


def _specification(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return document.get("spec") or {}


def _providers_of(document: Mapping[str, Any]) -> list[object]:
    """Handles of the primary provider and of the others."""
    spec = _specification(document)
    return [each.get("id") for each in (mapping_of(spec, "provider"), *list_of(spec, "additionalProviders"))]


def _check_conflict(document: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    if _handle(document) == _handle(other):
        raise Rejected(f"handle {_handle(document)!r} is taken")
    mine, theirs = (
        (_specification(each).get("displayName"), _specification(each).get("version")) for each in (document, other)
    )
    if mine == theirs:
        raise Rejected(f"display name and version {mine} are taken")
