"""Roll-outs: which change has arrived where, as a matrix of artifacts and gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response

from gatecast.controlplane.deployments.artifact_search import (
    ArtifactFilter,
    ArtifactSearch,
    ArtifactSort,
    DeploymentFilter,
    ListedArtifact,
)
from gatecast.server.admin_api.context import Context
from gatecast.server.admin_api.lists import ListedDeploymentView, listed_deployment
from gatecast.server.console.pages.artifacts import STATE_FILTERS, states_named
from gatecast.server.console.rendering import page
from gatecast.server.console.routes import ConsoleRoute, Visitor

router = APIRouter(route_class=ConsoleRoute, include_in_schema=False)

#: Artifacts of one page, and gateways beside each of them: as many as a wide screen has room for.
_ROWS, _COLUMNS = 20, 8


@router.get("/rollouts")
async def show_rollouts(
    request: Request,
    context: Context,
    visitor: Visitor,
    q: Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")] = "",
    state: Annotated[str, Query(max_length=20)] = "",
    after: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """The latest changes, and their state on each gateway."""
    search = context.control_plane.search
    wanted = ArtifactFilter(text=q, states=states_named(state))
    found = await search.artifacts(visitor.organization, wanted, sort=ArtifactSort.CHANGED, after=after, limit=_ROWS)
    cells = await asyncio.gather(*(_cells(search, visitor.organization, each) for each in found.items))
    gateways = _columns(cells)
    filters = {name: value for name, value in (("q", q), ("state", state)) if value}
    return page(
        request,
        "rollouts.html",
        rows=list(zip(found.items, [{each.gateway_id: each for each in row} for row in cells], strict=True)),
        gateways=gateways,
        total=found.total,
        q=q,
        state=state,
        states=STATE_FILTERS,
        here=f"/rollouts?{urlencode({**filters, 'after': after})}",
        first=f"/rollouts?{urlencode(filters)}" if after else "",
        next=f"/rollouts?{urlencode({**filters, 'after': found.next})}" if found.next else "",
    )


async def _cells(search: ArtifactSearch, organization: str, artifact: ListedArtifact) -> list[ListedDeploymentView]:
    """An artifact's state on some gateways: failed and waiting ones before the others."""
    found: dict[str, ListedDeploymentView] = {}
    for name in ("failed", "waiting", ""):
        if len(found) < _COLUMNS:
            wanted = DeploymentFilter(artifact_id=artifact.id, states=states_named(name))
            for each in await search.deployments(organization, wanted, limit=_COLUMNS):
                found.setdefault(each.deployment.gateway_id, listed_deployment(each))
    return list(found.values())


def _columns(cells: Sequence[Sequence[ListedDeploymentView]]) -> list[tuple[str, str]]:
    """Ids and names of the gateways that the matrix shows, by name."""
    chosen: dict[str, str] = {}
    for place in range(_COLUMNS):
        for row in cells:
            if place < len(row) and len(chosen) < _COLUMNS:
                chosen.setdefault(row[place].gateway_id, row[place].gateway_name)
    return sorted(chosen.items(), key=lambda each: each[1])
