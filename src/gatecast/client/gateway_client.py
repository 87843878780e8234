"""The gateway's side of Gatecast: connect, resume, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import aiohttp
from yarl import URL

from gatecast.client.connection import ClientConnection, Incoming, ResyncDemand
from gatecast.client.endpoint import Trust, server_url, trust
from gatecast.client.inbox import Inbox
from gatecast.client.progress import ClientProgress
from gatecast.client.reconnecting import (
    Ending,
    Lost,
    ReconnectPlan,
    ReconnectTimes,
    Refused,
    Unreachable,
    parse_retry_after,
)
from gatecast.client.socket import ClientSocket, open_session, open_socket
from gatecast.errors import PositionLost, ProtocolViolation, SubscriptionClosed
from gatecast.events import Position, clean_identifier
from gatecast.protocol.client_session import ClientLimits, ClientSession, Delivered, Undeliverable
from gatecast.protocol.close_codes import NORMAL
from gatecast.telemetry import get_logger

_PATH = "/api/internal/v1/ws/gateways/connect"
_PROTOCOL = "gatecast.v2"

#: How long the upgrade may take; in seconds.
UPGRADE_TIME_LIMIT = 10.0

_logger = get_logger("client")

#: One event, as a gateway receives it.
GatewayEvent: TypeAlias = Delivered

#: Applies one event.
Handler: TypeAlias = Callable[[GatewayEvent], Awaitable[None]]

#: Reads the desired state again; receives the reason (`retention`, `epoch` or `ahead`) and where delivery continues.
ResyncHandler: TypeAlias = Callable[[str, Position], Awaitable[None]]


class Reject(Exception):
    """Raised by a handler that cannot apply one event; later events are delivered nevertheless."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        #: For people, at most 1,000 characters; the control plane shows it.
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Options that few users need to change."""

    #: How long to wait between attempts.
    reconnect: ReconnectTimes = field(default_factory=ReconnectTimes)
    #: Whether to continue even if a retry alone does not help: the server's certificate is not accepted, or gateways
    #: may not connect at this address (404).
    persistent: bool = False
    #: How long to wait for the server.
    limits: ClientLimits = field(default_factory=lambda: ClientLimits(silence=35.0))
    #: Most events that wait for the handler. At this number the client reads nothing more from the socket, Pings
    #: included: fewer than the server's window of 256 make a slow handler look like a dead gateway.
    max_waiting_events: int = 256
    #: Most bytes of messages that wait for the handler, plus one message, with the same effect: less than a window of
    #: large events makes a slow handler look like a dead gateway, and more takes several times its size in memory.
    max_waiting_bytes: int = 64 * 1024 * 1024
    #: Most bytes of a frame with several events; 0: each event has its own frame. A larger event has one in any case.
    max_batch_bytes: int = 64 * 1024
    #: How long a disconnect may wait until the last acknowledgement is sent and the server has closed, in seconds.
    goodbye_time_limit: float = 2.0


class GatewayClient:
    """A gateway's events: each one, in order, at least once, even if connections and pods fail.

    ::

        async with GatewayClient("https://control-plane:9243", token) as gateway:
            async for event in gateway.events():
                …apply it…
                await gateway.acknowledge(event)

    The client reconnects by itself and resumes after the last acknowledged event. `url` is the URL of the gateway
    listener. `replica` names this process among several that use one token; each name has its own position. `after`
    resumes after a position that you stored yourself; without it, the position that the server stores counts.
    `event_id` is the id of the event at `after`: it lets the server notice that this position holds another event,
    after a restore that nothing else can notice. `ssl` says which certificates are accepted: see `Trust`.

    One client never delivers an event twice. After a restart of the process, unacknowledged events come again.

    Raises:
        InvalidValue: an argument breaks its rule.
    """

    def __init__(  # noqa: PLR0913 - all but two are options with names
        self,
        url: str,
        token: str,
        *,
        replica: str | None = None,
        after: Position | None = None,
        event_id: str | None = None,
        ssl: Trust = True,
        options: ClientOptions | None = None,
    ) -> None:
        self._url = server_url(url) / _PATH.lstrip("/")
        self._token = token
        self._replica = clean_identifier("replica", replica) if replica is not None else None
        self._trust = trust(ssl)
        self._options = options or ClientOptions()
        self._progress = ClientProgress(after, event_id)
        self._inbox: Inbox[Incoming] = Inbox(
            self._options.max_waiting_events, max_bytes=self._options.max_waiting_bytes
        )
        self._connection: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._leaving = False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="gateway-client")
        self._task.add_done_callback(self._on_end)
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Send the last acknowledgements and close the connection in order, if the server answers soon."""
        self._leaving = True
        self._inbox.close()
        # Another task that still waits for an event gets this error.
        self._inbox.fail(SubscriptionClosed(NORMAL.reason))
        task, self._task = self._task, None
        if task is None:
            return
        try:
            if self._connection is not None:
                self._connection.leave()
                await asyncio.wait({task}, timeout=self._options.goodbye_time_limit)
        finally:
            task.cancel()
            await asyncio.wait({task})

    # --- what a gateway does ------------------------------------------------------------------------------------

    @property
    def position(self) -> Position | None:
        """Where to resume: store it, and pass it as `after` to the next client.

        Everything up to and including it was acknowledged, or rejected and the rejection is stored.
        """
        return self._progress.position

    @property
    def event_id(self) -> str | None:
        """The id of the event at `position`: store it beside the position, and pass it as `event_id`.

        None if this client did not receive that event.
        """
        return self._progress.event_id

    @property
    def connected(self) -> bool:
        """Whether there is a connection now, as far as this side can tell."""
        return self._connection is not None

    def events(self, *, on_resync: ResyncHandler | None = None) -> EventStream:
        """The events, one by one, as they arrive; ends only with an error.

        When the position cannot be resumed, the client awaits `on_resync`, which must read the desired state again.
        Delivery then continues after the position that `on_resync` receives.

        Raises while iterating:
            PositionLost: the position cannot be resumed, and there is no `on_resync`. Read the desired state again, and
                open another client with `after` set to the error's `resume_from`.
            Unauthenticated, Forbidden: the server refused the token.
            SubscriptionClosed: the server closed the connection for good (`reason` says why), or the client was closed.
            ProtocolViolation: the server does not speak `gatecast.v2`; or its certificate is not accepted, or gateways
                may not connect there (unless the options say `persistent`); or it repeatedly sends frames that can
                neither be read nor be placed in the log. The client rejects an unreadable event and delivers the next.
        """
        if self._task is None:
            raise RuntimeError("open it first: `async with GatewayClient(…) as gateway`")
        return EventStream(self._next, on_resync)

    async def acknowledge(self, event: GatewayEvent) -> None:
        """Acknowledge this event and every event before it.

        The client sends acknowledgements in the background and combines several into one.

        Raises:
            InvalidValue: the event did not come from this client.
        """
        self._progress.acknowledge(event.position)
        self._settled()

    async def reject(self, event: GatewayEvent, reason: str) -> None:
        """Reject this one event, because it cannot be applied; events before it are not affected.

        Raises:
            InvalidValue: the event did not come from this client.
        """
        self._progress.reject(event.position, reason)
        self._settled()

    async def run(self, handler: Handler, *, on_resync: ResyncHandler | None = None) -> None:
        """Pass every event to `handler`; acknowledge it when the handler returns, reject it when it raises Reject.

        Never returns. Any other error of the handler is raised, and the event is not acknowledged. Also raises what
        `events` raises.
        """
        async for event in self.events(on_resync=on_resync):
            try:
                await handler(event)
            except Reject as rejection:
                await self.reject(event, rejection.reason)
            else:
                await self.acknowledge(event)

    def _settled(self) -> None:
        if self._connection is not None:
            self._connection.acked()

    async def _next(self, on_resync: ResyncHandler | None) -> GatewayEvent:
        while True:
            item = await self._inbox.take()
            if isinstance(item, Delivered):
                self._progress.hand_out(item.position, item.event_id)
                return item
            if isinstance(item, Undeliverable):
                self._progress.hand_out(item.position)
                self._progress.reject(item.position, item.reason)
                self._settled()
                continue
            await self._resynchronize(item, on_resync)

    async def _resynchronize(self, item: ResyncDemand, on_resync: ResyncHandler | None) -> None:
        demand = item.demand
        if on_resync is None:
            error = PositionLost(demand.reason, resume_from=demand.position)
            self._inbox.fail(error)
            raise error
        await on_resync(demand.reason, demand.position)
        # Valid even if the connection ended meanwhile: the next one continues from here.
        self._progress.begin_behind(demand.position)
        if self._connection is item.connection:
            item.connection.resynchronized()

    # --- staying connected --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        plan = ReconnectPlan(self._options.reconnect, persistent=self._options.persistent)
        session = open_session(ssl=self._trust, headers={"api-key": self._token}, time_limit=UPGRADE_TIME_LIMIT)
        async with session:
            while not self._leaving:
                ending = await self._connect(session)
                pause = plan.pause_after(ending)
                if not self._leaving:
                    self._tell(ending, pause)
                    await asyncio.sleep(pause)

    def _tell(self, ending: Ending, pause: float) -> None:
        """Log how the connection ended: as a warning if it was never established, otherwise as a routine event."""
        server, pause = str(self._url.origin()), round(pause, 3)
        if isinstance(ending, Lost) and ending.useful:
            _logger.info("disconnected", server=server, ending=ending, pause=pause)
        else:
            _logger.warning("not-connected", server=server, ending=ending, pause=pause)

    async def _connect(self, session: aiohttp.ClientSession) -> Ending:
        """Make one attempt, and return how it ended."""
        # Read once: the user may acknowledge more during the upgrade, but the server was asked for this position.
        after, event_id = self.position, self.event_id
        try:
            async with asyncio.timeout(UPGRADE_TIME_LIMIT):
                socket = await open_socket(
                    session, str(self._target(after, event_id)), headers={}, protocols=(_PROTOCOL,)
                )
        except aiohttp.WSServerHandshakeError as refusal:
            retry_after = refusal.headers.get("Retry-After") if refusal.headers else None
            return Refused(refusal.status, parse_retry_after(retry_after))
        except aiohttp.ClientConnectorCertificateError as problem:
            return Unreachable(str(problem.certificate_error), distrusted=True)
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            return Unreachable(repr(problem))
        try:
            if socket.protocol != _PROTOCOL:
                raise ProtocolViolation(f"the server does not speak {_PROTOCOL}")
            return await self._speak(socket, after)
        finally:
            socket.release()

    async def _speak(self, socket: ClientSocket, after: Position | None) -> Lost:
        clock = asyncio.get_running_loop().time
        began_at = clock()
        session = ClientSession(after, now=began_at, limits=self._options.limits)
        connection = self._connection = ClientConnection(socket, session, self._progress, self._inbox)
        try:
            code = await connection.run()
        finally:
            self._connection = None
            # The server sends again what the user has not had yet.
            self._inbox.clear()
        lasted = clock() - began_at >= self._options.reconnect.useful_after
        return Lost(code, useful=lasted or self.position != after, unreadable=connection.unreadable)

    def _target(self, after: Position | None, event_id: str | None) -> URL:
        query = {
            "replica": self._replica,
            "after": str(after) if after else None,
            "event": event_id,
            "batch": str(self._options.max_batch_bytes) if self._options.max_batch_bytes > 0 else None,
        }
        return self._url.with_query({name: value for name, value in query.items() if value})

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """Pass the error that ended reconnecting on to the user."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._inbox.fail(error)


class EventStream:
    """Iterates over a client's events; one at a time."""

    def __init__(
        self,
        take: Callable[[ResyncHandler | None], Awaitable[GatewayEvent]],
        on_resync: ResyncHandler | None,
    ) -> None:
        self._take = take
        self._on_resync = on_resync

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> GatewayEvent:
        return await self._take(self._on_resync)
