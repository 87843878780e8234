"""Changes the state of deployments when gateways acknowledge them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from gatecast.containment import RetryLoop, concerns_everyone, log_failure, refused_in_halves
from gatecast.controlplane.access.gateway_tokens import owner_of
from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS
from gatecast.controlplane.deployments.placements import DeploymentState, Known, find_known, store_known
from gatecast.controlplane.deployments.reconcile import Answer, Doubt, after_answer, after_our_failure
from gatecast.controlplane.gateway_sync.reconciliation import DesiredState, note_unknown
from gatecast.controlplane.transactions.locks import lock_gateway
from gatecast.errors import NotFound
from gatecast.hub import EventHub
from gatecast.storage.contract import Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.repeating import whole
from gatecast.telemetry import get_logger, metrics
from gatecast.waiting import Backoff, Signal

_QUERIES = Queries("gatecast.controlplane.gateway_sync", "acknowledgements.sql")

#: Most acknowledgements that wait to be stored. The oldest are dropped first: unacknowledged changes are republished
#: when their gateway reconnects.
MAX_WAITING = 10_000

_BATCH = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_BY_RESOURCE_TYPE = {artifact_kind.resource_type: artifact_kind for artifact_kind in ARTIFACT_KINDS}

_logger = get_logger("acknowledgements")


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledgement:
    """A `deployment.ack`, and who sent it."""

    organization: str
    gateway_id: str
    artifact_id: str
    #: Empty if the event named none.
    deployment_id: str
    #: The instant of the event; None if it was not readable.
    performed_at: datetime | None
    #: True for a deploy, False for an undeploy.
    deployed: bool
    succeeded: bool
    error_code: str
    #: The gateway's name of the artifact kind; empty if unknown.
    resource_type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnservedDownload:
    """This control plane failed to give a gateway a document, a secret that it needs, or what it reads at its start."""

    #: The token of the gateway.
    token: str
    #: Empty where it asked for a secret, or for the lists of its start.
    artifact_id: str
    #: The handle of that secret; empty otherwise.
    secret: str = ""


Report: TypeAlias = Acknowledgement | UnservedDownload


@dataclass(frozen=True, slots=True)
class _Unserved:
    """The same as the latter, of a gateway that is known."""

    organization: str
    gateway_id: str
    artifact_id: str


class Acknowledgements:
    """Stores acknowledgements soon, in order, and keeps those that cannot be stored now.

    An acknowledgement counts only for its own revision and event (scenario S36).
    """

    def __init__(self, hub: EventHub, desired_state: DesiredState, *, backoff: Backoff | None = None) -> None:
        self._hub = hub
        self._database = hub.database
        self._desired_state = desired_state
        #: Keeps the pod storing, and remembers why it does not.
        self.loop = RetryLoop(
            "acknowledgements-not-stored",
            "acknowledgements cannot be stored",
            backoff=backoff or Backoff(first=0.2, longest=5.0),
        )
        self._waiting: deque[Report] = deque(maxlen=MAX_WAITING)
        #: Gateway and organization of acknowledgements that left doubts when they were stored.
        self._doubted: set[tuple[str, str]] = set()
        self._signal = Signal()
        self._storing = asyncio.Lock()

    def report(self, report: Report) -> None:
        """Store this one soon."""
        self._waiting.append(report)
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
                    log_failure("acknowledgement-refused", error, artifact=each.artifact_id)
                # Compared before it is removed: newer ones may have pushed it out of the full queue already.
                if self._waiting and self._waiting[0] is each:
                    self._waiting.popleft()
        # Each gateway in a unit of work of its own: a held log, or rows that cannot be read, delay only that gateway.
        for gateway_id, organization in sorted(self._doubted):
            await self._settle(gateway_id, organization)

    @whole
    async def _store(self, batch: Sequence[Report]) -> None:
        doubted = set()
        async with self._database.transaction() as transaction:
            reports = [found for each in batch if (found := await _identified(transaction, each)) is not None]
            # The same locks in the same order as changes take, so that no two wait for each other.
            for gateway_id, organization in sorted({(each.gateway_id, each.organization) for each in reports}):
                await lock_gateway(transaction, organization, gateway_id)
            learned = [(each, await _apply(transaction, each)) for each in reports]
        for each, known in learned:
            if isinstance(each, _Unserved) and not each.artifact_id:
                doubted.add((each.gateway_id, each.organization))
            elif known is None:
                _note_ignored(each)
            elif known.placement.doubt:
                doubted.add((each.gateway_id, each.organization))
        self._doubted |= doubted

    async def _settle(self, gateway_id: str, organization: str) -> None:
        """Publish what is in doubt; what fails for this gateway alone is published when it connects again."""
        try:
            await self._desired_state.settle(organization, gateway_id)
        except NotFound:
            _logger.info("gateway-deleted", gateway=gateway_id)
        except Exception as error:
            if concerns_everyone(error):
                raise
            log_failure("doubt-not-settled", error, gateway=gateway_id)
        self._doubted.discard((gateway_id, organization))


def _note_ignored(report: Acknowledgement | _Unserved) -> None:
    """Log that it changed nothing: it is late, repeated, or names an unknown deployment."""
    if isinstance(report, Acknowledgement):
        metrics.acknowledgement_ignored()
        _logger.info(
            "acknowledgement-ignored",
            gateway=report.gateway_id,
            artifact=report.artifact_id,
            deployment=report.deployment_id,
            performed_at=report.performed_at.isoformat() if report.performed_at else None,
        )


async def _identified(transaction: Transaction, report: Report) -> Acknowledgement | _Unserved | None:
    """The report with its gateway; None: it belongs to none."""
    if isinstance(report, Acknowledgement):
        return report
    artifact_id = report.artifact_id
    for row in await transaction.fetch(_QUERIES["artifact_of_secret"], report.secret) if report.secret else ():
        artifact_id = row["artifact_id"]
    owner = await owner_of(transaction, report.token)
    return None if owner is None else _Unserved(owner.organization, owner.gateway_id, artifact_id)


async def _apply(transaction: Transaction, report: Acknowledgement | _Unserved) -> Known | None:
    """The new knowledge; None: it changed nothing."""
    if isinstance(report, _Unserved) and not report.artifact_id:
        # Whatever it should have read there, it has or has not.
        await transaction.execute(_QUERIES["doubt_everything"], report.gateway_id, Doubt.LOST)
        return None
    before = await find_known(transaction, report.artifact_id, report.gateway_id)
    if before is None:
        await _note_unknown(transaction, report)
        return None
    known, reason = _learned(before, report), getattr(report, "error_code", "")
    if known is None or known == before:
        return None
    failed = known.state is DeploymentState.FAILED
    reason = (reason or "the gateway gave no reason") if failed else ""
    await store_known(transaction, before, known, reason)
    return known


async def _note_unknown(transaction: Transaction, report: Acknowledgement | _Unserved) -> None:
    """After a history was lost, a gateway may say that it runs what only that history knew."""
    artifact_kind = _BY_RESOURCE_TYPE.get(getattr(report, "resource_type", ""))
    if artifact_kind is None or not isinstance(report, Acknowledgement) or not (report.deployed and report.succeeded):
        return
    if await transaction.fetch(_QUERIES["may_be_unknown"], report.gateway_id):
        await note_unknown(transaction, report.gateway_id, report.artifact_id, artifact_kind)


def _learned(before: Known, report: Acknowledgement | _Unserved) -> Known | None:
    if isinstance(report, _Unserved):
        return replace(before, placement=after_our_failure(before))
    placement = before.placement
    if _milliseconds(report.performed_at) != placement.performed_at:
        return None
    if report.deployment_id not in ("", placement.deployment_id):
        return None
    answer = Answer(
        deployed=report.deployed,
        succeeded=report.succeeded,
        deployment_id=report.deployment_id,
        error_code=report.error_code,
    )
    return after_answer(before, answer)


def _milliseconds(moment: datetime | None) -> int | None:
    """Compared as instants: gateways write times differently (gateway-protocol.md 1.9)."""
    return None if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)
