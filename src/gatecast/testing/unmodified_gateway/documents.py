"""Where the handlers get documents from: the control plane, or nowhere (gateway-protocol.md 2.2, 3.3, 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.testing.unmodified_gateway.artifact_kinds import ArtifactKind
from gatecast.testing.unmodified_gateway.packages import parse_document, referenced_secrets
from gatecast.testing.unmodified_gateway.rest_calls import CallFailed, RestCalls
from gatecast.testing.unmodified_gateway.secrets_cache import SecretsCache
from gatecast.testing.unmodified_gateway.world import Controls
from gatecast.testing.unmodified_gateway.yaml_values import Rejected


class NoDownloads:
    """For a gateway that does not follow artifacts: it only takes the time that the test says."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    async def document(self, _artifact_kind: ArtifactKind, artifact_id: str) -> Mapping[str, Any] | None:
        """None, after the test's delay."""
        await self._controls.before_download(artifact_id)
        return None


class ArtifactDownloads:
    """Documents from the control plane, with the secrets that they ask for."""

    def __init__(self, calls: RestCalls, secrets: SecretsCache, controls: Controls) -> None:
        self._calls = calls
        self._secrets = secrets
        self._controls = controls

    async def document(self, artifact_kind: ArtifactKind, artifact_id: str) -> Mapping[str, Any] | None:
        """The artifact's document, after the secrets that it asks for; Rejected when it cannot be had."""
        await self._controls.before_download(artifact_id)
        try:
            text = await self._calls.document(artifact_kind.path, artifact_id)
        except CallFailed as problem:
            raise Rejected(str(problem)) from problem
        await self._secrets.fetch_missing(referenced_secrets(text))
        return parse_document(text)
