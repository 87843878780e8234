"""What the gateway does with each event, one after another (gateway-protocol.md 2.2 to 2.9)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from gatecast.testing.clock import Clock
from gatecast.testing.unmodified_gateway.api_keys import Dropped
from gatecast.testing.unmodified_gateway.artifact_kinds import API, BY_RESOURCE_TYPE, MCP_PROXY, ArtifactKind
from gatecast.testing.unmodified_gateway.artifacts import DEPLOYED, UNDEPLOYED, Artifact
from gatecast.testing.unmodified_gateway.instants import GoInstant, cut_to_milliseconds
from gatecast.testing.unmodified_gateway.messages import (
    DEPLOYMENT_ID_MISMATCH,
    PROCESSING_ERROR,
    DeploymentAck,
    Event,
)
from gatecast.testing.unmodified_gateway.subscriptions import plan_from, subscription_from
from gatecast.testing.unmodified_gateway.world import World
from gatecast.testing.unmodified_gateway.yaml_values import Rejected

#: What an event that says nothing about its success is handled by.
Silent: TypeAlias = Callable[[Event], None]

#: Events of every artifact kind but APIs have the resource type's name as their prefix.
_VERBS = ("deployed", "undeployed", "deleted")


class Downloads(Protocol):
    """Where documents come from."""

    async def document(self, artifact_kind: ArtifactKind, artifact_id: str) -> Mapping[str, Any] | None:
        """The artifact's YAML document; None when the gateway does not follow artifacts; Rejected when it fails."""


class EventHandlers:
    """Applies events to the database."""

    def __init__(self, world: World, downloads: Downloads) -> None:
        self._world = world
        self._database = world.database
        self._clock = world.options.clock
        self._downloads = downloads
        self._silent = self._silent_handlers()

    def knows(self, event_type: str) -> bool:
        """False for types that the gateway skips."""
        prefix, _, verb = event_type.rpartition(".")
        return event_type in self._silent or (prefix in BY_RESOURCE_TYPE and verb in _VERBS)

    async def handle(self, event: Event) -> DeploymentAck | None:
        """Apply a known event; returns what to tell the control plane, if anything.

        Raises:
            Unparsable: a field cannot be read; nothing was changed.
            Dropped: the event has no effect.
        """
        silent = self._silent.get(event.type)
        if silent is not None:
            silent(event)
            return None
        prefix, _, verb = event.type.rpartition(".")
        artifact_kind = BY_RESOURCE_TYPE[prefix]
        if verb == "deleted":
            self._delete(artifact_kind, event)
            return None
        return await self._deploy_or_undeploy(artifact_kind, event, deploys=verb == "deployed")

    async def _deploy_or_undeploy(
        self, artifact_kind: ArtifactKind, event: Event, *, deploys: bool
    ) -> DeploymentAck | None:
        change = _Change(artifact_kind, event, deploys=deploys)
        if not change.artifact_id:
            return None
        apply = self._deploy if deploys else self._undeploy
        return await self._acknowledged(change, apply)

    async def _acknowledged(self, change: _Change, apply: Callable[[_Change], Awaitable[bool]]) -> DeploymentAck | None:
        """The acknowledgement of what `apply` did; none when the change was stale."""
        try:
            self._fail_as_planned()
            written = await apply(change)
        except _OtherDeployment:
            return change.acknowledge(DEPLOYMENT_ID_MISMATCH)
        except Rejected as problem:
            self._world.records.note(f"{change.artifact_id} not applied: {problem}")
            return change.acknowledge(PROCESSING_ERROR)
        return change.acknowledge() if written else None

    def _fail_as_planned(self) -> None:
        planned = self._world.controls.planned_failures
        if planned:
            raise Rejected(planned.popleft())

    async def _deploy(self, change: _Change) -> bool:
        if not change.deployment_id:
            raise Rejected("deploymentId is empty")
        document = await self._downloads.document(change.artifact_kind, change.artifact_id)
        artifacts = self._database.artifacts
        seen = change.artifact_id in artifacts.stored
        artifact = Artifact(
            kind=change.artifact_kind.kind,
            state=DEPLOYED,
            deployment_id=change.deployment_id,
            performed_at=change.moment(self._clock),
            document=document,
        )
        completed = artifacts.completed(change.artifact_id, artifact)
        await self._world.step(f"store {change.artifact_id}")
        return artifacts.insert(change.artifact_id, completed, event_id=change.event_id, seen=seen)

    async def _undeploy(self, change: _Change) -> bool:
        artifacts = self._database.artifacts
        present = artifacts.stored.get(change.artifact_id)
        if present is None:
            return True
        if change.deployment_id and present.deployment_id and change.deployment_id != present.deployment_id:
            raise _OtherDeployment
        fields = {
            "state": UNDEPLOYED,
            "deployment_id": change.deployment_id,
            "performed_at": change.moment(self._clock),
        }
        return artifacts.change_state(change.artifact_id, fields, event_id=change.event_id)

    def _delete(self, artifact_kind: ArtifactKind, event: Event) -> None:
        artifact_id = event.payload.text(artifact_kind.id_field)
        if not artifact_id:
            raise Dropped(f"{artifact_kind.id_field} is missing")
        present = self._database.artifacts.stored.get(artifact_id)
        if artifact_kind is MCP_PROXY and (present is None or present.kind != artifact_kind.kind):
            raise Dropped("the artifact is not here")
        if not self._database.delete_artifact(artifact_id, kind=artifact_kind.kind, event_id=event.event_id):
            raise Dropped("a proxy refers to the provider")

    def _silent_handlers(self) -> dict[str, Silent]:
        subscriptions = self._database.subscriptions
        return {
            "apikey.created": self._key_created,
            "apikey.updated": self._key_updated,
            "apikey.revoked": self._key_revoked,
            "subscription.created": self._subscription_created,
            "subscription.updated": lambda event: subscriptions.update(
                event.payload.text("subscriptionId"), event.payload
            ),
            "subscription.deleted": lambda event: subscriptions.delete(event.payload.text("subscriptionId")),
            "subscriptionPlan.created": lambda event: subscriptions.save_plan(
                event.payload.text("planId"), plan_from(event.payload)
            ),
            "subscriptionPlan.updated": lambda event: subscriptions.update_plan(
                event.payload.text("planId"), event.payload
            ),
            "subscriptionPlan.deleted": lambda event: subscriptions.delete_plan(event.payload.text("planId")),
            "application.updated": self._application_updated,
        }

    def _key_created(self, event: Event) -> None:
        handle = self._known_artifact(event).handle
        self._database.keys.created(event, handle=handle, now=self._clock.now())

    def _key_updated(self, event: Event) -> None:
        self._known_artifact(event)
        self._database.keys.updated(event, now=self._clock.now())

    def _key_revoked(self, event: Event) -> None:
        self._known_artifact(event)
        self._database.keys.revoked(event)

    def _known_artifact(self, event: Event) -> Artifact:
        artifact = self._database.artifacts.stored.get(event.payload.text("apiId"))
        if artifact is None:
            raise Dropped("the artifact is not here")
        return artifact

    def _subscription_created(self, event: Event) -> None:
        payload = event.payload
        subscription = subscription_from(payload, api_id=payload.text(API.id_field))
        self._database.subscriptions.save(payload.text("subscriptionId"), subscription)

    def _application_updated(self, event: Event) -> None:
        known = {key.uuid for key in self._database.keys.stored.values()}
        self._database.subscriptions.map_application(event.payload, known_keys=known)


class _OtherDeployment(Rejected):
    """The undeploy names another deployment than the one that is here."""


class _Change:
    """One deploy or undeploy, read completely before anything is done."""

    def __init__(self, artifact_kind: ArtifactKind, event: Event, *, deploys: bool) -> None:
        self.artifact_kind = artifact_kind
        self.event_id = event.event_id
        self.artifact_id = event.payload.text(artifact_kind.id_field)
        self.deployment_id = event.payload.text("deploymentId")
        self._performed_at: GoInstant | None = event.payload.instant("performedAt")
        self._action = "deploy" if deploys else "undeploy"

    def moment(self, clock: Clock) -> datetime:
        return self._performed_at.moment if self._performed_at else cut_to_milliseconds(clock.now())

    def acknowledge(self, error_code: str | None = None) -> DeploymentAck:
        return DeploymentAck(
            deployment_id=self.deployment_id,
            artifact_id=self.artifact_id,
            resource_type=self.artifact_kind.resource_type,
            action=self._action,
            performed_at=self._performed_at,
            error_code=error_code,
        )
