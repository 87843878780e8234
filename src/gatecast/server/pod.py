"""One replica: the hub, both listeners, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

from fastapi import FastAPI

from gatecast.background import reason_of_end
from gatecast.containment import contained
from gatecast.controlplane.access.admin_tokens import AdminTokens
from gatecast.controlplane.access.audit import AuditLog
from gatecast.controlplane.access.gateway_tokens import GatewayTokens
from gatecast.controlplane.access.gateways import Gateways
from gatecast.controlplane.access.log_outs import LogOuts
from gatecast.controlplane.control_plane import ControlPlane, open_control_plane
from gatecast.controlplane.deployments.api_keys import ApiKeys
from gatecast.controlplane.encryption import encryption_for, local_key_file
from gatecast.controlplane.fleet_samples import FleetSamples
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.errors import GatecastError, SettingInvalid, StorageError
from gatecast.hub import EventHub
from gatecast.server.admin_api import AdminContext, create_admin_app
from gatecast.server.admin_api.app import build_routes
from gatecast.server.admin_api.context import MAX_STREAMS, MAX_WAITS
from gatecast.server.admin_api.fleet import Fleets
from gatecast.server.admin_api.fleet_history import FleetMeter
from gatecast.server.admin_api.oidc import OidcIssuer
from gatecast.server.admission import Admission
from gatecast.server.api_server import ApiServer
from gatecast.server.connections import Places
from gatecast.server.console.app import add_console
from gatecast.server.deadline import DrainTime, Part, ended_within
from gatecast.server.descriptors import Budget, fitted
from gatecast.server.fleet_metrics import keep_fleet_metrics
from gatecast.server.gateway_api.app import GatewayContext, create_gateway_app
from gatecast.server.gateway_api.gateway_server import GatewayServer
from gatecast.server.listener import Listener
from gatecast.server.probe import Probe, is_probe
from gatecast.server.replication_watch import ReplicationWatch
from gatecast.server.sessions import SessionCookies
from gatecast.server.tls import LOOK_INTERVAL, GatewayTls
from gatecast.server.wait_policy import opened_with_waiting
from gatecast.settings import Settings, variable
from gatecast.telemetry import get_logger, metrics, traces

#: A readiness check waits this long for the database, in seconds.
_PING_TIME_LIMIT = 2.0

#: How often keys whose time is over are looked for, in seconds. Gateways refuse such a key by themselves; what they may
#: still take is an older value of it.
_EXPIRED_KEYS_INTERVAL = 5.0

#: How often old entries of the audit log are looked for, in seconds.
_AUDIT_RETENTION_INTERVAL = 3600.0

_logger = get_logger("pod")


class Pod:
    """A running replica."""

    def __init__(self, settings: Settings, hub: EventHub, control_plane: ControlPlane, budget: Budget) -> None:
        self.settings = settings
        self.hub = hub
        self.control_plane = control_plane
        self.gateways = Gateways(hub)
        self.gateway_tokens = GatewayTokens(hub)
        self.admin_tokens = AdminTokens(hub)
        self.budget = budget
        self.tls = GatewayTls(settings)
        #: Sends events to the next pod to see whether they arrive; None: it is not wanted.
        self.probe = Probe(hub, settings) if settings.probe else None
        self.replication = ReplicationWatch(hub.database)
        self.admission = Admission(settings, clock=asyncio.get_running_loop().time)
        #: The admin token that this start created, to be shown once; None if there was one already.
        self.first_admin_token: str | None = None
        #: Base URL of the admin API.
        self.api_url = ""
        #: Base URL that gateways connect to.
        self.gateway_url = ""
        #: Set if load balancers need no time to notice that this pod stops.
        self.hurried = asyncio.Event()
        self._draining = False
        self._drain_time = DrainTime(settings.drain_time, clock=asyncio.get_running_loop().time)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Pod]:
        """Start both listeners on an open hub; on leaving, stop in an orderly way within the drain time.

        Raises:
            SettingInvalid: an address is taken, a certificate cannot be loaded, or another setting is wrong.
            StorageError: the database cannot be used.
        """
        settings.check_for_pod()
        settings, budget = fitted(settings)
        async with AsyncExitStack() as stack:
            api_socket = stack.enter_context(_listening("api_listen", settings.api_listen))
            gateway_socket = stack.enter_context(_listening("gateway_listen", settings.gateway_listen))
            hub = await stack.enter_async_context(EventHub.open(settings=settings, migrations=MIGRATIONS, adopt=False))
            control_plane = await open_control_plane(hub, settings, local_key_file(settings.tables))
            pod = cls(settings, hub, control_plane, budget)
            # From here on what is entered is a step of stopping, in the reverse order: see `_send_gateways_away`.
            stack.push_async_callback(pod._close_hub)
            pod.first_admin_token = await pod.admin_tokens.prepare(settings.admin_token)
            await stack.enter_async_context(pod._storing_acknowledgements())
            await stack.enter_async_context(pod._running(pod.tls.follow(LOOK_INTERVAL), name="certificate"))
            forgetting = _remove_old_entries(AuditLog(hub.database))
            await stack.enter_async_context(pod._running(forgetting, name="audit-retention"))
            await stack.enter_async_context(pod._running(_end_expired_keys(control_plane.keys), name="expired-keys"))
            await stack.enter_async_context(pod._running(pod.replication.run(), name="replication"))
            counting = keep_fleet_metrics(hub, settings.pod_id)
            await stack.enter_async_context(pod._running(counting, name="fleet-metrics"))
            if pod.probe is not None:
                await stack.enter_async_context(pod._running(pod.probe.run(), name="probe"))
            await stack.enter_async_context(pod._gateway_listener(gateway_socket))
            await stack.enter_async_context(pod._api_listener(api_socket))
            try:
                yield pod
            finally:
                await pod._send_gateways_away()

    async def problems(self) -> list[str]:
        """Why this pod should receive no traffic now; empty if it is ready."""
        found: list[str] = []
        if self._draining:
            found.append("shutting down")
        if self.hub.delivery.failure is not None:
            found.append(f"a background task died: {type(self.hub.delivery.failure).__name__}")
        if self.hub.has_outbox:
            # While the log is away, changes are taken nevertheless: `log_problem` tells of it.
            found += [alarm for loop in (self.hub.outbox.disconnects.loop,) if (alarm := loop.alarm) is not None]
        else:
            found += self.hub.delivery.alarms
        if (alarm := self.control_plane.acknowledgements.loop.alarm) is not None:
            found.append(alarm)
        try:
            async with asyncio.timeout(_PING_TIME_LIMIT):
                await self.hub.database.ping()
        except (GatecastError, TimeoutError) as error:
            found.append(str(error) or "the database does not answer")
        return found

    @asynccontextmanager
    async def _storing_acknowledgements(self) -> AsyncIterator[None]:
        """Store what gateways acknowledge; at the end, also what is still waiting."""
        acknowledgements = self.control_plane.acknowledgements
        try:
            async with self._running(acknowledgements.run(), name="acknowledgements"):
                yield
        finally:
            with suppress(StorageError, TimeoutError):
                # Unstored acknowledgements lead to a republish.
                async with asyncio.timeout(self._drain_time.until(Part.ACKNOWLEDGEMENTS_ARE_STORED)):
                    await acknowledgements.flush()

    @asynccontextmanager
    async def _running(self, work: Coroutine[Any, Any, None], *, name: str) -> AsyncIterator[None]:
        """Run a background task during the block; if it ends earlier, the pod stops."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._note_end)
        try:
            yield
        finally:
            task.remove_done_callback(self._note_end)
            task.cancel()
            await asyncio.wait([task])

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Stop the pod because a task that must keep running has ended, and log why."""
        failure = reason_of_end(task)
        _logger.error("background-task-died", task=task.get_name(), exc_info=failure)
        self.hub.delivery.fail(failure)

    # --- listeners ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _gateway_listener(self, listening: socket.socket) -> AsyncIterator[None]:
        context = GatewayContext(
            hub=self.hub,
            settings=self.settings,
            gateways=self.gateways,
            tokens=self.gateway_tokens,
            admission=self.admission,
            control_plane=self.control_plane,
        )
        server = GatewayServer(create_gateway_app(context))
        await server.setup()
        places = Places(self.budget.gateway_listener)
        listener = Listener(listening, server.connection, places=places, tls=lambda: self.tls.context)
        try:
            async with self._accepting(listener, name="gateway-listener"):
                self.gateway_url = f"{'https' if self.tls.context else 'http'}://{_host_and_port(listening)}"
                yield
        finally:
            await server.stop(within=self._drain_time.until(Part.REQUESTS_ARE_FINISHED))

    @asynccontextmanager
    async def _api_listener(self, listening: socket.socket) -> AsyncIterator[None]:
        context = AdminContext(
            hub=self.hub,
            settings=self.settings,
            gateways=self.gateways,
            tokens=self.gateway_tokens,
            admin_tokens=self.admin_tokens,
            fleets=Fleets(self.hub, self.gateways),
            audit=AuditLog(self.hub.database),
            log_outs=LogOuts(self.hub.database),
            control_plane=self.control_plane,
            cookies=SessionCookies(encryption_for(self.settings.secret_key, local_key_file(self.settings.tables))),
            problems=self.problems,
            probe=self.probe,
            replication=lambda: self.replication.seen,
            gateway_address=self.gateway_url.partition("://")[2],
            streams=asyncio.Semaphore(self.budget.at_most(MAX_STREAMS)),
            waits=asyncio.Semaphore(self.budget.at_most(MAX_WAITS)),
            oidc=OidcIssuer.configured(
                self.settings.oidc_issuer,
                self.settings.oidc_audience,
                self.settings.oidc_organization_claim,
                self.settings.oidc_role_claim,
            ),
        )
        meter = FleetMeter(context.fleets, self.hub.engine.survey, FleetSamples(self.hub.database))
        app = api_app(context)
        await build_routes(app)
        server = ApiServer(app)
        listener = Listener(listening, server.connection, places=Places(self.budget.api_listener))
        self.api_url = f"http://{_host_and_port(listening)}"
        async with self._serving(server, context):
            # It must answer before its address is announced.
            await server.begun.wait()
            async with self._accepting(listener, name="api-listener"), self._running(meter.run(), name="fleet-meter"):
                yield

    @asynccontextmanager
    async def _accepting(self, listener: Listener, *, name: str) -> AsyncIterator[None]:
        listener.begin()
        async with self._running(listener.run(), name=name):
            yield

    @asynccontextmanager
    async def _serving(self, server: ApiServer, context: AdminContext) -> AsyncIterator[None]:
        """Answer requests; at the end, finish running ones, and end streams."""
        serving = asyncio.create_task(server.serve(sockets=[]), name="api-server")
        serving.add_done_callback(self._note_end)
        try:
            yield
        finally:
            context.stopping.set()
            serving.remove_done_callback(self._note_end)
            server.stop(within=self._drain_time.until(Part.REQUESTS_ARE_FINISHED))
            # Waited for, not awaited: if it died, that is known by now, and the rest must still stop in order.
            await asyncio.wait([serving])

    # --- stopping -----------------------------------------------------------------------------------------------

    async def _send_gateways_away(self) -> None:
        """The first step of stopping; the steps share the drain time, each bounded (`deadline`).

        1. The pod is unready and takes nobody new. Gateways leave spread over half the drain time; with few of them
           that takes less, and then the ports stay open until balancers have noticed, so that nobody is refused.
        2. The ports are closed, first that of the API, and the requests that run are finished.
        3. What gateways acknowledged last is stored.
        4. The hub answers what it accepted, stores positions and returns the lease.

        A hanging database keeps no step longer than its time, and `ended_within` ends what hangs nevertheless.
        """
        self._draining = self.admission.closed = True
        self._drain_time.begin()
        subscriptions = [each for each in self.hub.delivery.subscriptions if not is_probe(each.connection.gateway_id)]
        _logger.info("draining", connections=len(subscriptions))
        random.shuffle(subscriptions)
        pause = self._drain_time.until(Part.GATEWAYS_HAVE_LEFT) / max(1, len(subscriptions))
        noticed = asyncio.create_task(
            self._wait_for_balancers(self._drain_time.until(Part.BALANCERS_HAVE_NOTICED)), name="balancers"
        )
        for subscription in subscriptions:
            subscription.end_with("restarting")
            await asyncio.sleep(min(pause, _LONGEST_DRAIN_PAUSE))
        await noticed

    async def _close_hub(self) -> None:
        await self.hub.close(within=self._drain_time.until(Part.HUB_IS_CLOSED))

    async def _wait_for_balancers(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.hurried.wait()


async def _end_expired_keys(keys: ApiKeys) -> None:
    while True:
        with contained("keys-not-ended"):
            await keys.end_expired()
        await asyncio.sleep(_EXPIRED_KEYS_INTERVAL)


async def _remove_old_entries(audit: AuditLog) -> None:
    while True:
        with contained("audit-retention-put-off"):
            while await audit.clean_up():
                pass
        await asyncio.sleep(_AUDIT_RETENTION_INTERVAL)


def api_app(context: AdminContext) -> FastAPI:
    """The admin API, and the console beside it."""
    app = create_admin_app(context)
    add_console(app)
    return app


#: Longest pause between two gateways that are disconnected, so that few of them take less time; in seconds.
_LONGEST_DRAIN_PAUSE = 0.1


@contextmanager
def _listening(setting: str, address: str) -> Iterator[socket.socket]:
    """A listening socket, bound before anything else starts, so that an address in use is reported at once."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)  # noqa: FBT003 - the standard library's own
        try:
            listening.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise SettingInvalid(
                variable(setting), address, f"be an address that is free on this machine ({error.strerror})"
            ) from error
        yield listening


def _host_and_port(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def serve(settings: Settings, *, announce: Callable[[Pod], None]) -> int:
    """Run one pod until a signal stops it; return the exit status: 1 when a part of it died.

    A second signal to stop ends the wait for balancers.
    """
    stop = asyncio.Event()
    _on_signals((signal.SIGTERM, signal.SIGINT, signal.SIGHUP), stop.set)
    with ExitStack() as leaving:
        leaving.enter_context(traces.sending(settings.traces, settings.pod_id))
        has_server = settings.is_on_stream or settings.tables.startswith("postgresql://")
        seconds = START_TIME_LIMIT if has_server else 0.0
        async with opened_with_waiting(lambda: Pod.open(settings), stop, seconds) as pod:
            if pod is None:
                return 0
            if pod.tls.renewable:
                _on_signals((signal.SIGHUP,), pod.tls.renew)
            metrics.watch(
                connections=lambda: pod.admission.connections,
                behind=lambda: sum(
                    each.behind and not is_probe(each.connection.gateway_id) for each in pod.hub.delivery.subscriptions
                ),
                alarms=lambda: len(pod.hub.delivery.alarms),
                queued=lambda: pod.hub.delivery.publisher.queued_events,
                wakeups=lambda: pod.hub.wakeup_connected,
            )
            announce(pod)
            await _first_of(stop, pod.hub.delivery.failed)
            _on_signals((signal.SIGTERM, signal.SIGINT), pod.hurried.set)
            failed = pod.hub.delivery.failure is not None
            leaving.enter_context(ended_within(settings.drain_time.total_seconds() + _LATEST_EXIT))
    return 1 if failed else 0


#: A pod waits this long for a PostgreSQL that starts or recovers; in seconds.
START_TIME_LIMIT = 60.0


def _on_signals(numbers: Iterable[signal.Signals], call: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, call)


#: Seconds after its drain time at which a pod exits in any case.
_LATEST_EXIT = 2.0


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
            with suppress(asyncio.CancelledError):
                await wait
