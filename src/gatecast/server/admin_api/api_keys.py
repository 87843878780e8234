"""`…/api-keys`: the keys of artifacts."""

from __future__ import annotations

from fastapi import APIRouter

from gatecast.controlplane.families import FAMILIES, Family
from gatecast.controlplane.keys import ApiKey
from gatecast.server.admin_api.artifact_models import (
    ApiKeyList,
    IssuedApiKey,
    NewApiKey,
    RotatedApiKey,
    key_view,
)
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.paths import KeyName, ResourceId


def key_router(family: Family) -> APIRouter:
    """The routes of the keys of one kind of artifact."""
    router = APIRouter(prefix=f"/api/v1/{family.collection}/{{artifact_id}}/api-keys", tags=[family.collection])

    @router.post("", status_code=201, summary="Create an API key")
    async def create(
        artifact_id: ResourceId, body: NewApiKey, context: Context, organization: Organization
    ) -> IssuedApiKey:
        """A new key for every gateway that has the artifact. Its value is shown now and never again."""
        key, value = await context.resources.keys.create(organization, family, artifact_id, body.name, body.expires_at)
        return _issued(key, value)

    @router.get("", summary="List API keys")
    async def list_keys(artifact_id: ResourceId, context: Context, organization: Organization) -> ApiKeyList:
        """The keys, the last revoked ones included, without their values."""
        keys = await context.resources.keys.of_artifact(organization, family, artifact_id)
        return ApiKeyList(items=[key_view(key) for key in keys])

    @router.post("/{name}/rotate", summary="Rotate an API key")
    async def rotate(
        artifact_id: ResourceId, name: KeyName, body: RotatedApiKey, context: Context, organization: Organization
    ) -> IssuedApiKey:
        """Give a key a new value, which is shown now and never again; the old one ends."""
        key, value = await context.resources.keys.rotate(organization, family, artifact_id, name, body.expires_at)
        return _issued(key, value)

    @router.delete("/{name}", status_code=204, summary="Revoke an API key")
    async def revoke(artifact_id: ResourceId, name: KeyName, context: Context, organization: Organization) -> None:
        """End a key on every gateway that has it."""
        await context.resources.keys.revoke(organization, family, artifact_id, name)

    return router


def _issued(key: ApiKey, value: str) -> IssuedApiKey:
    return IssuedApiKey(**dict(key_view(key)), value=value)


ROUTERS = [key_router(family) for family in FAMILIES]
