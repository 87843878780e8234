"""The gateway's own database: what survives a restart."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from gatecast.testing.unmodified_gateway.api_keys import ApiKeys
from gatecast.testing.unmodified_gateway.artifact_kinds import ARTIFACT_KINDS, LLM_PROVIDER_TEMPLATE
from gatecast.testing.unmodified_gateway.artifacts import DEPLOYED, GATEWAY, Artifact, Artifacts
from gatecast.testing.unmodified_gateway.instants import cut_to_milliseconds
from gatecast.testing.unmodified_gateway.options import GatewayOptions
from gatecast.testing.unmodified_gateway.own_artifacts import OwnArtifacts
from gatecast.testing.unmodified_gateway.subscriptions import Subscriptions
from gatecast.testing.unmodified_gateway.yaml_values import demand, text_of


class Database:
    """Artifacts, keys, subscriptions and secrets."""

    def __init__(self, options: GatewayOptions) -> None:
        #: Plain values by handle; never removed (section 3.5).
        self.secrets: dict[str, str] = {}
        self.own = OwnArtifacts(options.templates)
        self.artifacts = Artifacts(options.policies, self.own, self.secrets)
        self.keys = ApiKeys()
        self.subscriptions = Subscriptions()

    def delete_artifact(self, artifact_id: str, *, kind: str, event_id: str) -> bool:
        """Remove the keys and subscriptions of this id, then the artifact itself if it is of this kind.

        False for a provider that a proxy still refers to: it stays, and its keys are gone (section 2.4).
        """
        self.keys.drop_artifact(artifact_id)
        self.subscriptions.drop_api(artifact_id)
        present = self.artifacts.stored.get(artifact_id)
        if present is not None and present.kind != kind:
            return True
        return self.artifacts.delete(artifact_id, event_id=event_id)

    def lose(self) -> None:
        """Forget everything; the next process stores the templates again that come with the gateway's image."""
        self.secrets.clear()
        self.artifacts.lose()
        self.keys.stored.clear()
        self.subscriptions.lose()
        self.own.lose()

    def make(self, configuration: Mapping[str, Any], *, now: datetime) -> str:
        """Add an artifact or a template of the gateway itself; return its id here.

        Raises:
            Rejected: this gateway cannot apply it.
        """
        local_id, kind = str(uuid4()), text_of(configuration, "kind")
        if kind == LLM_PROVIDER_TEMPLATE:
            self.own.check_template(configuration)
        else:
            demand(kind in {artifact_kind.kind for artifact_kind in ARTIFACT_KINDS}, f"unknown kind {kind!r}")
            made = Artifact(
                kind=kind,
                state=DEPLOYED,
                deployment_id="",
                performed_at=cut_to_milliseconds(now),
                document=configuration,
                origin=GATEWAY,
            )
            self.artifacts.save(local_id, self.artifacts.completed(local_id, made), event_id="")
        self.own.keep(local_id, configuration, now=now)
        return local_id

    def remove(self, local_id: str, *, now: datetime) -> None:
        """Remove what was made here.

        Raises:
            Rejected: a proxy still refers to it.
        """
        artifact = self.artifacts.stored.get(local_id)
        if artifact is not None:
            gone = self.delete_artifact(local_id, kind=artifact.kind, event_id="")
            demand(gone, "a proxy refers to the provider")
        self.own.end(local_id, now=now)
