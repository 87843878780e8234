"""Ids and names in paths, queries and bodies: wherever the one works, so does the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Request

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS
from gatecast.events import MAX_IDENTIFIER_LENGTH, clean_identifier
from gatecast.server.admin_api.context import AdminContext, Context, Organization

_BY_COLLECTION = {artifact_kind.collection: artifact_kind for artifact_kind in ARTIFACT_KINDS}


def is_id(text: str) -> bool:
    """Whether a text has the form of the ids that we make. What has is taken for one, whatever is called so."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


async def gateway_ids(context: AdminContext, organization: str, named: Iterable[str]) -> list[str]:
    """The ids of gateways that are named by ids or names, each once, in their order.

    Raises:
        NotFound: there is no gateway of some name. Whether there is one of an id is for whoever uses it to find out.
    """
    # Trimmed here, at the edge, like every id (scenario S17).
    given = [clean_identifier("gateway_id", each) for each in named]
    ids = await context.gateways.ids_of(organization, {each for each in given if not is_id(each)})
    return list(dict.fromkeys(ids.get(each, each) for each in given))


async def _gateway_id(
    gateway_id: Annotated[str, Path(max_length=MAX_IDENTIFIER_LENGTH, description="Its id, or its name.")],
    context: Context,
    organization: Organization,
) -> str:
    [found] = await gateway_ids(context, organization, [gateway_id])
    return found


async def _artifact_id(
    artifact_id: Annotated[str, Path(max_length=253, pattern=r"^[^\x00]*$", description="Its id, or its handle.")],
    request: Request,
    context: Context,
    organization: Organization,
) -> str:
    if is_id(artifact_id):
        return artifact_id
    artifact_kind = _BY_COLLECTION[request.scope["route"].path.split("/")[3]]
    return await context.control_plane.artifacts.id_of(organization, artifact_kind, artifact_id)


#: The id of a gateway that the path names.
GatewayInPath = Annotated[str, Depends(_gateway_id)]

#: The id of an artifact that the path names.
ArtifactInPath = Annotated[str, Depends(_artifact_id)]
