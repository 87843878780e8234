"""What a gateway says of deployments, on its way from the socket to the control plane."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gatecast.controlplane.acknowledgements import Acknowledgement
from gatecast.controlplane.clock import milliseconds
from gatecast.controlplane.gateway_tokens import GatewayIdentity
from gatecast.controlplane.resources import Resources
from gatecast.errors import NotFound, StorageError
from gatecast.protocol.messages import DeploymentAck
from gatecast.server.gateway_socket import Observer

#: A gateway has read its keys so long after it connected, also when it had to fetch much before; in seconds.
KEY_LOOKS = (40.0, 300.0)

#: Clocks of pods differ by less; in milliseconds.
_CLOCKS_APART = 10_000


class DeploymentObserver(Observer):
    """Moves deployments by what a gateway acknowledges, and looks after what it does not acknowledge.

    When it has handled what waited for it as it connected, what was stale for it is published anew.
    """

    def __init__(
        self, resources: Resources, identity: GatewayIdentity, backlog_end: int | None, *, reads_keys: bool
    ) -> None:
        self._resources = resources
        self._reads_keys = reads_keys
        self._identity = identity
        self._backlog_end = backlog_end
        self._backlog_handled = asyncio.Event()
        self._began_at = milliseconds() - _CLOCKS_APART

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
        )
        self._resources.acknowledgements.report(acknowledgement)

    def confirmed(self, offset: int) -> None:
        """Note how far the gateway is."""
        if self._backlog_end is not None and offset >= self._backlog_end:
            self._backlog_handled.set()

    async def watch(self) -> None:
        """Look after it until cancelled, or for a few minutes."""
        async with asyncio.TaskGroup() as watching:
            watching.create_task(self._watch_backlog())
            if self._reads_keys:
                watching.create_task(self._watch_keys())

    async def _watch_keys(self) -> None:
        """What changed of keys while it was reading them is told once it has done so, soon or late."""
        identity = self._identity
        for pause in KEY_LOOKS:
            await asyncio.sleep(pause)
            with suppress(StorageError, NotFound):
                await self._resources.desired_state.publish_late_keys(
                    identity.organization, identity.gateway_id, self._began_at
                )

    async def _watch_backlog(self) -> None:
        """Wait for the end of the backlog, and look once."""
        if self._backlog_end is None:
            return
        await self._backlog_handled.wait()
        identity = self._identity
        with suppress(StorageError, NotFound):
            # What the gateway said came before what it confirmed, and is stored first.
            await self._resources.acknowledgements.flush()
            await self._resources.desired_state.publish_unanswered(
                identity.organization, identity.gateway_id, self._backlog_end
            )
