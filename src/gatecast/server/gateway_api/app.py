"""The gateway listener: what an unmodified gateway-controller, or a client of `gatecast.v2`, asks for.

Statuses are part of the protocol. 401, 403, 404, 409 and 422 on the upgrade or the manifest end the gateway's process,
so they are given only where that is meant; "I cannot tell" is 503, "not now" is 429 or 503 (promise P9).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from gatecast.controlplane.access.gateway_tokens import GatewayIdentity, GatewayTokens
from gatecast.controlplane.access.gateways import Gateways
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.gateway_sync.acknowledgements import UnservedDownload
from gatecast.delivery.subscription import Subscription
from gatecast.errors import GatecastError, HubClosed, InvalidValue, NotFound, StorageError, UnknownGateway
from gatecast.events import Position, clean_identifier, is_storable
from gatecast.hub import EventHub
from gatecast.protocol.session import SessionLimits, Version
from gatecast.server.admission import Admission, Refusal, client_address
from gatecast.server.error_replies import RETRY_AFTER
from gatecast.server.gateway_api.cohorts import Cohorts
from gatecast.server.gateway_api.conversations import CONVERSATIONS, Conversations, GiveAnswer
from gatecast.server.gateway_api.deployment_observer import DeploymentObserver
from gatecast.server.gateway_api.frame_socket import FrameSocket, Handshake, Upgraded
from gatecast.server.gateway_api.gateway_server import tell_place
from gatecast.server.gateway_api.gateway_socket import GatewaySocket, open_session
from gatecast.server.gateway_api.holding import Holding, Watch
from gatecast.server.gateway_api.request_bodies import MAX_FILE_BYTES, json_of
from gatecast.server.gateway_api.rest import Answer, GatewayRest
from gatecast.server.wait_policy import with_waiting
from gatecast.settings import Settings
from gatecast.storage.contract import Connection
from gatecast.telemetry import get_logger, metrics
from gatecast.telemetry.requests import REQUEST_ID_HEADER, name_request

#: Where gateways talk to us.
BASE_PATH = "/api/internal/v1"

#: Clients that offer this sub-protocol get explicit delivery.
SUBPROTOCOL = "gatecast.v2"

#: Checking a token and recording a connection may take this long, in seconds; then the client is asked to come back.
ADMISSION_TIME_LIMIT = 8.0

_logger = get_logger("gateway-api")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayContext:
    """The parts that the gateway listener works with."""

    hub: EventHub
    settings: Settings
    gateways: Gateways
    tokens: GatewayTokens
    admission: Admission
    #: The artifacts for gateways; None: there are none, so a lost position shows as needing resynchronization.
    control_plane: ControlPlane | None = None
    session_limits: SessionLimits = field(default_factory=SessionLimits)


#: Longest time to read the body of an HTTP request and answer it; in seconds.
ANSWER_TIME_LIMIT = 60.0

CONTEXT: web.AppKey[GatewayContext] = web.AppKey("context", GatewayContext)

#: Holds events back while gateways synchronize; present if there is a control plane.
HOLDING: web.AppKey[Holding] = web.AppKey("holding", Holding)

#: Connects gateways together that come at the same time.
COHORTS: web.AppKey[Cohorts] = web.AppKey("cohorts", Cohorts)


def create_gateway_app(context: GatewayContext) -> web.Application:
    """The application that the gateway listener serves."""
    app = web.Application(client_max_size=MAX_FILE_BYTES, middlewares=[tell_place, _request_lines, _errors_as_statuses])
    app[CONTEXT], app[CONVERSATIONS], app[COHORTS] = context, Conversations(), Cohorts()
    app.on_cleanup.append(app[CONVERSATIONS].end)
    app.router.add_get("/internal/gateway/.well-known", _no_discovery)
    app.router.add_get(f"{BASE_PATH}/ws/gateways/connect", connect)
    app.router.add_post(f"{BASE_PATH}/gateways/{{gateway_id}}/manifest", _identified(receive_manifest))
    if context.control_plane is not None:
        app[HOLDING] = Holding(context.control_plane.synchronizations, context.hub.delivery)
        for method, path, answer in GatewayRest(context.control_plane, app[HOLDING]).routes():
            app.router.add_route(method, BASE_PATH + path, _identified(answer))
    return app


def _identified(answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """A handler for authenticated gateways."""

    async def handler(request: web.Request) -> web.StreamResponse:
        with _noting_failure(request):
            async with asyncio.timeout(ANSWER_TIME_LIMIT):
                identity = await with_waiting(lambda: identify(request))
                if identity is None:
                    return refuse(401, "the api-key is missing, unknown or revoked")
                if not is_storable("".join(request.match_info.values())):
                    return refuse(404, "there is no resource of this name")
                return await answer(request, identity)

    return handler


#: A gateway asks for these once in the life of its process; without one it goes without everything in it.
_LISTS = frozenset({f"{BASE_PATH}/deployments", f"{BASE_PATH}/deployments/fetch-batch"})


@contextmanager
def _noting_failure(request: web.Request) -> Iterator[None]:
    """A download that fails because of us is not the gateway's failure: its event is published again."""
    try:
        yield
    except (web.HTTPException, InvalidValue, NotFound):
        raise
    except BaseException:
        control_plane, wanted = request.app[CONTEXT].control_plane, request.match_info
        artifact_id, secret = wanted.get("artifact_id", ""), wanted.get("handle", "")
        is_list = request.path in _LISTS
        if control_plane is not None and (artifact_id or secret or is_list):
            token = request.headers.get("api-key", "")
            control_plane.acknowledgements.report(UnservedDownload(token=token, artifact_id=artifact_id, secret=secret))
        raise


async def _no_discovery(_request: web.Request) -> web.Response:
    """404: a 200 would turn the client into on-prem mode, which switches most of the protocol off."""
    return refuse(404, "there is no discovery here; use the default paths")


@web.middleware
async def _request_lines(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Name each request, and log what was answered where that is asked for; a connection is named as its request."""
    name = name_request(request.headers.get(REQUEST_ID_HEADER))
    status, began_at = 0, time.monotonic()
    try:
        answer = await handler(request)
    except web.HTTPException as refusal:
        status = refusal.status
        raise
    else:
        status = answer.status
        if not answer.prepared:
            answer.headers[REQUEST_ID_HEADER] = name
        return answer
    finally:
        if request.app[CONTEXT].settings.access_log:
            took, peer = round(time.monotonic() - began_at, 6), request.remote
            _logger.info("answered", method=request.method, path=request.path, status=status, seconds=took, peer=peer)


@web.middleware
async def _errors_as_statuses(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Any internal error is 503: the client retries, and its process lives on."""
    try:
        return await handler(request)
    except web.HTTPException:
        raise
    except InvalidValue as error:
        return refuse(400, str(error))
    except NotFound as error:
        return refuse(404, str(error))
    except (StorageError, HubClosed, TimeoutError) as error:
        _logger.warning("cannot-tell", path=request.path, error=str(error) or type(error).__name__)
        return refuse(503, "the database cannot be asked now; come back")
    except (GatecastError, ConnectionError) as error:
        # A connection that broke off does not get this.
        return refuse(503, str(error))
    except Exception:
        _logger.exception("request-failed", path=request.path)
        return refuse(503, "something went wrong here; come back")


def refuse(status: int, description: str) -> web.Response:
    """A refusal in the shape that gateways log."""
    metrics.refused(status)
    body = {"code": status, "message": _MESSAGES.get(status, "Refused"), "description": description}
    headers = {"Retry-After": str(RETRY_AFTER)} if status in (429, 503) else None
    return web.json_response(body, status=status, headers=headers)


_MESSAGES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


async def identify(request: web.Request) -> GatewayIdentity | None:
    """The gateway that sends this request, by its `api-key`; None: unknown.

    Raises:
        StorageUnavailable: it is unknown now.
    """
    token = request.headers.get("api-key", "")
    return await request.app[CONTEXT].tokens.authenticate(token) if token else None


# --- the WebSocket ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _ConnectParameters:
    """The client's connect parameters."""

    version: Version
    replica: str = ""
    after: Position | None = None
    #: The id of the event at `after`, as the client has it.
    event_id: UUID | None = None
    #: Most bytes of a frame with several events that it takes; 0: it did not say, and takes one event in each.
    batch_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Caller:
    """The gateway that connects, its address, and its connect parameters."""

    identity: GatewayIdentity
    address: str
    parameters: _ConnectParameters


async def connect(request: web.Request) -> web.StreamResponse:
    """Admit a gateway, or refuse it before the upgrade; then it is spoken with until one side ends."""
    app, context = request.app, request.app[CONTEXT]
    address = _address(request, context.settings)
    if (refusal := context.admission.attempt(address)) is not None:
        return _refused(refusal)
    parameters = _connect_parameters(request)
    async with app[COHORTS].joined():
        async with asyncio.timeout(ADMISSION_TIME_LIMIT):
            identity = await identify(request)
        if identity is None:
            return refuse(401, "the api-key is missing, unknown or revoked")
        caller = _Caller(identity, address, parameters)

        def conversation(give_answer: GiveAnswer) -> Awaitable[web.StreamResponse]:
            return _admit(app, Handshake(request, give_answer), caller)

        # Answered once it is connected, while the conversation continues.
        return await app[CONVERSATIONS].begin(conversation)


async def _admit(app: web.Application, handshake: Handshake, caller: _Caller) -> web.StreamResponse:
    """The answer if the gateway is refused; otherwise this lasts as long as the connection."""
    admission, gateway_id = app[CONTEXT].admission, caller.identity.gateway_id
    if (refusal := admission.fits(gateway_id, caller.address)) is not None:
        return _refused(refusal)
    with admission.holding(gateway_id, caller.address):
        return await _serve(app, handshake, caller)


async def _serve(app: web.Application, handshake: Handshake, caller: _Caller) -> web.StreamResponse:
    context = app[CONTEXT]
    try:
        async with asyncio.timeout(ADMISSION_TIME_LIMIT):
            subscription = await _subscribe(context, caller)
    except UnknownGateway:
        # Deleted together with its tokens; with an outbox, its log may not be made yet.
        if context.hub.has_outbox and await context.tokens.confirm_use(caller.identity.token_id):
            return refuse(503, "the log of this new gateway is not made yet; come back")
        return refuse(401, "the gateway was deleted")
    try:
        async with asyncio.timeout(ADMISSION_TIME_LIMIT):
            # The connection is recorded now, so a revocation from here on finds it; an earlier one is found here.
            if not await context.tokens.confirm_use(caller.identity.token_id):
                return refuse(401, "the api-key was revoked")
        await _speak(app, handshake, caller, subscription)
    finally:
        subscription.close()
    return Upgraded()


async def _subscribe(context: GatewayContext, caller: _Caller) -> Subscription:
    identity, parameters = caller.identity, caller.parameters
    connection = Connection(
        connection_id=str(uuid4()),
        gateway_id=identity.gateway_id,
        replica=parameters.replica,
        pod_id=context.settings.pod_id,
        protocol=parameters.version,
        remote=caller.address,
        token_id=identity.token_id,
    )
    return await context.hub.delivery.subscribe(
        connection, after=parameters.after, event_id=parameters.event_id, newest_only=identity.newest_only
    )


async def _speak(app: web.Application, handshake: Handshake, caller: _Caller, subscription: Subscription) -> None:
    context = app[CONTEXT]
    if context.control_plane is None or caller.parameters.version is not Version.GATEWAY_V1:
        # A client of the other version gets an error that names the right one.
        with handshake.accept(SUBPROTOCOL) as socket:
            return await _converse(context, socket, caller, subscription, None)
    async with app[HOLDING].watch(caller.identity.gateway_id) as watch:
        with handshake.accept(SUBPROTOCOL) as socket:
            return await _converse(context, socket, caller, subscription, watch)


async def _converse(
    context: GatewayContext, socket: FrameSocket, caller: _Caller, subscription: Subscription, watch: Watch | None
) -> None:
    identity, version = caller.identity, caller.parameters.version
    session = open_session(subscription, version, context.session_limits, batch_bytes=caller.parameters.batch_bytes)
    metrics.connected(version, lost=subscription.start.lost is not None)
    _logger.info("connected", gateway=identity.gateway_id, version=version, start=str(subscription.start.position))
    observer = (
        DeploymentObserver(context.control_plane, identity, subscription, watch) if context.control_plane else None
    )
    conversation = GatewaySocket(
        socket,
        session,
        subscription,
        delivery=context.hub.delivery,
        observer=observer,
    )
    upkeep = None
    if watch is not None and observer is not None:
        upkeep = asyncio.create_task(
            observer.reconcile_when_read(partial(context.hub.delivery.resynchronized, subscription))
        )
    elif version is Version.GATEWAY_V1 and subscription.start.lost is not None:
        _logger.error("resync-needed", gateway=identity.gateway_id, reason=subscription.start.lost)
    try:
        await conversation.run(session.start(datetime.now(UTC)))
    finally:
        if upkeep is not None:
            upkeep.cancel()
        if observer is not None:
            observer.close()
        _logger.info("disconnected", gateway=identity.gateway_id, confirmed=str(subscription.confirmed))


def _connect_parameters(request: web.Request) -> _ConnectParameters:
    """The version that the client offers, and what only `gatecast.v2` may ask for."""
    offered = (part.strip() for part in request.headers.get("Sec-WebSocket-Protocol", "").split(","))
    if SUBPROTOCOL not in offered:
        return _ConnectParameters(Version.GATEWAY_V1)
    replica, after, event_id, batch = (request.query.get(name, "") for name in ("replica", "after", "event", "batch"))
    return _ConnectParameters(
        Version.GATECAST_V2,
        clean_identifier("replica", replica) if replica else "",
        Position.parse(after, field="after") if after else None,
        _uuid(event_id) if event_id else None,
        _batch_bytes(batch) if batch else 0,
    )


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidValue("event", text, "be the eventId of the event at `after`, a UUID") from None


def _batch_bytes(text: str) -> int:
    if _NUMBER_OF_BYTES.fullmatch(text) is None:
        raise InvalidValue(
            "batch", text, "be the most bytes of a frame with several events, a number of up to 9 digits"
        )
    return int(text)


_NUMBER_OF_BYTES = re.compile("[0-9]{1,9}")


def _address(request: web.Request, settings: Settings) -> str:
    peer = request.remote or "unknown"
    # A proxy may add a line of its own to what the client has sent: together they are one list.
    forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", ()))
    return client_address(peer, forwarded_for, settings.trusted_proxies)


def _refused(refusal: Refusal) -> web.Response:
    return refuse(refusal.status, refusal.problem)


# --- the manifest -----------------------------------------------------------------------------------------------------


async def receive_manifest(request: web.Request, identity: GatewayIdentity) -> web.Response:
    """Store what the gateway says of itself: its version and the policies that it knows.

    204 also when that cannot be stored: what it said before stays, and the fault is shown. A refusal would end the
    gateway's process, or be tried again at every connect, and the gateway cannot help what it has loaded.
    """
    if request.match_info["gateway_id"] != identity.gateway_id:
        return refuse(403, "the api-key belongs to another gateway")
    gateways = request.app[CONTEXT].gateways
    try:
        manifest = _object("manifest", await json_of(request))
        await with_waiting(lambda: gateways.record_manifest(identity.gateway_id, manifest))
    except InvalidValue as error:
        fault = str(error)
        _logger.warning("manifest-refused", gateway=identity.gateway_id, fault=fault)
        await with_waiting(lambda: gateways.record_manifest_fault(identity.gateway_id, fault))
    return web.Response(status=204)


def _object(field: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidValue(field, type(value).__name__, "be a JSON object")
    return value
