"""Passes a gateway's reports about deployments from its socket to the control plane."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from gatecast.containment import contained
from gatecast.controlplane.access.gateway_tokens import GatewayIdentity
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.deployments.artifact_events import revoked_by
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgement
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.delivery.subscription import Subscription
from gatecast.errors import NotFound, SecretKeyMissing, UnknownGateway
from gatecast.events import RecordedEvent
from gatecast.protocol.messages import DeploymentAck
from gatecast.server.gateway_api.gateway_socket import Observer
from gatecast.server.gateway_api.holding import Watch
from gatecast.server.gateway_api.persistence import persistently
from gatecast.telemetry import get_logger

#: Seconds after the connect by which a gateway has read its keys, even if it had to fetch much before. Replicas of one
#: gateway cannot be told apart, so a list may be read while no connection is held.
KEY_LOOKS = (5.0, 35.0, 300.0)

#: Clocks of pods differ by less; in milliseconds.
_CLOCKS_APART = 10_000

_logger = get_logger("deployments")


class DeploymentObserver(Observer):
    """Moves deployments by what a gateway acknowledges, and brings an unmodified one up to date."""

    def __init__(
        self,
        control_plane: ControlPlane,
        identity: GatewayIdentity,
        subscription: Subscription,
        watch: Watch | None = None,
    ) -> None:
        self._control_plane = control_plane
        self._identity = identity
        self._subscription = subscription
        self._start = subscription.start
        #: None for a client that makes no start-up calls.
        self._watch = watch
        self._settled = False
        self._confirmed = self._start.position.offset
        self._backlog_end = 0
        #: Set once that is confirmed; while something waits only.
        self._backlog_handled: asyncio.Event | None = None
        #: The sent revocations of keys that still need work, by offset.
        self._revocations: dict[int, tuple[str, str]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._began_at = milliseconds() - _CLOCKS_APART

    def close(self) -> None:
        """The connection has ended: what it did for keys ends, too, and is done after the next connect."""
        if self._renewing is not None:
            self._renewing.cancel()

    @property
    def holds(self) -> bool:
        """True while the gateway synchronizes, and until what it still lacks is published.

        A later failure has its own answer.
        """
        return self._watch is not None and (self._watch.holds or (self._watch.synchronizes and not self._settled))

    def acknowledged(self, ack: DeploymentAck) -> None:
        """Store it soon."""
        acknowledgement = Acknowledgement(
            organization=self._identity.organization,
            gateway_id=self._identity.gateway_id,
            artifact_id=ack.artifact_id,
            deployment_id=ack.deployment_id,
            performed_at=ack.performed_at,
            deployed=ack.action == "deploy",
            succeeded=ack.succeeded,
            error_code=ack.error_code,
            resource_type=ack.resource_type,
        )
        self._control_plane.acknowledgements.report(acknowledgement)

    def confirmed(self, offset: int) -> None:
        """Note how far the gateway is."""
        self._confirmed = offset
        if self._backlog_handled is not None and offset >= self._backlog_end:
            self._backlog_handled.set()
        if self._revocations and self._renewing is None and next(iter(self._revocations)) <= offset:
            self._renewing = asyncio.create_task(self._outlive_revocations(), name="outlive-revocations")

    def sent(self, events: Sequence[RecordedEvent]) -> None:
        """Keep in mind which of them revoke keys: no stored position passes them before that is done."""
        if self._watch is not None:
            for event in events:
                if (revoked := revoked_by(event)) is not None:
                    self._revocations[event.offset] = revoked
                    self._subscription.set_aside(event.offset)

    async def reconcile_when_read(self, resynchronized: Callable[[], Awaitable[None]]) -> None:
        """Publish what the gateway needs beyond the events that wait for it, until cancelled, or for a few minutes.

        `resynchronized` is awaited once everything that the control plane knows was republished to a gateway with a
        lost position. Until then it must resynchronize, so a connection that breaks earlier does no harm. If it lost
        foreign events as well, that stays so until an operator declares them recovered.
        """
        async with asyncio.TaskGroup() as tasks:
            if self._watch is not None and self._start.lost is not None:
                # What was lost is published meanwhile. Every other connection does with a task less.
                tasks.create_task(self._watch.run())
            tasks.create_task(self._bring_up_to_date(resynchronized))
            await self._watch_keys()

    async def _bring_up_to_date(self, resynchronized: Callable[[], Awaitable[None]]) -> None:
        # A permanent failure, such as a missing secret key, does not end the other work for the gateway.
        with (
            contained("gateway-not-brought-up-to-date", gateway=self._identity.gateway_id),
            suppress(NotFound, UnknownGateway),
        ):
            try:
                if self._start.lost is not None:
                    await self._recover(self._start.lost)
                    await persistently(resynchronized)
                await self._settle_what_was_read()
            finally:
                # Events that waited go out now.
                self._settled = True
                self._subscription.changed.set()
            await self._publish_unanswered()

    async def _recover(self, lost: str) -> None:
        """Publish everything that the control plane can, and keep in mind when that was not everything."""
        ids = (self._identity.organization, self._identity.gateway_id)
        await persistently(lambda: self._control_plane.desired_state.lost(*ids, lost))
        if await persistently(lambda: self._control_plane.foreign_events.note(self._identity.gateway_id, lost)):
            _logger.error(
                "resync-needed",
                gateway=self._identity.gateway_id,
                reason=lost,
                because="foreign events were lost as well",
            )

    async def _settle_what_was_read(self) -> None:
        """Publish what the gateway still lacks after it has read its lists."""
        ids, control_plane = (self._identity.organization, self._identity.gateway_id), self._control_plane
        if self._watch is not None:
            await (self._watch.run() if self._start.lost is None else asyncio.wait([self._watch.over]))
        # The gateway's reports came before its confirmations, and are stored first.
        await persistently(control_plane.acknowledgements.flush)
        if self._watch is not None and self._watch.synchronizes:
            seen = await persistently(lambda: control_plane.synchronizations.of_gateway(self._identity.gateway_id))
            alone = seen is not None and self._watch.is_alone(seen)
            await persistently(lambda: control_plane.desired_state.read_lists(*ids, seen, alone=alone))

    async def _publish_unanswered(self) -> None:
        """Now, and once more when what waits for the gateway is handled: it may have been stale for it."""
        ids, desired_state = (self._identity.organization, self._identity.gateway_id), self._control_plane.desired_state
        handled = self._confirmed
        end = await persistently(lambda: desired_state.answered_nothing(*ids, handled))
        if end is None:
            return
        self._backlog_end, self._backlog_handled = end, asyncio.Event()
        self.confirmed(self._confirmed)
        await self._backlog_handled.wait()
        await persistently(self._control_plane.acknowledgements.flush)
        await persistently(lambda: desired_state.answered_nothing(*ids, end))

    async def _watch_keys(self) -> None:
        """Republish changes of keys made while it reads its keys."""
        ids = (self._identity.organization, self._identity.gateway_id)
        for pause in KEY_LOOKS:
            await asyncio.sleep(pause)
            with contained("keys-not-looked-at"), suppress(NotFound, UnknownGateway):
                await self._control_plane.desired_state.look_again(*ids, self._began_at)

    async def _outlive_revocations(self) -> None:
        """Keys outlive the revocations of their namesakes that the gateway has handled.

        Only then is it known that what follows comes later, because replicas share what they have: 1. a fast one
        handles a revocation and everything after it, 2. a slow one handles the revocation, which takes the new key
        away, 3. what follows is not newer than what the fast one has stored.
        """
        ids, keys = (self._identity.organization, self._identity.gateway_id), self._control_plane.keys
        while handled := [offset for offset in self._revocations if offset <= self._confirmed]:
            revoked = {self._revocations[offset] for offset in handled}
            # A pod that lacks the key to what is stored leaves it to the others.
            with suppress(NotFound, UnknownGateway, SecretKeyMissing):
                await persistently(lambda: keys.outlive_revocations(*ids, revoked))  # noqa: B023 - awaited at once
            for offset in handled:
                del self._revocations[offset]
                self._subscription.settled(offset)
        self._renewing = None
