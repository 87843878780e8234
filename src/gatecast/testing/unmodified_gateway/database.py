"""The gateway's own database: what survives a restart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gatecast.testing.unmodified_gateway.api_keys import ApiKeys
from gatecast.testing.unmodified_gateway.artifacts import Artifacts
from gatecast.testing.unmodified_gateway.subscriptions import Subscriptions


class Database:
    """Artifacts, keys, subscriptions and secrets."""

    def __init__(self, policies: Sequence[Mapping[str, Any]]) -> None:
        self.artifacts = Artifacts(policies)
        self.keys = ApiKeys()
        self.subscriptions = Subscriptions()
        #: Plain values by handle; never removed (section 3.5).
        self.secrets: dict[str, str] = {}

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
