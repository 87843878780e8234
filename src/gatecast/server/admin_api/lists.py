"""`/api/v1/artifacts`, `/api/v1/deployments` and `…/events/search`: found, counted and sorted by the database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, Field

from gatecast.controlplane.catalog.artifact_kinds import BY_KIND
from gatecast.controlplane.deployments.artifact_search import (
    ArtifactFilter,
    ArtifactSort,
    DeploymentFilter,
    ListedArtifact,
    ListedDeployment,
)
from gatecast.controlplane.deployments.placements import DeploymentState
from gatecast.controlplane.documents.texts import is_id
from gatecast.errors import InvalidValue
from gatecast.events import MAX_IDENTIFIER_LENGTH, MAX_INTEGER
from gatecast.server.admin_api.artifact_models import DeploymentView, StateName, deployment_view
from gatecast.server.admin_api.context import Context, Organization
from gatecast.server.admin_api.events import MAX_PAGE_BYTES, views_of
from gatecast.server.admin_api.gateways import status_of
from gatecast.server.admin_api.models import NEXT, EventState, EventView, Model
from gatecast.server.admin_api.named import GatewayInPath, artifact_id_of
from gatecast.server.admin_api.paths import After, Limit
from gatecast.storage.contract import EventSearch

router = APIRouter(prefix="/api/v1")

_KINDS = {str(kind): kind for kind in BY_KIND}

KindName: TypeAlias = Literal["LlmProvider", "LlmProxy", "Mcp", "RestApi"]
CurrentState: TypeAlias = Literal["PENDING", "DEPLOYED", "FAILED", "UNDEPLOYING", "UNDEPLOYED"]

_Text = Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")]
_Exactly = Annotated[
    str,
    Query(max_length=MAX_IDENTIFIER_LENGTH, pattern=r"^[^\x00]*$", description="Only events with exactly this value."),
]
_KindQuery = Annotated[KindName | None, Query(description="Only those of this kind.")]
_StateQuery = Annotated[list[CurrentState], Query(max_length=5, description="Only those in one of these states.")]


class StateCountView(Model):
    """How many gateways are in one state of an artifact."""

    gateways: int
    since: datetime = Field(description="When the change was first published.")


class ListedArtifactView(Model):
    """An artifact in a list, with how many gateways are in which state of it."""

    id: str
    kind: str = Field(examples=["LlmProvider"])
    collection: str = Field(description="Its path below `/api/v1/`.", examples=["llm-providers"])
    handle: str
    name: str
    version: str
    context: str = Field(description="The address at which it is served; empty: none.")
    created_at: datetime
    updated_at: datetime
    states: dict[StateName, StateCountView] = Field(
        description="Only states of at least one gateway. PENDING and UNDEPLOYING wait for gateways."
    )


class ArtifactPage(Model):
    """A page of artifacts."""

    items: list[ListedArtifactView]
    total: int = Field(description="How many match; 0 on a page after the last one.")
    next: str | None = Field(description=NEXT)


class ListedDeploymentView(DeploymentView):
    """What was last published to a gateway for an artifact."""

    kind: str = Field(examples=["LlmProvider"])
    artifact_id: str
    handle: str
    gateway_name: str
    runs: bool = Field(description="Whether the gateway should run it.")


class DeploymentsPage(Model):
    """A page of the last published deployments, by artifact and gateway name."""

    items: list[ListedDeploymentView]
    next: str | None = Field(description=NEXT)


class FoundEventsPage(Model):
    """Events that match, the newest first."""

    items: list[EventView]
    next: int | None = Field(
        description="Pass it as `before` to continue; also after a page without events, because one search looks at no "
        "more than 10,000. Null: everything was looked at."
    )


@router.get("/artifacts", tags=["fleet"])
async def list_artifacts(
    context: Context,
    organization: Organization,
    kind: _KindQuery = None,
    search: Annotated[_Text, Query(description="A part of the name or handle.")] = "",
    state: _StateQuery = [],  # noqa: B006 - FastAPI copies it
    sort: Annotated[ArtifactSort, Query(description="`changed`: the latest change comes first.")] = (
        ArtifactSort.HANDLE
    ),
    after: After = "",
    limit: Limit = 100,
) -> ArtifactPage:
    """A page of providers, proxies and APIs, with how many gateways are in which state of each."""
    wanted = ArtifactFilter(
        kind=_KINDS[kind] if kind else None, text=search, states=[DeploymentState(each) for each in state]
    )
    found = await context.control_plane.search.artifacts(organization, wanted, sort=sort, after=after, limit=limit)
    return ArtifactPage(
        items=[listed_artifact(each) for each in found.items], total=found.total, next=found.next or None
    )


@router.get("/deployments", tags=["fleet"])
async def list_deployments(
    context: Context,
    organization: Organization,
    kind: _KindQuery = None,
    artifact: Annotated[
        _Text, Query(description="Only those of the artifact with this id; or with this handle, together with `kind`.")
    ] = "",
    state: _StateQuery = [],  # noqa: B006 - FastAPI copies it
    search: Annotated[_Text, Query(description="A part of the gateway's name; only together with `artifact`.")] = "",
    after: After = "",
    limit: Limit = 100,
) -> DeploymentsPage:
    """A page of what was last published to gateways for artifacts, with their acknowledgements: the matrix of both."""
    if search and not artifact:
        raise InvalidValue("search", search, "come together with an artifact")
    if artifact and not is_id(artifact):
        if kind is None:
            raise InvalidValue("artifact", artifact, "be an id, or come together with the kind")
        artifact = await artifact_id_of(context, organization, BY_KIND[_KINDS[kind]].collection, artifact)
    wanted = DeploymentFilter(
        kind=_KINDS[kind] if kind else None,
        artifact_id=artifact,
        states=[DeploymentState(each) for each in state],
        gateway=search,
    )
    found = await context.control_plane.search.deployments(organization, wanted, after=_place(after), limit=limit + 1)
    items = [listed_deployment(each) for each in found[:limit]]
    last = items[-1] if len(found) > limit else None
    return DeploymentsPage(items=items, next=f"{last.kind}:{last.handle}:{last.gateway_name}" if last else None)


@router.get("/gateways/{gateway_id}/events/search", tags=["events"])
async def search_events(
    gateway_id: GatewayInPath,
    context: Context,
    organization: Organization,
    type: _Exactly = "",  # noqa: A002 - as events call it
    entity_type: Annotated[_Exactly, Query(alias="entityType")] = "",
    entity_id: Annotated[_Exactly, Query(alias="entityId")] = "",
    state: Annotated[EventState | None, Query(description="Only events known to be in this state.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Recorded then or later.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Recorded before.")] = None,
    before: Annotated[int | None, Query(ge=1, le=MAX_INTEGER, description="`next` of the previous page.")] = None,
    limit: Limit = 100,
) -> FoundEventsPage:
    """Events of a gateway's log that match, the newest first; at most 10,000 are looked at."""
    await context.gateways.get(organization, gateway_id)
    status = await status_of(context, gateway_id)
    wanted = EventSearch(
        gateway_id=gateway_id,
        type=type.strip(),
        entity_type=entity_type.strip(),
        entity_id=entity_id.strip(),
        state=state or "",
        since=since,
        until=until,
        before=before,
        max_events=limit,
        max_bytes=MAX_PAGE_BYTES,
    )
    found = await context.hub.engine.survey.search(wanted, confirmed=status.confirmed)
    return FoundEventsPage(items=await views_of(context, status, found.events), next=found.before)


def listed_artifact(artifact: ListedArtifact) -> ListedArtifactView:
    """An artifact as a list shows it."""
    return ListedArtifactView(
        id=artifact.id,
        kind=artifact.artifact_kind.kind.value,
        collection=artifact.artifact_kind.collection,
        handle=artifact.handle,
        name=artifact.name,
        version=artifact.version,
        context=artifact.context,
        created_at=artifact.created_at,
        updated_at=artifact.updated_at,
        states={
            state.value: StateCountView(gateways=count.number, since=datetime.fromtimestamp(count.since / 1000, UTC))
            for state, count in artifact.states.items()
        },
    )


def listed_deployment(listed: ListedDeployment) -> ListedDeploymentView:
    """A deployment as a list shows it."""
    return ListedDeploymentView(
        **dict(deployment_view(listed.deployment)),
        kind=listed.kind,
        artifact_id=listed.deployment.artifact_id,
        handle=listed.handle,
        gateway_name=listed.gateway_name,
        runs=listed.runs,
    )


def _place(after: str) -> tuple[str, str, str]:
    """The kind, handle and gateway name that a page begins after."""
    kind, _, rest = after.partition(":")
    handle, _, name = rest.partition(":")
    return kind, handle, name
