"""The simulated gateway as a test holds it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from gatecast.testing.eventually import PATIENCE
from gatecast.testing.unmodified_gateway.api_keys import ApiKey, generated_key
from gatecast.testing.unmodified_gateway.artifacts import Artifact
from gatecast.testing.unmodified_gateway.connection import Dialer, ProcessExit
from gatecast.testing.unmodified_gateway.database import Database
from gatecast.testing.unmodified_gateway.lookup import Lookup
from gatecast.testing.unmodified_gateway.messages import Received
from gatecast.testing.unmodified_gateway.options import GatewayOptions
from gatecast.testing.unmodified_gateway.own_artifacts import OwnArtifact
from gatecast.testing.unmodified_gateway.process import Process, StartFailed, Target
from gatecast.testing.unmodified_gateway.rest_calls import RestCalls
from gatecast.testing.unmodified_gateway.steps import Schedule
from gatecast.testing.unmodified_gateway.subscriptions import Plan, Subscription
from gatecast.testing.unmodified_gateway.world import Controls, Records, World

#: How long the control plane may take to answer the gateway's Close; in seconds.
_GOODBYE_TIME_LIMIT = 1.0

_GOING_AWAY = struct.pack("!H", 1000) + b"Gateway shutting down"


class UnmodifiedGateway:
    """A gateway-controller that knows nothing of Gatecast, for tests of a control plane.

    It behaves as gateway-protocol.md says of the real one: connection, pings, back-off and exits by section 1, events
    by section 2, and, with `follow_artifacts`, the REST calls of section 3. Without `follow_artifacts` it only holds a
    socket, and believes every deploy event at once.

    ::

        async with UnmodifiedGateway("127.0.0.1:9243", token) as gateway:
            await gateway.wait_until(lambda: gateway.connected)
            …
            await gateway.wait_until(lambda: len(gateway.received) == 3)
    """

    def __init__(
        self,
        host: str,
        token: str,
        *,
        follow_artifacts: bool = False,
        options: GatewayOptions | None = None,
        database: Database | None = None,
    ) -> None:
        self._target = Target(host=host, token=token, follow_artifacts=follow_artifacts)
        options = options or GatewayOptions()
        self._world = World(options, database or Database(options))
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._kill()

    # --- what it has and what it saw ----------------------------------------------------------------------------

    @property
    def artifacts(self) -> Mapping[str, Artifact]:
        """What its database holds, by artifact id."""
        return self._world.database.artifacts.stored

    @property
    def running(self) -> Mapping[str, Artifact]:
        """What its process serves, by artifact id: not what cannot be transformed (section 6).

        When a correlation id repeats, it lags until the process starts again (section 2.1).
        """
        return self._world.runtime.running

    @property
    def api_keys(self) -> Mapping[tuple[str, str], ApiKey]:
        """Its API keys, by artifact id and name; revoked ones too."""
        return self._world.database.keys.stored

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """Its subscriptions, by id."""
        return self._world.database.subscriptions.stored

    @property
    def plans(self) -> Mapping[str, Plan]:
        """Its subscription plans, by id."""
        return self._world.database.subscriptions.plans

    @property
    def applications(self) -> Mapping[str, frozenset[str]]:
        """Ids of the API keys of each application, by the application's uuid."""
        return self._world.database.subscriptions.applications

    @property
    def secrets(self) -> Mapping[str, str]:
        """Its secrets, by handle."""
        return self._world.database.secrets

    @property
    def own(self) -> Mapping[str, OwnArtifact]:
        """Templates and artifacts that were made on the gateway itself, by its ids of them."""
        return self._world.database.own.stored

    @property
    def records(self) -> Records:
        """Everything that was counted and logged."""
        return self._world.records

    @property
    def received(self) -> Sequence[Received]:
        """Each event, in the order of arrival, over all connections."""
        return self._world.records.received

    @property
    def acks_sent(self) -> Sequence[Mapping[str, str]]:
        """The payload of each `deployment.ack` that went out, in order."""
        return self._world.records.acks_sent

    @property
    def connections_made(self) -> int:
        """How many connections reached `connection.ack`."""
        return self._world.records.connections_made

    @property
    def exited(self) -> int | None:
        """The HTTP status that made the process exit with status 1; None while it runs."""
        return self._world.records.exited

    @property
    def start_failed(self) -> str:
        """Why the process exits at every start with status 1; empty when it starts."""
        return self._world.records.start_failed

    @property
    def connected(self) -> bool:
        """True between `connection.ack` and the loss of the connection."""
        return self._process is not None and self._process.link is not None

    @property
    def gateway_id(self) -> str:
        """The id that the newest `connection.ack` named; empty before the first one."""
        return self._process.identity[0] if self._process else ""

    @property
    def connection_id(self) -> str:
        """The connection id of the newest `connection.ack`; empty before the first one."""
        return self._process.identity[1] if self._process else ""

    # --- what a test may do -------------------------------------------------------------------------------------

    async def wait_until(self, predicate: Callable[[], bool], limit: float = PATIENCE) -> None:
        """Return when the predicate holds; it is asked again at each change of state.

        Raises:
            TimeoutError: it did not hold within `limit` seconds; says what the gateway looks like.
        """
        try:
            async with asyncio.timeout(limit):
                await self._world.records.until(lambda: self._alive() and predicate())
        except TimeoutError:
            raise TimeoutError(f"not within {limit} s; {self.describe()}") from None

    def describe(self) -> str:
        """Its state in one line."""
        records = self._world.records
        last = list(records.log)[-3:]
        return (
            f"connected={self.connected} connections={records.connections_made} exited={records.exited} "
            f"{records.start_failed} received={len(records.received)} acks={len(records.acks_sent)} "
            f"artifacts={len(self.artifacts)} log={last}"
        )

    def pause_reading(self) -> None:
        """Read no further frame, and so answer no ping, until `resume_reading`."""
        self._controls.may_read.clear()

    def resume_reading(self) -> None:
        """Read on."""
        self._controls.may_read.set()

    def delay_downloads(self, hook: Callable[[str], Awaitable[None]]) -> None:
        """Await this before each artifact download, with the artifact's id: the handler, and every Pong, waits."""
        self._controls.before_download = hook

    def schedule_steps(self, schedule: Schedule) -> None:
        """Let this decide when each step happens (`steps`); before, each happens as the event loop comes to it."""
        self._controls.schedule = schedule

    def fail_next_apply(self, error: str) -> None:
        """Fail one more deploy or undeploy; it is acknowledged as `failed`, GATEWAY_PROCESSING_ERROR."""
        self._controls.planned_failures.append(error)

    def plan_no_failures(self) -> None:
        """Take back what `fail_next_apply` planned and has not come about."""
        self._controls.planned_failures.clear()

    def make(self, configuration: Mapping[str, Any]) -> str:
        """Make an artifact or a template on the gateway itself, and return its id there; the control plane is notified.

        Raises:
            Rejected: the gateway cannot apply it.
        """
        local_id = self._world.database.make(configuration, now=self._world.options.clock.now())
        self._announce(local_id)
        return local_id

    def remove(self, local_id: str) -> None:
        """Remove what was made on the gateway itself; the gateway reports it as undeployed.

        Raises:
            Rejected: a proxy still refers to it.
        """
        self._world.database.remove(local_id, now=self._world.options.clock.now())
        self._announce(local_id)

    def delete_by_hand(self, artifact_id: str) -> None:
        """Delete what the control plane sent through the gateway's own API; the control plane is not told."""
        artifact = self._world.database.artifacts.stored[artifact_id]
        self._world.database.delete_artifact(artifact_id, kind=artifact.kind, event_id="")
        self._world.records.changed()

    def lose_data(self) -> None:
        """Empty its database, and let its process go on with all that it remembers."""
        self._world.database.lose()
        self._world.records.changed()

    def replica(self) -> UnmodifiedGateway:
        """Another controller with this one's token and database, and a process, a socket and a runtime of its own."""
        return UnmodifiedGateway(
            self._target.host,
            self._target.token,
            follow_artifacts=self._target.follow_artifacts,
            options=self._world.options,
            database=self._world.database,
        )

    def make_api_key(self, artifact_id: str, name: str) -> ApiKey:
        """Make an API key on the gateway itself: the next list of keys of its kind removes it (section 3.9)."""
        key = generated_key(artifact_id, name, self._world.options.clock.now())
        self._world.database.keys.save(key)
        return key

    def cut(self) -> None:
        """Abort the TCP connection, if there is one; the gateway reconnects at once."""
        if self._process is not None and self._process.link is not None:
            self._process.link.drop()

    async def restart(self, *, with_data: bool = True) -> None:
        """Kill the process and start another: all memory is lost, and without data the database too."""
        await self._kill()
        if not with_data:
            self._world.database.lose()
        self._start()

    async def stop(self) -> None:
        """End it as SIGTERM does: Close 1000, "Gateway shutting down" (section 1.7)."""
        if self._process is not None and self._process.link is not None and self._task is not None:
            self._process.stopping = True
            await self._process.link.send_close(_GOING_AWAY)
            await asyncio.wait({self._task}, timeout=_GOODBYE_TIME_LIMIT)
        await self._kill()

    @asynccontextmanager
    async def lookup(self) -> AsyncIterator[Lookup]:
        """Ask its control plane what it would be given now, beside the gateway: neither of them notices."""
        options, target = self._world.options, self._target
        async with options.open_session() as session:
            dialer = Dialer(session, target.host, target.token, options)
            yield Lookup(RestCalls(session, dialer, target.token))

    # --- its process --------------------------------------------------------------------------------------------

    @property
    def _controls(self) -> Controls:
        return self._world.controls

    def _announce(self, local_id: str) -> None:
        if self._process is not None:
            self._process.announce(local_id)

    def _start(self) -> None:
        self._world.records.exited, self._world.records.start_failed = None, ""
        self._task = asyncio.create_task(self._live(), name="unmodified-gateway")
        self._task.add_done_callback(lambda _: self._world.records.changed())

    async def _live(self) -> None:
        try:
            async with self._world.options.open_session() as session, asyncio.TaskGroup() as tasks:
                self._process = Process(session, self._target, self._world)
                await self._process.run(tasks)
        except* ProcessExit as exits:
            self._world.records.exited = _status(exits)
        except* StartFailed as failures:
            self._world.records.start_failed = str(failures.exceptions[0])

    async def _kill(self) -> None:
        task, self._task, self._process = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            _raise_unexpected(task)

    def _alive(self) -> bool:
        """True; raises what ended the process when that was a mistake in the simulation."""
        if self._task is not None and self._task.done():
            _raise_unexpected(self._task)
        return True


def _status(exits: BaseExceptionGroup[ProcessExit]) -> int:
    """The HTTP status of the first exit in the group."""
    first = exits.exceptions[0]
    return _status(first) if isinstance(first, BaseExceptionGroup) else first.status


def _raise_unexpected(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (problem := task.exception()) is not None:
        raise problem
