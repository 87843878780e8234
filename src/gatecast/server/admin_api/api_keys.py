"""`…/api-keys`: the keys of artifacts."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from gatecast.controlplane.catalog.artifact_kinds import FAMILIES, Family
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
from gatecast.server.admin_api.waits import NOT_EVERYWHERE, ForEveryGateway, Patience

_WAITED: dict[int | str, dict[str, Any]] = {
    202: {"model": IssuedApiKey, "description": NOT_EVERYWHERE[202]["description"]}
}

#: What a request without a body asks for.
_AS_BEFORE = RotatedApiKey(expires_at=None)


def key_router(family: Family) -> APIRouter:
    """The routes of the keys of one kind of artifact."""
    router = APIRouter(
        prefix=f"/api/v1/{family.collection}/{{artifact_id}}/api-keys", tags=[family.collection], route_class=JsonRoute
    )

    @router.post(
        "",
        status_code=201,
        responses={**_WAITED, **CREATED},
        operation_id=f"create{family.name}ApiKey",
        summary="Create an API key",
    )
    async def create(
        artifact_id: ArtifactInPath,
        body: NewApiKey,
        context: Context,
        organization: Organization,
        patience: ForEveryGateway,
        response: Response,
    ) -> IssuedApiKey:
        """Create a key for every gateway that has the artifact. Its value is shown only once."""
        issued = await context.resources.keys.create(organization, family, artifact_id, body.name, body.expires_at)
        located(response, family.collection, artifact_id, "api-keys", issued.key.name)
        return await _issued(issued, patience, response)

    @router.get("", operation_id=f"list{family.name}ApiKeys", summary="List API keys")
    async def list_keys(artifact_id: ArtifactInPath, context: Context, organization: Organization) -> ApiKeyList:
        """The keys without their values, including the most recently revoked ones."""
        keys = await context.resources.keys.of_artifact(organization, family, artifact_id)
        return ApiKeyList(items=[key_view(key) for key in keys])

    @router.post(
        "/{name}/rotate", responses=_WAITED, operation_id=f"rotate{family.name}ApiKey", summary="Rotate an API key"
    )
    async def rotate(
        artifact_id: ArtifactInPath,
        name: KeyName,
        context: Context,
        organization: Organization,
        patience: ForEveryGateway,
        response: Response,
        body: RotatedApiKey = _AS_BEFORE,
    ) -> IssuedApiKey:
        """Give a key a new value, which is shown only once. The old value stops working."""
        issued = await context.resources.keys.rotate(organization, family, artifact_id, name, body.expires_at)
        return await _issued(issued, patience, response)

    @router.delete(
        "/{name}",
        status_code=204,
        responses=NOT_EVERYWHERE,
        operation_id=f"revoke{family.name}ApiKey",
        summary="Revoke an API key",
    )
    async def revoke(
        artifact_id: ArtifactInPath,
        name: KeyName,
        context: Context,
        organization: Organization,
        patience: ForEveryGateway,
    ) -> Response:
        """Revoke a key on every gateway that has it."""
        receipts = await context.resources.keys.revoke(organization, family, artifact_id, name)
        return await patience.ended(receipts)

    return router


async def _issued(issued: IssuedKey, patience: Patience, response: Response) -> IssuedApiKey:
    told = await patience.told(issued.receipts)
    if patience.waited_in_vain(told):
        response.status_code = 202
    return IssuedApiKey(**dict(key_view(issued.key)), value=issued.value, gateways=told)


ROUTERS = [key_router(family) for family in FAMILIES]
