"""Starts and stops the parts of delivery, and opens subscriptions on them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

from gatecast.background import run_together
from gatecast.containment import RetryLoop
from gatecast.delivery.outcomes import OutcomeRecorder
from gatecast.delivery.presence import PodPresence
from gatecast.delivery.progress import ProgressRecorder
from gatecast.delivery.publisher import Publisher
from gatecast.delivery.reader import Reader
from gatecast.delivery.resume import EPOCH, Start, begin_anew, decide_start
from gatecast.delivery.retention import run_retention
from gatecast.delivery.subscription import Subscription
from gatecast.errors import HubClosed, StorageError, StorageUnavailable, SubscriptionClosed
from gatecast.events import Event, Position
from gatecast.storage.contract import Connection, Engine, Entity, Receipt, Remembered, TrimPolicy
from gatecast.telemetry import get_logger
from gatecast.waiting import Backoff, random_source
from gatecast.wakeup.contract import EVERYTHING, Hint, Wakeup

_logger = get_logger("delivery")

#: The close reason of subscriptions when their pod shuts down.
RESTARTING = "restarting"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """How delivery runs on this pod."""

    pod_id: str
    #: Longest time between two reads of the log, in seconds.
    poll_interval: float
    trim_policy: TrimPolicy
    #: Spreads pauses; given by tests that must repeat exactly.
    random_source: random.Random = field(default_factory=random_source)


class Delivery:
    """Everything that runs between publishers, the log and connections on one pod."""

    def __init__(self, engine: Engine, wakeup: Wakeup, options: DeliveryOptions) -> None:
        self._engine = engine
        self._wakeup = wakeup
        self._options = options
        self._subscriptions: dict[str, Subscription] = {}
        self._supervisor: asyncio.Task[None] | None = None
        self._draining = self._stopping = False
        #: Why a background task died, once one has: the pod must then end.
        self.failure: BaseException | None = None
        self.failed = asyncio.Event()
        #: Called with the gateways of every hint (None: all); must not block or raise.
        self.on_hint: Callable[[frozenset[str] | None], None] = lambda _: None
        self.publisher = Publisher(engine.log, send_hint=wakeup.send)
        self.recorder = ProgressRecorder(engine.presence)
        self.outcomes = OutcomeRecorder(engine.outcomes)
        self.presence = PodPresence(
            engine.presence,
            options.pod_id,
            poll_interval=options.poll_interval,
            end_with=self._end_with,
            end_all=lambda: self.end_all(RESTARTING),
        )
        self.reader = Reader(engine.log, poll_interval=options.poll_interval)
        #: Keeps removing old events; that it cannot is shown, and sends no traffic elsewhere.
        self.retention = RetryLoop(
            "clean-up-failed", "old events cannot be removed", backoff=Backoff(first=30.0, longest=100.0)
        )

    async def __aenter__(self) -> Self:
        self._wakeup.listen(self._on_hint)
        self._supervisor = asyncio.create_task(self._supervise(), name="delivery")
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Stop the tasks and end open subscriptions. The owner may call `drain` first."""
        self._stopping = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            # Waited for and not awaited: a cancellation that comes out of here is then our own.
            await asyncio.wait([self._supervisor])

    async def _supervise(self) -> None:
        """Run every background task; when one dies, stop the others and report the failure."""
        try:
            await run_together(self._background_work())
        except asyncio.CancelledError:
            if not self._stopping:
                # A mistake, like that of any other task that ends.
                self._note_death(RuntimeError("delivery was cancelled"))
        except Exception as failure:  # noqa: BLE001 - whatever it is, it is logged, and ends the pod
            self._note_death(failure)
        finally:
            # They get no more events, so no consumer may wait for them.
            self.end_all(RESTARTING)
            self.presence.ready.set()

    def _note_death(self, failure: Exception) -> None:
        _logger.error("background-task-died", exc_info=failure)
        self.fail(failure)

    def fail(self, failure: BaseException) -> None:
        """Disconnect every gateway, and record that the pod must end."""
        self.failure = failure
        self.end_all("internal-error")
        self.failed.set()

    def _background_work(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        options = self._options
        return {
            "publisher": self.publisher.run,
            "reader": self.reader.run,
            "progress": self.recorder.run,
            "outcomes": self.outcomes.run,
            "presence": self.presence.run,
            "retention": lambda: run_retention(
                self._engine.log, options.trim_policy, random_source=options.random_source, loop=self.retention
            ),
        }

    @property
    def alarms(self) -> Sequence[str]:
        """What the loops of this pod have failed to do for 10 seconds; empty if nothing is wrong."""
        loops = (self.reader.loop, self.presence.loop, self.recorder.loop, self.outcomes.loop)
        return [alarm for loop in loops if (alarm := loop.alarm) is not None]

    def _on_hint(self, hint: Hint) -> None:
        self.reader.hint(hint)
        if hint.gateways is None:
            self.presence.look()
        self.on_hint(hint.gateways)

    async def hint(self, gateway_ids: Sequence[str]) -> None:
        """Let every pod look at these gateways; a hint may be lost."""
        await self._engine.presence.hint(gateway_ids)
        self._wakeup.send(Hint.at(gateway_ids))

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """The subscriptions that are open on this pod."""
        return list(self._subscriptions.values())

    async def publish(self, events: Sequence[Event]) -> tuple[Receipt, ...]:
        """Store events, all or none, through the batching publisher."""
        self._check_alive()
        return await self.publisher.publish(events)

    async def subscribe(
        self,
        connection: Connection,
        *,
        after: Position | None = None,
        event_id: UUID | None = None,
        newest_only: bool = False,
    ) -> Subscription:
        """Open a subscription at the stored position, or at the position that the consumer names.

        With `event_id`, the id of the event at `after`, it also notices if that position holds another event now.

        Raises:
            UnknownGateway: the gateway is not registered.
            StorageUnavailable: the database is away, or this pod has not got its first lease in 10 seconds.
            HubClosed: this pod is stopping.
            SubscriptionClosed: it was closed before it was open.
        """
        self._check_alive()
        await self.presence.until_known()
        start = await self._start(connection, after, event_id)
        feed = self.reader.open(connection.gateway_id, start.position)
        subscription = Subscription(
            connection,
            start,
            feed=feed,
            recorder=self.recorder,
            outcomes=self.outcomes,
            on_close=self._on_close,
        )
        self._subscriptions[connection.connection_id] = subscription
        try:
            await self._engine.presence.connect(
                connection, start=start.position, resync_reason=start.lost, newest_only=newest_only
            )
            # After the connection is recorded: a later decision ends this connection.
            subscription.lot.fill(
                await self._engine.parking.withheld(
                    connection.gateway_id,
                    connection.replica,
                    after=start.position.offset,
                    parks=connection.rejects,
                )
            )
            self._check_still_wanted(subscription)
        except BaseException as error:
            if isinstance(error, StorageUnavailable):
                # Perhaps refused because the history is not confirmed on this server yet: the reader confirms it.
                self.reader.hint(EVERYTHING)
            # Cancelled, failed, or closed in between: the row may exist by now, also where closing was too early to
            # remove it.
            subscription.close()
            self.recorder.leave(subscription.take_progress())
            raise
        if newest_only:
            self._wakeup.send(EVERYTHING)
        return subscription

    async def _start(self, connection: Connection, after: Position | None, event_id: UUID | None) -> Start:
        standing = await self._engine.presence.standing(connection.gateway_id, connection.replica)
        start = decide_start(standing, after)
        if after is None or event_id is None or start.lost is not None:
            return start
        said = Remembered(gateway_id=connection.gateway_id, log_id=None, offset=after.offset, event_id=event_id)
        # It concerns this consumer alone: no other one relies on its claim.
        return begin_anew(standing, EPOCH) if await self._engine.log.contradicts([said]) else start

    def _check_still_wanted(self, subscription: Subscription) -> None:
        self._check_alive()
        if subscription.was_closed_here:
            raise SubscriptionClosed("closed")

    def _on_close(self, subscription: Subscription) -> None:
        self.reader.close(subscription.feed)
        self._subscriptions.pop(subscription.connection.connection_id, None)

    async def resynchronized(self, subscription: Subscription) -> None:
        """Record that the consumer has read the desired state again, for the reason that it got, if any."""
        connection, reason = subscription.connection, subscription.start.lost
        if reason is not None:
            await self._engine.presence.resynchronized(
                connection.gateway_id, connection.replica, reason, connection_id=connection.connection_id
            )

    async def resolve(self, gateway_id: str, replica: str, entity: Entity, *, retry: bool) -> bool:
        """Decide about a parked entity, on any pod; False if the entity is not parked."""
        resolved = await self._engine.parking.resolve(gateway_id, replica, entity, retry=retry)
        if resolved:
            self._wakeup.send(EVERYTHING)
        return resolved

    def _end_with(self, connection_id: str, reason: str) -> None:
        if (subscription := self._subscriptions.get(connection_id)) is not None:
            subscription.end_with(reason)

    def end_all(self, reason: str) -> None:
        """End every subscription of this pod, with this reason."""
        for subscription in self.subscriptions:
            subscription.end_with(reason)

    async def drain(self) -> None:
        """Refuse new events, answer every accepted one, store every position, and return the lease.

        The caller must limit the time: while the database cannot be reached, this waits.
        """
        self._draining = True
        await self.publisher.drain()
        for subscription in self.subscriptions:
            subscription.close()
        await self.recorder.flush()
        with suppress(StorageError):
            await self.presence.end()

    def _check_alive(self) -> None:
        if self._supervisor is None or self._supervisor.done() or self._draining:
            raise HubClosed
