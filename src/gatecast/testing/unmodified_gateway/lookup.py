"""What a control plane would give a gateway now, asked beside the gateway itself (gateway-protocol.md 3.3, 3.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.testing.unmodified_gateway.artifact_kinds import ARTIFACT_KINDS
from gatecast.testing.unmodified_gateway.messages import Fields
from gatecast.testing.unmodified_gateway.packages import parse_document
from gatecast.testing.unmodified_gateway.rest_calls import RestCalls

_PATHS = {artifact_kind.kind: artifact_kind.path for artifact_kind in ARTIFACT_KINDS}


class Lookup:
    """Reads with the gateway's token, and changes nothing on either side.

    Raises (from every call): CallFailed, or Rejected, when there is no usable answer.
    """

    def __init__(self, calls: RestCalls) -> None:
        self._calls = calls

    async def document(self, kind: str, artifact_id: str) -> Mapping[str, Any]:
        """The document of the revision that should run."""
        return parse_document(await self._calls.document(_PATHS[kind], artifact_id))

    async def secrets(self) -> dict[str, str]:
        """Values by handle."""
        listed = Fields(await self._calls.get("/secrets", includeValues="true")).items("list")
        return {item.text("handle"): item.text("value") for item in listed}
