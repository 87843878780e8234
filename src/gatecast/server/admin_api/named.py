"""Ids and names in paths: wherever the one works, so does the other."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request
from pydantic import AfterValidator

from gatecast.controlplane.catalog.artifact_kinds import FAMILIES
from gatecast.events import clean_identifier
from gatecast.server.admin_api.context import Context, Organization

_BY_COLLECTION = {family.collection: family for family in FAMILIES}


def is_id(text: str) -> bool:
    """Whether a text has the form of the ids that we make. What has is taken for one, whatever is called so."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


async def _gateway_id(
    gateway_id: Annotated[
        str,
        Path(max_length=255, description="Its id, or its name."),
        # Trimmed here, at the edge, like every id (scenario S17).
        AfterValidator(lambda gateway_id: clean_identifier("gateway_id", gateway_id)),
    ],
    context: Context,
    organization: Organization,
) -> str:
    return gateway_id if is_id(gateway_id) else await context.gateways.id_of(organization, gateway_id)


async def _artifact_id(
    artifact_id: Annotated[str, Path(max_length=253, pattern=r"^[^\x00]*$", description="Its id, or its handle.")],
    request: Request,
    context: Context,
    organization: Organization,
) -> str:
    if is_id(artifact_id):
        return artifact_id
    family = _BY_COLLECTION[request.scope["route"].path.split("/")[3]]
    return await context.resources.artifacts.id_of(organization, family, artifact_id)


#: The id of a gateway that the path names.
GatewayInPath = Annotated[str, Depends(_gateway_id)]

#: The id of an artifact that the path names.
ArtifactInPath = Annotated[str, Depends(_artifact_id)]
