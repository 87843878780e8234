"""Gateway-owned artifacts, and their announcement to the control plane (gateway-protocol.md 3.7, 4.7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from gatecast.testing.unmodified_gateway.artifact_kinds import (
    API,
    BUILT_IN_TEMPLATES,
    LLM_PROVIDER,
    LLM_PROVIDER_TEMPLATE,
    LLM_PROXY,
    MCP_PROXY,
)
from gatecast.testing.unmodified_gateway.yaml_values import demand, mapping_of, text_of

#: Kinds in the order in which they are announced.
_ORDER: Final = (LLM_PROVIDER_TEMPLATE, LLM_PROVIDER.kind, LLM_PROXY.kind, MCP_PROXY.kind, API.kind)

#: Kinds that belong to a project: without one they are not announced.
_PROJECT_SCOPED: Final = (LLM_PROXY.kind, MCP_PROXY.kind, API.kind)

#: When the image with its templates was built.
_IMAGE_BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnArtifact:
    """One artifact or template of the gateway itself."""

    #: The gateway's id of it.
    local_id: str
    #: Its document.
    configuration: Mapping[str, Any]
    #: `deployed`; `undeployed` once it was removed.
    status: str
    created_at: datetime
    updated_at: datetime
    #: The control plane's id of it; empty until it has taken it.
    control_plane_id: str = ""

    @property
    def kind(self) -> str:
        """Its kind."""
        return text_of(self.configuration, "kind")

    @property
    def handle(self) -> str:
        """Its name."""
        return text_of(mapping_of(self.configuration, "metadata"), "name")

    @property
    def is_announced(self) -> bool:
        """False for what belongs to a project and does not say to which."""
        metadata = mapping_of(self.configuration, "metadata")
        project = (
            mapping_of(metadata, "annotations").get("gateway.api-platform.wso2.com/project-id"),
            mapping_of(metadata, "labels").get("project-id"),
        )
        return self.kind not in _PROJECT_SCOPED or any(project)

    def entry(self) -> dict[str, Any]:
        """What is said of it."""
        entry = {
            "dpid": self.local_id,
            "configuration": self.configuration,
            "status": self.status,
            "createdAt": _written(self.created_at),
            "updatedAt": _written(self.updated_at),
        }
        return entry | ({"deployedAt": _written(self.created_at)} if self.status == "deployed" else {})


class OwnArtifacts:
    """Templates and artifacts of the gateway itself, by its own ids; a removed one stays until that was announced."""

    def __init__(self, templates: Iterable[str] = ()) -> None:
        self._delivered = (*BUILT_IN_TEMPLATES, *templates)
        #: All of them, the removed ones too.
        self.stored: dict[str, OwnArtifact] = {}
        self.deliver()

    def deliver(self) -> None:
        """Store what comes with the gateway and is not there: a process has started."""
        for handle in self._delivered:
            if handle not in self._stored_templates:
                made = _template(handle)
                self.stored[made.local_id] = made

    def lose(self) -> None:
        """Forget everything; what comes with the gateway stays in the memory of its process."""
        self.stored.clear()

    @property
    def templates(self) -> frozenset[str]:
        """Handles of the templates that providers may use."""
        return self._stored_templates | frozenset(self._delivered)

    @property
    def _stored_templates(self) -> frozenset[str]:
        templates = (each for each in self.stored.values() if each.kind == LLM_PROVIDER_TEMPLATE)
        return frozenset(each.handle for each in templates if each.status == "deployed")

    def check_template(self, configuration: Mapping[str, Any]) -> None:
        """Refuse a template that cannot be added.

        Raises:
            Rejected: it has no name, or one that is taken.
        """
        handle = text_of(mapping_of(configuration, "metadata"), "name")
        demand(bool(text_of(mapping_of(configuration, "spec"), "displayName")), "displayName is missing")
        demand(bool(handle) and handle not in self.templates, f"template {handle!r} has no name, or is here already")

    def keep(self, local_id: str, configuration: Mapping[str, Any], *, now: datetime) -> None:
        """Remember what was made."""
        self.stored[local_id] = OwnArtifact(
            local_id=local_id, configuration=configuration, status="deployed", created_at=now, updated_at=now
        )

    def end(self, local_id: str, *, now: datetime) -> None:
        """Remember that it was removed."""
        self.stored[local_id] = replace(self.stored[local_id], status="undeployed", updated_at=now)

    def announced(self, only: str | None = None) -> list[dict[str, Any]]:
        """What an import says, of everything or of one of them, in the order of kinds."""
        chosen = [each for each in self.stored.values() if each.is_announced and only in (None, each.local_id)]
        return [each.entry() for each in sorted(chosen, key=lambda each: _ORDER.index(each.kind))]

    def taken(self, entries: Iterable[Mapping[str, Any]], ids: Mapping[str, str]) -> None:
        """Note which of the entries of an import the control plane took, and its ids of them.

        What it refused, or says nothing of, stays to be announced again.
        """
        for entry in entries:
            local_id, present = entry["dpid"], self.stored.get(entry["dpid"])
            if present is None or local_id not in ids:
                continue
            if entry["status"] == "undeployed":
                del self.stored[local_id]
            else:
                self.stored[local_id] = replace(present, control_plane_id=ids[local_id])


def template(handle: str) -> dict[str, Any]:
    """A template with nothing but a name."""
    return {
        "apiVersion": "gateway.api-platform.wso2.com/v1",
        "kind": LLM_PROVIDER_TEMPLATE,
        "metadata": {"name": handle},
        "spec": {"displayName": handle},
    }


def _template(handle: str) -> OwnArtifact:
    return OwnArtifact(
        local_id=str(uuid4()),
        configuration=template(handle),
        status="deployed",
        created_at=_IMAGE_BUILT_AT,
        updated_at=_IMAGE_BUILT_AT,
    )


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
