"""Moves deployments by what gateways acknowledge."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from gatecast.containment import RetryLoop, concerns_everyone, log_failure, refused_in_halves
from gatecast.controlplane.change import begin_change
from gatecast.controlplane.gateways import QUERIES
from gatecast.controlplane.placements import (
    PLACEMENTS,
    DeploymentState,
    Desired,
    placement_of,
    tell_again,
)
from gatecast.errors import NotFound
from gatecast.hub import EventHub
from gatecast.storage.contract import Transaction
from gatecast.telemetry import get_logger, metrics
from gatecast.waiting import Backoff, Signal

#: Most acknowledgements that wait to be stored. The oldest go first: what was published and is not acknowledged is
#: published once more when its gateway connects again.
MAX_WAITING = 10_000

_BATCH = 200

#: What a gateway says when it was asked to undeploy another deployment than it has.
_MISMATCH = "DEPLOYMENT_ID_MISMATCH"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_logger = get_logger("acknowledgements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A `deployment.ack`, and who sent it."""

    organization: str
    gateway_id: str
    artifact_id: str
    #: Empty when the event named none.
    deployment_id: str
    #: Of the event, as an instant; None when it was not readable.
    performed_at: datetime | None
    #: True for a deploy, False for an undeploy.
    deployed: bool
    succeeded: bool
    error_code: str


class Acknowledgements:
    """Stores acknowledgements soon, in order, and keeps those that cannot be stored now.

    One counts only for the revision, and the very event of it, that it belongs to (scenario S36).
    """

    def __init__(self, hub: EventHub, *, backoff: Backoff | None = None) -> None:
        self._hub = hub
        #: Keeps the pod storing, and remembers why it does not.
        self.loop = RetryLoop(
            "acknowledgements-not-stored",
            "acknowledgements cannot be stored",
            backoff=backoff or Backoff(first=0.2, longest=5.0),
        )
        self._waiting: deque[Acknowledgement] = deque(maxlen=MAX_WAITING)
        #: Stored, and to be stored once more because something behind them failed.
        self._stored: list[Acknowledgement] = []
        self._signal = Signal()
        self._storing = asyncio.Lock()

    def report(self, acknowledgement: Acknowledgement) -> None:
        """Store this one soon."""
        self._waiting.append(acknowledgement)
        self._signal.set()

    async def run(self) -> None:
        """Store until cancelled."""
        await self.loop.run(self.flush, rest=self._signal.wait)

    async def flush(self) -> None:
        """Store what is waiting.

        Raises:
            StorageError: that is not possible now; what is not stored stays.
        """
        async with self._storing:
            await self._store_waiting()

    async def _store_waiting(self) -> None:
        while self._waiting:
            batch = list(self._waiting)[:_BATCH]
            for each, error in await refused_in_halves(batch, self._store):
                if error is not None and concerns_everyone(error):
                    raise error
                if error is not None:
                    log_failure("acknowledgement-refused", error, gateway=each.gateway_id, artifact=each.artifact_id)
                # Looked at before it goes: what does not fit any more has pushed older ones out already.
                if self._waiting and self._waiting[0] is each:
                    self._waiting.popleft()
            self._stored = []

    async def _store(self, batch: Sequence[Acknowledgement]) -> None:
        async with self._hub.storage.database.transaction() as transaction:
            # The same locks in the same order as changes take, so that no two wait for each other.
            for gateway_id, organization in sorted({(each.gateway_id, each.organization) for each in batch}):
                await transaction.execute(QUERIES["lock_gateway"], organization, gateway_id)
            ignored = [each for each in batch if not await _apply(transaction, each)]
        self._note_ignored(ignored)
        self._stored += batch
        # Before they go: when this fails, both are done again, and change nothing that is done already.
        for each in batch:
            await self._undeploy_whatever_runs(each)

    def _note_ignored(self, ignored: Sequence[Acknowledgement]) -> None:
        """Say which ones moved nothing, once: they are late, repeated, or speak of what is not there."""
        for each in ignored:
            if any(each is stored for stored in self._stored):
                continue
            metrics.acknowledgement_ignored()
            _logger.info(
                "acknowledgement-ignored",
                gateway=each.gateway_id,
                artifact=each.artifact_id,
                deployment=each.deployment_id,
                performed_at=each.performed_at.isoformat() if each.performed_at else None,
            )

    async def _undeploy_whatever_runs(self, acknowledgement: Acknowledgement) -> None:
        """A gateway that has another deployment than it said is asked to undeploy without naming one."""
        if acknowledgement.deployed or acknowledgement.error_code != _MISMATCH or not acknowledgement.deployment_id:
            return
        ids = (acknowledgement.artifact_id, acknowledgement.gateway_id)
        try:
            async with begin_change(self._hub) as change:
                await change.lock_gateways(acknowledgement.organization, [acknowledgement.gateway_id])
                row = await change.transaction.fetch_one(PLACEMENTS["placement"], *ids)
                if row is None or row["performed_at"] != _milliseconds(acknowledgement.performed_at):
                    return
                placement = replace(placement_of(row), held="")
                if placement.desired is Desired.UNDEPLOYED:
                    await tell_again(change, placement, acknowledgement.organization, [])
        except NotFound:
            _logger.info("gateway-deleted", gateway=acknowledgement.gateway_id)


async def _apply(transaction: Transaction, ack: Acknowledgement) -> bool:
    """Whether it moved anything."""
    performed_at = _milliseconds(ack.performed_at)
    row = await transaction.fetch_one(PLACEMENTS["placement"], ack.artifact_id, ack.gateway_id)
    if row is None or performed_at is None:
        return False
    deployment_id = ack.deployment_id or row["deployment_id"]
    state, reason, awaited = _outcome(ack)
    moved = await transaction.execute(
        PLACEMENTS["acknowledge"], deployment_id, ack.artifact_id, ack.gateway_id, performed_at, state, reason, *awaited
    )
    if moved and ack.succeeded:
        await transaction.execute(
            PLACEMENTS["note_held"], ack.artifact_id, ack.gateway_id, performed_at, ack.deployment_id
        )
    return bool(moved)


def _outcome(ack: Acknowledgement) -> tuple[DeploymentState, str, tuple[DeploymentState, DeploymentState]]:
    """The state that it leads to, the reason, and the states in which it counts.

    Of several replicas' words a failure counts more, so it may come behind a success.
    """
    waiting, done = (
        (DeploymentState.PENDING, DeploymentState.DEPLOYED)
        if ack.deployed
        else (DeploymentState.UNDEPLOYING, DeploymentState.UNDEPLOYED)
    )
    if ack.succeeded:
        return done, "", (waiting, waiting)
    return DeploymentState.FAILED, ack.error_code or "the gateway gave no reason", (waiting, done)


def _milliseconds(moment: datetime | None) -> int | None:
    """Compared as instants: gateways write times differently (gateway-protocol.md 1.9)."""
    return None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)
