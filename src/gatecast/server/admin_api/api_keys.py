"""`…/api-keys`: the keys of artifacts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS, ArtifactKind
from gatecast.controlplane.deployments.api_keys import IssuedKey
from gatecast.server.admin_api.artifact_models import (
    ApiKeyList,
    IssuedApiKey,
    NewApiKey,
    RotatedApiKey,
    key_view,
)
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.named import ArtifactInPath
from gatecast.server.admin_api.paths import CREATED, KeyName, located
from gatecast.server.admin_api.waits import NOT_EVERYWHERE, ForEveryGateway, WaitPolicy

_WAITED: dict[int | str, dict[str, Any]] = {
    202: {"model": IssuedApiKey, "description": NOT_EVERYWHERE[202]["description"]}
}

#: The meaning of a request without a body.
_AS_BEFORE = RotatedApiKey(expires_at=None)


def key_router(artifact_kind: ArtifactKind) -> APIRouter:
    """The routes of the keys of one kind of artifact."""
    router = APIRouter(
        prefix=f"/api/v1/{artifact_kind.collection}/{{artifact_id}}/api-keys",
        tags=[artifact_kind.collection],
        route_class=JsonRoute,
    )

    @router.post(
        "",
        status_code=201,
        responses={**_WAITED, **CREATED},
        operation_id=f"create{artifact_kind.name}ApiKey",
        summary="Create an API key",
    )
    async def create(
        artifact_id: ArtifactInPath,
        body: NewApiKey,
        context: Context,
        organization: Organization,
        wait_policy: ForEveryGateway,
        response: Response,
    ) -> IssuedApiKey:
        """Create a key for every gateway that has the artifact. Its value is shown only once."""
        issued = await context.control_plane.keys.create(
            organization, artifact_kind, artifact_id, body.name, body.expires_at
        )
        located(response, artifact_kind.collection, artifact_id, "api-keys", issued.key.name)
        return await _issued(issued, wait_policy, response)

    @router.get("", operation_id=f"list{artifact_kind.name}ApiKeys", summary="List API keys")
    async def list_keys(artifact_id: ArtifactInPath, context: Context, organization: Organization) -> ApiKeyList:
        """The keys without their values, including the most recently revoked ones."""
        keys = await context.control_plane.keys.of_artifact(organization, artifact_kind, artifact_id)
        return ApiKeyList(items=[key_view(key) for key in keys])

    @router.post(
        "/{name}/rotate",
        responses=_WAITED,
        operation_id=f"rotate{artifact_kind.name}ApiKey",
        summary="Rotate an API key",
    )
    async def rotate(
        artifact_id: ArtifactInPath,
        name: KeyName,
        context: Context,
        organization: Organization,
        wait_policy: ForEveryGateway,
        response: Response,
        body: RotatedApiKey = _AS_BEFORE,
    ) -> IssuedApiKey:
        """Give a key a new value, which is shown only once. The old value stops working."""
        issued = await context.control_plane.keys.rotate(
            organization, artifact_kind, artifact_id, name, body.expires_at
        )
        return await _issued(issued, wait_policy, response)

    @router.delete(
        "/{name}",
        status_code=204,
        responses=NOT_EVERYWHERE,
        operation_id=f"revoke{artifact_kind.name}ApiKey",
        summary="Revoke an API key",
    )
    async def revoke(
        artifact_id: ArtifactInPath,
        name: KeyName,
        context: Context,
        organization: Organization,
        wait_policy: ForEveryGateway,
    ) -> Response:
        """Revoke a key on every gateway that has it."""
        receipts = await context.control_plane.keys.revoke(organization, artifact_kind, artifact_id, name)
        return await wait_policy.ended(receipts)

    return router


async def _issued(issued: IssuedKey, wait_policy: WaitPolicy, response: Response) -> IssuedApiKey:
    told = await wait_policy.told(issued.receipts)
    if wait_policy.waited_in_vain(told):
        response.status_code = 202
    return IssuedApiKey(**dict(key_view(issued.key)), value=issued.value, gateways=told)


ROUTERS = [key_router(artifact_kind) for artifact_kind in ARTIFACT_KINDS]
