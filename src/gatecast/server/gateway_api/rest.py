"""The HTTP endpoints for gateways beside their socket (gateway-protocol.md section 3).

A list that cannot be produced is 503 and never empty: a gateway deletes what a list leaves out (scenario S37).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

from aiohttp import web

from gatecast.controlplane.access.gateway_tokens import GatewayIdentity
from gatecast.controlplane.catalog.api_key import ApiKey
from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS, LLM_PROVIDER, LLM_PROXY, REST_API, ArtifactKind
from gatecast.controlplane.control_plane import ControlPlane
from gatecast.controlplane.deployments.artifact_events import written
from gatecast.controlplane.gateway_sync.downloads import ListedDeployment, Secret
from gatecast.controlplane.gateway_sync.subscriptions import SubscriptionRecord
from gatecast.controlplane.gateway_sync.synchronizations import Call
from gatecast.errors import InvalidValue, NotFound, StorageError
from gatecast.events import is_storable
from gatecast.server.gateway_api.archives import imported, tar_of, zip_of
from gatecast.server.gateway_api.holding import Holding
from gatecast.server.gateway_api.request_bodies import file_of, json_of
from gatecast.server.wait_policy import with_waiting

#: Most deployments in one batch, and most artifacts in one request; a gateway asks for 50 deployments at a time, and
#: for all artifacts that it has.
MAX_BATCH = 500
MAX_QUESTION = 20_000

T = TypeVar("T")

Answer: TypeAlias = Callable[[web.Request, GatewayIdentity], Awaitable[web.StreamResponse]]


class GatewayRest:
    """Answers gateways, each about itself."""

    def __init__(self, control_plane: ControlPlane, holding: Holding) -> None:
        self._holding = holding
        self._files = control_plane.files
        self._desired_state = control_plane.desired_state
        self._imports = control_plane.imports
        self._subscriptions = control_plane.subscriptions
        #: One at a time: a package may be small and hold much.
        self._unpacking = asyncio.Lock()

    def routes(self) -> list[tuple[str, str, Answer]]:
        """Method, path and answer of everything that is here; the first path that fits counts."""
        called, answered = self._called, self._answered
        return [
            ("GET", "/deployments", called(self.deployments, Call.LIST)),
            ("POST", "/deployments/fetch-batch", called(self.fetch_batch)),
            ("POST", "/artifacts/exists", called(self.exist)),
            ("POST", "/artifacts/import-gateway-artifacts", self.import_artifacts),
            ("GET", "/secrets", called(self.secrets, Call.FIRST)),
            ("GET", "/secrets/{handle}/value", self.secret_value),
            ("GET", "/subscription-plans", called(self.plans)),
            ("GET", "/apis/{api_id}/subscriptions", called(self.api_subscriptions)),
            *(("GET", f"/{path}/api-keys", called(_no_keys)) for path in _OF_EVENT_GATEWAYS),
            *(
                ("GET", f"/{artifact_kind.download}/api-keys", called(self._keys_of(artifact_kind)))
                for artifact_kind in _WITH_KEYS
            ),
            ("GET", f"/{_LAST.download}/api-keys", answered(self._keys_of(_LAST))),
            *(
                ("GET", f"/{artifact_kind.download}/{{artifact_id}}", self._document_of(artifact_kind))
                for artifact_kind in ARTIFACT_KINDS
            ),
        ]

    # --- the order of calls -------------------------------------------------------------------------------------

    def _called(self, answer: Answer, call: Call = Call.OTHER) -> Answer:
        """The answer to one of the calls with which a gateway synchronizes."""

        async def noted(request: web.Request, identity: GatewayIdentity) -> web.StreamResponse:
            await with_waiting(lambda: self._holding.called(identity.gateway_id, call))
            return await answer(request, identity)

        return noted

    def _answered(self, answer: Answer) -> Answer:
        """The answer to the last one, which counts once the gateway has it."""

        async def noted(request: web.Request, identity: GatewayIdentity) -> web.StreamResponse:
            response = await sent(request, await answer(request, identity))
            # This failure can no longer be reported: events then continue a few seconds later.
            with suppress(StorageError):
                await self._holding.called(identity.gateway_id, Call.LAST)
            return response

        return noted

    # --- artifacts ----------------------------------------------------------------------------------------------

    async def deployments(self, _request: web.Request, identity: GatewayIdentity) -> web.Response:
        """What the gateway should run; read once, when its process starts."""
        await with_waiting(lambda: self._desired_state.note_listed(identity.gateway_id))
        listed = await with_waiting(lambda: self._files.deployments(identity.gateway_id))
        return web.json_response({"deployments": [_deployment(each) for each in listed]})

    async def fetch_batch(self, request: web.Request, identity: GatewayIdentity) -> web.StreamResponse:
        """The documents of some deployments. Deployments that it should not run are left out."""
        ids = await _strings(request, "deploymentIds", MAX_BATCH)
        contents = await with_waiting(lambda: self._files.contents(identity.gateway_id, ids))
        package = tar_of(contents)
        # Never with a content encoding: the gateway would unpack it twice.
        response = await sent(request, web.Response(body=package, content_type="application/x-tar+gzip"))
        with suppress(StorageError):
            await self._desired_state.note_fetched(identity.gateway_id, contents)
        return response

    async def exist(self, request: web.Request, identity: GatewayIdentity) -> web.Response:
        """Which of these the gateway should keep."""
        ids = await _strings(request, "artifactIds", MAX_QUESTION)
        existing = await with_waiting(lambda: self._files.existing(identity.gateway_id, ids))
        if orphans := set(ids) - existing:
            await with_waiting(lambda: self._desired_state.orphaned(identity.gateway_id, orphans))
        return web.json_response({"artifacts": [{"artifactId": each, "exists": each in existing} for each in ids]})

    def _document_of(self, artifact_kind: ArtifactKind) -> Answer:
        async def document(request: web.Request, identity: GatewayIdentity) -> web.StreamResponse:
            artifact_id = request.match_info["artifact_id"]
            content = await with_waiting(lambda: self._files.content(identity.gateway_id, artifact_kind, artifact_id))
            return await sent(request, web.Response(body=zip_of(content), content_type="application/zip"))

        return document

    async def import_artifacts(self, request: web.Request, identity: GatewayIdentity) -> web.Response:
        """What was made on the gateway itself: stored and shown."""
        package = await file_of(request, "artifacts")
        async with self._unpacking:
            items = await asyncio.to_thread(imported, package)
        results = await with_waiting(lambda: self._imports.store(identity.organization, identity.gateway_id, items))
        # This failure needs no report: the work is repeated.
        with suppress(StorageError, NotFound):
            await self._desired_state.began_anew(identity.organization, identity.gateway_id)
        failed = sum(bool(each.error) for each in results.values())
        shown = {
            local_id: {"id": each.id, "status": each.status, "error": each.error} for local_id, each in results.items()
        }
        counts = {"total": len(items), "success": len(results) - failed, "failed": len(items) - len(results) + failed}
        return web.json_response({**counts, "artifacts": shown})

    # --- secrets and keys ---------------------------------------------------------------------------------------

    async def secrets(self, request: web.Request, identity: GatewayIdentity) -> web.StreamResponse:
        """The secrets that its documents ask for."""
        with_values = request.query.get("includeValues", "").lower() == "true"
        found = await with_waiting(lambda: self._files.secrets(identity.gateway_id, with_values=with_values))
        listed = [_secret(each) for each in found]
        response = await sent(request, web.json_response({"list": listed, "count": len(listed)}))
        with suppress(StorageError):
            await self._holding.secrets_read(identity.gateway_id)
        return response

    async def secret_value(self, request: web.Request, identity: GatewayIdentity) -> web.StreamResponse:
        """The value of one of them."""
        handle = request.match_info["handle"]
        secret = await with_waiting(lambda: self._files.secret(identity.gateway_id, handle))
        return await sent(request, web.json_response({"value": secret.value}))

    def _keys_of(self, artifact_kind: ArtifactKind) -> Answer:
        async def keys(_request: web.Request, identity: GatewayIdentity) -> web.Response:
            # A gateway may ask for one issuer's only. It gets all, because it would delete the others.
            found = await with_waiting(lambda: self._files.keys(identity.gateway_id, artifact_kind.kind))
            return web.json_response([_key(each) for each in found])

        return keys

    # --- subscriptions ------------------------------------------------------------------------------------------

    async def plans(self, _request: web.Request, identity: GatewayIdentity) -> web.Response:
        """The subscription plans that were published to it."""
        found = await with_waiting(lambda: self._subscriptions.plans(identity.gateway_id))
        return web.json_response([_record(each, _PLAN_FIELDS) for each in found])

    async def api_subscriptions(self, request: web.Request, identity: GatewayIdentity) -> web.Response:
        """The subscriptions of one API that were published to it."""
        api_id = request.match_info["api_id"]
        await with_waiting(lambda: self._desired_state.named(identity.gateway_id, api_id))
        found = await with_waiting(lambda: self._subscriptions.of_api(identity.gateway_id, api_id))
        return web.json_response([_record(each, _SUBSCRIPTION_FIELDS) for each in found])


#: Keys of MCP proxies come by event only: gateways have no way to ask for them.
_WITH_KEYS = (REST_API, LLM_PROVIDER)

#: A gateway asks for the keys of this kind last.
_LAST = LLM_PROXY

#: Asked for by every gateway, meant for another product.
_OF_EVENT_GATEWAYS = ("websub-apis", "webbroker-apis")

_PLAN_FIELDS = (
    "planName",
    "billingPlan",
    "stopOnQuotaReach",
    "throttleLimitCount",
    "throttleLimitUnit",
    "expiryTime",
    "status",
)

_SUBSCRIPTION_FIELDS = (
    "apiId",
    "applicationId",
    "subscriptionToken",
    "subscriptionPlanId",
    "billingCustomerId",
    "billingSubscriptionId",
    "status",
)


async def sent(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Send a response now, so that what follows happens after it.

    Raises:
        ConnectionError: the peer has gone.
    """
    await response.prepare(request)
    await response.write_eof()
    return response


async def _no_keys(_request: web.Request, _identity: GatewayIdentity) -> web.StreamResponse:
    """There are no artifacts of these kinds, so there are no keys of them."""
    return web.json_response([])


def _deployment(listed: ListedDeployment) -> dict[str, str]:
    return {
        "artifactId": listed.artifact_id,
        "deploymentId": listed.deployment_id,
        "kind": listed.kind,
        "state": listed.desired,
        "deployedAt": written(listed.deployed_at),
        # Unique in every answer: a gateway ignores a document with a tag that it has seen, even if it has deleted the
        # first one since (gateway-protocol.md 3.4).
        "etag": str(uuid4()),
    }


def _secret(secret: Secret) -> dict[str, str]:
    shown = {
        "uuid": secret.handle,
        "handle": secret.handle,
        "name": secret.handle,
        "type": "GENERIC",
        "provider": "IN_BUILT",
        "status": "ACTIVE",
        "hash": secret.hash,
        "createdAt": secret.created_at,
        "updatedAt": secret.created_at,
    }
    return shown if secret.value is None else {**shown, "value": secret.value}


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "uuid": key.id,
        "name": key.name,
        "maskedApiKey": key.mask,
        "apiKeyHashes": {"sha256": key.sha256},
        "artifactUuid": key.artifact_id,
        "status": "active",
        "createdAt": written(key.created_at),
        "createdBy": "gatecast",
        # Newer than any event of this version: what an event has made under an id of the gateway's own becomes this
        # key, and is not removed because its id is not listed. Older than any event of a later version.
        "updatedAt": written(key.version + 1),
        "expiresAt": None if key.expires_at is None else written(key.expires_at),
        "source": "external",
        "externalRefId": None,
        "issuer": None,
    }


def _record(record: SubscriptionRecord, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id": record.id,
        **{name: record.fields.get(name) for name in names},
        "createdAt": record.created_at,
        "updatedAt": record.updated_at,
        # With its time, because a record that was deleted and made again begins at version 1 again.
        "etag": f"{record.id}:{record.version}:{record.updated_at}",
    }


async def _strings(request: web.Request, field: str, most: int) -> list[str]:
    """A field of the body that is a list of texts, each once, in their order."""
    body = await json_of(request)
    values = body.get(field) if isinstance(body, dict) else None
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise InvalidValue(field, type(values).__name__, "be a list of texts")
    if not is_storable("".join(values)):
        raise InvalidValue(field, "", "be texts without NUL and lone surrogates")
    if len(values) > most:
        raise InvalidValue(field, len(values), f"have at most {most:,} entries")
    return list(dict.fromkeys(values))
