"""Ids and names in paths, queries and bodies: wherever the one works, so does the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Path, Request

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS
from gatecast.controlplane.documents.texts import is_id
from gatecast.events import MAX_IDENTIFIER_LENGTH, clean_identifier
from gatecast.server.admin_api.context import AdminContext, Context, Organization

_BY_COLLECTION = {artifact_kind.collection: artifact_kind for artifact_kind in ARTIFACT_KINDS}


async def gateway_ids(context: AdminContext, organization: str, named: Iterable[str]) -> list[str]:
    """The ids of gateways that are named by ids or names, each once, in their order.

    Raises:
        NotFound: there is no gateway of some name. Ids are not checked: the caller finds out when it uses them.
    """
    return list(dict.fromkeys((await ids_of_gateways(context, organization, named)).values()))


async def ids_of_gateways(context: AdminContext, organization: str, named: Iterable[str]) -> dict[str, str]:
    """The same, by what each of them was named by.

    Raises:
        NotFound: there is no gateway of some name.
    """
    # Trimmed here, at the edge, like every id (scenario S17).
    given = {each: clean_identifier("gateway_id", each) for each in named}
    ids = await context.gateways.ids_of(organization, {each for each in given.values() if not is_id(each)})
    return {each: ids.get(name, name) for each, name in given.items()}


async def artifact_id_of(context: AdminContext, organization: str, collection: str, named: str) -> str:
    """The id of an artifact in a collection, named by its id or its handle.

    Raises:
        NotFound: there is none of this handle.
    """
    if is_id(named):
        return named
    return await context.control_plane.artifacts.id_of(organization, _BY_COLLECTION[collection], named)


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
    collection = request.scope["route"].path.split("/")[3]
    return await artifact_id_of(context, organization, collection, artifact_id)


#: The id of a gateway that the path names.
GatewayInPath = Annotated[str, Depends(_gateway_id)]

#: The id of an artifact that the path names.
ArtifactInPath = Annotated[str, Depends(_artifact_id)]
