"""`/api/v1/llm-providers` and the other kinds of artifacts: what they are, where they run, and their keys.

The kinds differ in their documents only, so the routes are made once for each family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypedDict, TypeVar

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, create_model

from gatecast.controlplane.catalog.artifact_kinds import FAMILIES, Family
from gatecast.controlplane.deployments.artifacts import Edit, PlacedArtifact
from gatecast.controlplane.deployments.placements import Deployment
from gatecast.controlplane.documents import MODELS, Artifact
from gatecast.controlplane.documents.rendering import API_VERSION
from gatecast.server.admin_api.artifact_models import (
    ChangedPlacing,
    DeploymentPage,
    DeploymentView,
    NewDeployment,
    NewPlacing,
    StoredPlacing,
    artifact_view,
    checked,
    deployment_view,
    document_dump,
    document_in,
    in_place,
    joined,
    names_of,
)
from gatecast.server.admin_api.context import AdminContext, Context, Organization
from gatecast.server.admin_api.examples import ARTIFACT_PATCH, ARTIFACTS, shown
from gatecast.server.admin_api.json_bodies import JsonRoute
from gatecast.server.admin_api.merge_patch import merged, patch_schema
from gatecast.server.admin_api.models import NEXT, Model
from gatecast.server.admin_api.named import ArtifactInPath, gateway_ids
from gatecast.server.admin_api.paths import (
    CREATED,
    After,
    IfMatch,
    Limit,
    ResourceId,
    Timeout,
    etag_of,
    located,
    version_in,
)
from gatecast.server.admin_api.waits import NOT_EVERYWHERE, ForEveryGateway, Wait, WaitFor

Route = TypeVar("Route", bound=Callable[..., Any])

WaitApplied = Annotated[
    WaitFor | None, Query(description="Answer when the gateway has acknowledged it; `confirmed` waits for the same.")
]

_YAML: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document, in YAML.",
        "content": {
            "application/yaml": {
                "schema": {"type": "object", "required": ["apiVersion", "kind", "metadata", "spec"]},
                "example": {"apiVersion": API_VERSION, "kind": "RestApi", "metadata": {"name": "orders"}, "spec": {}},
            }
        },
    }
}

#: Stands before every deployment.
_BEGINNING = (2**62, "")


def artifact_router(family: Family) -> APIRouter:
    """The routes of one kind of artifact."""
    router = APIRouter(prefix=f"/api/v1/{family.collection}", tags=[family.collection], route_class=JsonRoute)
    _add_document_routes(router, family)
    _add_deployment_routes(router, family)
    return router


def _add_document_routes(router: APIRouter, family: Family) -> None:
    model = MODELS[family.kind]
    new, replaced = (
        joined(f"New{model.__name__}", NewPlacing, model),
        joined(f"Put{model.__name__}", ChangedPlacing, model),
    )
    example, patch = shown(ARTIFACTS[family.kind]), patch_schema(replaced)
    view = joined(f"{model.__name__}View", StoredPlacing, model)
    page = create_model(
        f"{model.__name__}Page",
        __base__=Model,
        __doc__="A page, in the order of handles.",
        items=(list[view], ...),  # type: ignore[valid-type]
        next=(str | None, Field(description=NEXT)),
    )

    @router.post(
        "",
        status_code=201,
        response_model=view,
        responses=CREATED,
        operation_id=f"create{family.name}",
        summary=f"Create {_a(family)}",
    )
    @_with(body=Annotated[new, Body(openapi_examples=example)])
    async def create(body: NewPlacing, context: Context, organization: Organization) -> JSONResponse:
        """Store an artifact and deploy it to the named gateways, in one transaction."""
        gateways = await gateway_ids(context, organization, body.gateways or ())
        created = await context.resources.artifacts.create(
            organization, family, document_in(body, model, NewPlacing), handle=body.handle, gateways=gateways
        )
        answer = _shown(created, status=201)
        located(answer, family.collection, created.artifact.id)
        return answer

    @router.get("", response_model=page, operation_id=f"list{family.plural}", summary=f"List {family.collection}")
    async def list_page(
        context: Context, organization: Organization, after: After = "", limit: Limit = 100
    ) -> JSONResponse:
        """A page of artifacts, ordered by handle, without `openapi`, which may be large."""
        found = await context.resources.artifacts.page(organization, family, after=after, limit=limit + 1)
        running = await context.resources.artifacts.running_of(found[:limit], after=after)
        items = [_listed(artifact_view(each, running[each.id])) for each in found[:limit]]
        return JSONResponse({"items": items, "next": found[limit - 1].handle if len(found) > limit else None})

    @router.get("/{artifact_id}", response_model=view, operation_id=f"get{family.name}", summary=f"Show {_a(family)}")
    async def show(artifact_id: ArtifactInPath, context: Context, organization: Organization) -> JSONResponse:
        """One artifact, and the state of its deployment on each gateway."""
        return _shown(await context.resources.artifacts.placed(organization, family, artifact_id))

    @router.put(
        "/{artifact_id}", response_model=view, operation_id=f"replace{family.name}", summary=f"Replace {_a(family)}"
    )
    @_with(body=Annotated[replaced, Body(openapi_examples=example)])
    async def replace(
        artifact_id: ArtifactInPath,
        body: ChangedPlacing,
        context: Context,
        organization: Organization,
        if_match: IfMatch = None,
    ) -> JSONResponse:
        """Replace the document, and deploy the new revision to every gateway that runs the artifact.

        A gateway that `gateways` leaves out must be named in `undeploy`. Keys are never touched.
        """
        document = document_in(body, model, ChangedPlacing)
        placed = await _placed(context, organization, body)
        edit = Edit(document=lambda stored: in_place(document, stored), version=version_in(if_match), **placed)
        return _shown(await context.resources.artifacts.update(organization, family, artifact_id, edit))

    @router.patch(
        "/{artifact_id}", response_model=view, operation_id=f"update{family.name}", summary=f"Change {_a(family)}"
    )
    @_with(body=Annotated[dict[str, Any], Body(openapi_examples=shown(ARTIFACT_PATCH), json_schema_extra=patch)])
    async def change(
        artifact_id: ArtifactInPath,
        body: dict[str, Any],
        context: Context,
        organization: Organization,
        if_match: IfMatch = None,
    ) -> JSONResponse:
        """Change the fields that the body names, and no others. The body is a JSON merge patch (RFC 7396)."""
        placing = checked(ChangedPlacing, {name: body[name] for name in names_of(ChangedPlacing) & body.keys()})
        changes = {name: value for name, value in body.items() if name not in names_of(ChangedPlacing)}

        def edited(stored: Artifact) -> Artifact:
            return in_place(checked(model, merged(document_dump(stored), changes)), stored)

        placed = await _placed(context, organization, placing)
        edit = Edit(document=edited, version=version_in(if_match), **placed)
        return _shown(await context.resources.artifacts.update(organization, family, artifact_id, edit))

    @router.delete(
        "/{artifact_id}",
        status_code=204,
        responses=NOT_EVERYWHERE,
        operation_id=f"delete{family.name}",
        summary=f"Delete {_a(family)}",
    )
    async def delete(
        artifact_id: ArtifactInPath,
        context: Context,
        organization: Organization,
        patience: ForEveryGateway,
        if_match: IfMatch = None,
    ) -> Response:
        """Delete an artifact and its keys, and remove both from every gateway that ever had them."""
        version = version_in(if_match)
        receipts = await context.resources.artifacts.delete(organization, family, artifact_id, version=version)
        return await patience.ended(receipts)


def _add_deployment_routes(router: APIRouter, family: Family) -> None:
    path = "/{artifact_id}/deployments"
    waited: dict[int | str, dict[str, Any]] = {202: {"model": DeploymentView, "description": "Not acknowledged yet."}}

    @router.post(
        path,
        status_code=201,
        responses={**waited, **CREATED},
        operation_id=f"deploy{family.name}",
        summary=f"Deploy {_a(family)}",
    )
    async def deploy(
        artifact_id: ArtifactInPath,
        body: NewDeployment,
        context: Context,
        organization: Organization,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
        wait: WaitApplied = None,
        timeout: Timeout = 10,  # noqa: ASYNC109
    ) -> DeploymentView:
        """Deploy the artifact's present document to a gateway, as a new revision."""
        [gateway_id] = await gateway_ids(context, organization, [body.gateway_id])
        deployed = await context.resources.artifacts.deploy(
            organization, family, artifact_id, gateway_id, version=version_in(if_match)
        )
        located(response, family.collection, artifact_id, "deployments", deployed.id)
        return await answer(context, organization, deployed, request, response, wait, timeout)

    @router.get(path, operation_id=f"list{family.name}Deployments", summary=f"List deployments of {_a(family)}")
    async def list_deployments(
        artifact_id: ArtifactInPath, context: Context, organization: Organization, after: After = "", limit: Limit = 100
    ) -> DeploymentPage:
        """A page of an artifact's revisions on all gateways, highest first. The last 20 of each gateway are kept."""
        found = await context.resources.artifacts.deployments(
            organization, family, artifact_id, after=_cursor(after), limit=limit + 1
        )
        last = found[limit - 1] if len(found) > limit else None
        items = [deployment_view(each) for each in found[:limit]]
        return DeploymentPage(items=items, next=f"{last.revision}:{last.gateway_id}" if last else None)

    @router.get(f"{path}/{{deployment_id}}", operation_id=f"get{family.name}Deployment", summary="Show a deployment")
    async def show_deployment(
        artifact_id: ArtifactInPath, deployment_id: ResourceId, context: Context, organization: Organization
    ) -> DeploymentView:
        """One revision."""
        return deployment_view(
            await context.resources.artifacts.deployment(organization, family, artifact_id, deployment_id)
        )

    @router.get(
        f"{path}/{{deployment_id}}/content",
        response_class=Response,
        responses=_YAML,
        operation_id=f"get{family.name}DeploymentContent",
        summary="Show what a deployment consists of",
    )
    async def show_content(
        artifact_id: ArtifactInPath, deployment_id: ResourceId, context: Context, organization: Organization
    ) -> Response:
        """The document that the gateway downloads for a revision. It never changes, and names secrets, not values."""
        text = await context.resources.artifacts.content(organization, family, artifact_id, deployment_id)
        return Response(text, media_type="application/yaml")

    @router.post(
        f"{path}/{{deployment_id}}/restore",
        status_code=201,
        responses={**waited, **CREATED},
        operation_id=f"restore{family.name}Deployment",
        summary="Restore a deployment",
    )
    async def restore(
        artifact_id: ArtifactInPath,
        deployment_id: ResourceId,
        context: Context,
        organization: Organization,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
        wait: WaitApplied = None,
        timeout: Timeout = 10,  # noqa: ASYNC109
    ) -> DeploymentView:
        """Deploy the content of an older revision to its gateway again, as a new revision."""
        restored = await context.resources.artifacts.restore(
            organization, family, artifact_id, deployment_id, version=version_in(if_match)
        )
        located(response, family.collection, artifact_id, "deployments", restored.id)
        return await answer(context, organization, restored, request, response, wait, timeout)

    @router.post(
        "/{artifact_id}/undeploy",
        responses=waited,
        operation_id=f"undeploy{family.name}",
        summary=f"Undeploy {_a(family)}",
    )
    async def undeploy(
        artifact_id: ArtifactInPath,
        body: NewDeployment,
        context: Context,
        organization: Organization,
        request: Request,
        response: Response,
        if_match: IfMatch = None,
        wait: WaitApplied = None,
        timeout: Timeout = 10,  # noqa: ASYNC109
    ) -> DeploymentView:
        """Undeploy the artifact from a gateway. You can deploy or restore it again."""
        [gateway_id] = await gateway_ids(context, organization, [body.gateway_id])
        stopped = await context.resources.artifacts.undeploy(
            organization, family, artifact_id, gateway_id, version=version_in(if_match)
        )
        return await answer(context, organization, stopped, request, response, wait, timeout)

    async def answer(
        context: AdminContext,
        organization: str,
        deployment: Deployment,
        request: Request,
        response: Response,
        wait: WaitFor | None,
        seconds: float,
    ) -> DeploymentView:
        artifacts = context.resources.artifacts

        async def look() -> DeploymentView:
            ids = (deployment.artifact_id, deployment.id)
            return deployment_view(await artifacts.deployment(organization, family, *ids))

        # As the change has left it: it is done, and whoever asks again would do it twice.
        view = deployment_view(deployment)
        if wait is not None:
            waiting = Wait(context=context, request=request, look=look, answers=_is_answered, seconds=seconds)
            view = await waiting.ended(view)
            response.status_code = response.status_code if _is_answered(view) else 202
        return view


class _Placed(TypedDict):
    """Where a changed artifact should run and should not, by the ids of gateways."""

    gateways: list[str] | None
    undeploy: list[str]


async def _placed(context: AdminContext, organization: str, placing: ChangedPlacing) -> _Placed:
    gateways = None if placing.gateways is None else await gateway_ids(context, organization, placing.gateways)
    return _Placed(gateways=gateways, undeploy=await gateway_ids(context, organization, placing.undeploy))


def _is_answered(view: DeploymentView) -> bool:
    return view.state not in ("PENDING", "UNDEPLOYING")


def _shown(placed: PlacedArtifact, *, status: int = 200) -> JSONResponse:
    view = artifact_view(placed.artifact, placed.running, placed.clashes)
    return JSONResponse(view, status_code=status, headers={"ETag": etag_of(placed.artifact.version)})


def _listed(view: dict[str, Any]) -> dict[str, Any]:
    """Without what may be large, or takes long to find."""
    return {name: value for name, value in view.items() if name not in ("openapi", "clashes")}


def _cursor(after: str) -> tuple[int, str]:
    """Where the page begins; a cursor that is none of ours begins at the beginning."""
    revision, _, gateway_id = after.partition(":")
    is_ours = revision.isascii() and revision.isdigit() and len(revision) < 16  # noqa: PLR2004 - fits a bigint
    return (int(revision), gateway_id) if is_ours else _BEGINNING


def _a(family: Family) -> str:
    """`an LLM provider`, `a REST API`."""
    return f"{'an' if family.noun[0] in 'LM' else 'a'} {family.noun}"


def _with(**annotations: object) -> Callable[[Route], Route]:
    """Tell the framework the models of parameters that are made at run time."""

    def annotated(route: Route) -> Route:
        route.__annotations__.update(annotations)
        return route

    return annotated


ROUTERS = [artifact_router(family) for family in FAMILIES]
