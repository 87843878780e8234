"""Keeps this pod's lease alive, and learns which of its connections must be closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from gatecast.containment import RetryLoop
from gatecast.errors import StorageUnavailable
from gatecast.storage.contract import Presence
from gatecast.telemetry import get_logger
from gatecast.version import __version__
from gatecast.waiting import Backoff, Signal

#: A pod that has not renewed its lease for this long counts as dead, and its connections count as closed.
LEASE = timedelta(seconds=6)

#: Renewed this often, in seconds: two renewals may fail before the lease ends.
_RENEW_INTERVAL = LEASE.total_seconds() / 3

#: How often a pod asks which connections it must close, in seconds, whatever the poll interval: a revocation takes
#: effect within a second (promise P9), even if its hint is lost.
_OBEY_INTERVAL = 0.5

#: A subscription waits this long for the pod's first lease, in seconds.
FIRST_LEASE_TIME_LIMIT = 10.0

_logger = get_logger("presence")


class PodPresence:
    """The pod's own row, and the disconnects that other pods request for its connections."""

    def __init__(
        self,
        presence: Presence,
        pod_id: str,
        *,
        poll_interval: float,
        end_with: Callable[[str, str], None],
        end_all: Callable[[], None],
    ) -> None:
        self._presence = presence
        self._pod_id = pod_id
        self._poll_interval = poll_interval
        self._end_with = end_with
        self._end_all = end_all
        self._signal = Signal()
        #: Keeps the pod's lease, and remembers why it cannot.
        self.loop = RetryLoop(
            "lease-not-renewed",
            "the lease cannot be renewed",
            backoff=Backoff(first=min(0.2, poll_interval), longest=_RENEW_INTERVAL),
        )
        #: The incarnation in the pod's row: a new one means that the row was removed in between, or an answer was lost.
        self._incarnation: UUID | None = None
        self._renew_due_at = 0.0
        self._lease = asyncio.Lock()
        self._ended = False
        #: Set once other pods know this pod, so that connections may be recorded for it.
        self.ready = asyncio.Event()

    async def until_known(self) -> None:
        """Return once other pods know this pod: they clean up only the connections of known pods.

        Raises:
            StorageUnavailable: that takes too long.
        """
        try:
            async with asyncio.timeout(FIRST_LEASE_TIME_LIMIT):
                await self.ready.wait()
        except TimeoutError:
            raise StorageUnavailable(f"this pod has no lease yet: {self.problem or 'no answer'}") from None

    def look(self) -> None:
        """Ask for requested disconnects as soon as possible."""
        self._signal.set()

    async def run(self) -> None:
        """Renew the lease and apply disconnects until cancelled."""
        await self.loop.run(self._renew_and_apply_disconnects, rest=self._rest)

    @property
    def problem(self) -> str | None:
        """Why the last renewal of the lease failed, or None if it succeeded."""
        return self.loop.problem

    async def _renew_and_apply_disconnects(self) -> None:
        await self._renew_if_due()
        await self.apply_disconnects()

    async def _rest(self) -> None:
        await self._signal.wait(min(self._poll_interval, _OBEY_INTERVAL))

    async def apply_disconnects(self) -> None:
        """Close the connections that must be closed by now.

        Raises:
            StorageUnavailable: the database is away.
        """
        for connection_id, dismissal in (await self._presence.pending_disconnects(self._pod_id)).items():
            self._end_with(connection_id, dismissal)

    async def end(self) -> None:
        """Return the lease for good, after any renewal that is under way; no renewal follows."""
        self._ended = True
        async with self._lease:
            await self._presence.end_lease(self._pod_id)

    async def _renew_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._renew_due_at:
            return
        async with self._lease:
            if self._ended:
                return
            if self._incarnation is None:
                # A killed pod of the same name left connections. They must not come back to life.
                await self._presence.end_lease(self._pod_id)
            incarnation = await self._presence.renew_lease(self._pod_id, LEASE)
            if incarnation != self._incarnation:
                await self._presence.describe_pod(self._pod_id, __version__)
        if self._incarnation not in (None, incarnation):
            # Other pods removed this pod's connections while it was away: their progress is no longer stored.
            _logger.warning("pod-was-forgotten")
            self._end_all()
        self._incarnation = incarnation
        self._renew_due_at = now + _RENEW_INTERVAL
        self.ready.set()
