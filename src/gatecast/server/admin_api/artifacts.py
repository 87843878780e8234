"""`/api/v1/llm-providers` and the other kinds of artifacts: what they are, where they run, and their keys.

The kinds differ only in their documents, so one function makes the routes of each kind. Some annotations are models
that are made here, so they are evaluated where they stand: nothing is imported from `__future__`.
"""

from typing import Annotated, Any, TypedDict

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field, create_model

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS, ArtifactKind
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


class _Asked:
    """A request that changes one deployment: what it may demand, and how it is answered."""

    def __init__(
        self,
        context: AdminContext,
        organization: str,
        request: Request,
        response: Response,
        *,
        if_match: str | None,
        wait: WaitFor | None,
        seconds: float,
    ) -> None:
        self._context = context
        self._request = request
        self._wait = wait
        self._seconds = seconds
        self.artifacts = context.control_plane.artifacts
        self.organization = organization
        self.response = response
        #: The version that the artifact must have; None: any.
        self.version = version_in(if_match)

    async def gateway_id(self, body: NewDeployment) -> str:
        """The id of the gateway that the body names."""
        [gateway_id] = await gateway_ids(self._context, self.organization, [body.gateway_id])
        return gateway_id

    async def answer(self, artifact_kind: ArtifactKind, deployment: Deployment) -> DeploymentView:
        """The deployment; if the request waits, once its gateway has acknowledged it, or with 202 when time is up."""

        async def look() -> DeploymentView:
            ids = (deployment.artifact_id, deployment.id)
            return deployment_view(await self.artifacts.deployment(self.organization, artifact_kind, *ids))

        # As the change has left it: the change is done, and a caller that retries would repeat it.
        view = deployment_view(deployment)
        if self._wait is not None:
            waiting = Wait(
                context=self._context, request=self._request, look=look, answers=_is_answered, seconds=self._seconds
            )
            view = await waiting.ended(view)
            self.response.status_code = self.response.status_code if _is_answered(view) else 202
        return view


async def _asked(
    context: Context,
    organization: Organization,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
    wait: WaitApplied = None,
    timeout: Timeout = 10,  # noqa: ASYNC109 - a parameter of the query
) -> _Asked:
    return _Asked(context, organization, request, response, if_match=if_match, wait=wait, seconds=timeout)


_DeploymentRequest = Annotated[_Asked, Depends(_asked)]


def artifact_router(artifact_kind: ArtifactKind) -> APIRouter:
    """The routes of one kind of artifact."""
    router = APIRouter(
        prefix=f"/api/v1/{artifact_kind.collection}", tags=[artifact_kind.collection], route_class=JsonRoute
    )
    _add_document_routes(router, artifact_kind)
    _add_deployment_routes(router, artifact_kind)
    return router


def _add_document_routes(router: APIRouter, artifact_kind: ArtifactKind) -> None:
    model = MODELS[artifact_kind.kind]
    new, replaced = (
        joined(f"New{model.__name__}", NewPlacing, model),
        joined(f"Put{model.__name__}", ChangedPlacing, model),
    )
    example, patch = shown(ARTIFACTS[artifact_kind.kind]), patch_schema(replaced)
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
        operation_id=f"create{artifact_kind.name}",
        summary=f"Create {_a(artifact_kind)}",
    )
    async def create(
        body: Annotated[new, Body(openapi_examples=example)],  # type: ignore[valid-type]
        context: Context,
        organization: Organization,
    ) -> JSONResponse:
        """Store an artifact and deploy it to the named gateways, in one transaction."""
        placing: NewPlacing = body
        gateways = await gateway_ids(context, organization, placing.gateways or ())
        created = await context.control_plane.artifacts.create(
            organization, artifact_kind, document_in(body, model, NewPlacing), handle=placing.handle, gateways=gateways
        )
        answer = _shown(created, status=201)
        located(answer, artifact_kind.collection, created.artifact.id)
        return answer

    @router.get(
        "", response_model=page, operation_id=f"list{artifact_kind.plural}", summary=f"List {artifact_kind.collection}"
    )
    async def list_page(
        context: Context, organization: Organization, after: After = "", limit: Limit = 100
    ) -> JSONResponse:
        """A page of artifacts, ordered by handle, without `openapi`, which may be large."""
        found = await context.control_plane.artifacts.page(organization, artifact_kind, after=after, limit=limit)
        running = await context.control_plane.artifacts.running_of(found.items, after=after)
        items = [_listed(artifact_view(each, running[each.id])) for each in found.items]
        return JSONResponse({"items": items, "next": found.next})

    @router.get(
        "/{artifact_id}",
        response_model=view,
        operation_id=f"get{artifact_kind.name}",
        summary=f"Show {_a(artifact_kind)}",
    )
    async def show(artifact_id: ArtifactInPath, context: Context, organization: Organization) -> JSONResponse:
        """One artifact, and the state of its deployment on each gateway."""
        return _shown(await context.control_plane.artifacts.placed(organization, artifact_kind, artifact_id))

    @router.put(
        "/{artifact_id}",
        response_model=view,
        operation_id=f"replace{artifact_kind.name}",
        summary=f"Replace {_a(artifact_kind)}",
    )
    async def replace(
        artifact_id: ArtifactInPath,
        body: Annotated[replaced, Body(openapi_examples=example)],  # type: ignore[valid-type]
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
        return _shown(await context.control_plane.artifacts.update(organization, artifact_kind, artifact_id, edit))

    @router.patch(
        "/{artifact_id}",
        response_model=view,
        operation_id=f"update{artifact_kind.name}",
        summary=f"Change {_a(artifact_kind)}",
    )
    async def change(
        artifact_id: ArtifactInPath,
        body: Annotated[dict[str, Any], Body(openapi_examples=shown(ARTIFACT_PATCH), json_schema_extra=patch)],
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
        return _shown(await context.control_plane.artifacts.update(organization, artifact_kind, artifact_id, edit))

    @router.delete(
        "/{artifact_id}",
        status_code=204,
        responses=NOT_EVERYWHERE,
        operation_id=f"delete{artifact_kind.name}",
        summary=f"Delete {_a(artifact_kind)}",
    )
    async def delete(
        artifact_id: ArtifactInPath,
        context: Context,
        organization: Organization,
        wait_policy: ForEveryGateway,
        if_match: IfMatch = None,
    ) -> Response:
        """Delete an artifact and its keys, and remove both from every gateway that ever had them."""
        version = version_in(if_match)
        receipts = await context.control_plane.artifacts.delete(
            organization, artifact_kind, artifact_id, version=version
        )
        return await wait_policy.ended(receipts)


def _add_deployment_routes(router: APIRouter, artifact_kind: ArtifactKind) -> None:
    path = "/{artifact_id}/deployments"
    waited: dict[int | str, dict[str, Any]] = {202: {"model": DeploymentView, "description": "Not acknowledged yet."}}

    @router.post(
        path,
        status_code=201,
        responses={**waited, **CREATED},
        operation_id=f"deploy{artifact_kind.name}",
        summary=f"Deploy {_a(artifact_kind)}",
    )
    async def deploy(
        artifact_id: ArtifactInPath,
        body: NewDeployment,
        asked: _DeploymentRequest,
    ) -> DeploymentView:
        """Deploy the artifact's present document to a gateway, as a new revision."""
        gateway_id = await asked.gateway_id(body)
        deployed = await asked.artifacts.deploy(
            asked.organization, artifact_kind, artifact_id, gateway_id, version=asked.version
        )
        located(asked.response, artifact_kind.collection, artifact_id, "deployments", deployed.id)
        return await asked.answer(artifact_kind, deployed)

    @router.get(
        path, operation_id=f"list{artifact_kind.name}Deployments", summary=f"List deployments of {_a(artifact_kind)}"
    )
    async def list_deployments(
        artifact_id: ArtifactInPath, context: Context, organization: Organization, after: After = "", limit: Limit = 100
    ) -> DeploymentPage:
        """A page of an artifact's revisions on all gateways, highest first. The last 20 of each gateway are kept."""
        found = await context.control_plane.artifacts.deployments(
            organization, artifact_kind, artifact_id, after=_cursor(after), limit=limit + 1
        )
        last = found[limit - 1] if len(found) > limit else None
        items = [deployment_view(each) for each in found[:limit]]
        return DeploymentPage(items=items, next=f"{last.revision}:{last.gateway_id}" if last else None)

    @router.get(
        f"{path}/{{deployment_id}}", operation_id=f"get{artifact_kind.name}Deployment", summary="Show a deployment"
    )
    async def show_deployment(
        artifact_id: ArtifactInPath, deployment_id: ResourceId, context: Context, organization: Organization
    ) -> DeploymentView:
        """One revision."""
        return deployment_view(
            await context.control_plane.artifacts.deployment(organization, artifact_kind, artifact_id, deployment_id)
        )

    @router.get(
        f"{path}/{{deployment_id}}/content",
        response_class=Response,
        responses=_YAML,
        operation_id=f"get{artifact_kind.name}DeploymentContent",
        summary="Show the content of a deployment",
    )
    async def show_content(
        artifact_id: ArtifactInPath, deployment_id: ResourceId, context: Context, organization: Organization
    ) -> Response:
        """The document that the gateway downloads for a revision. It never changes, and names secrets, not values."""
        text = await context.control_plane.artifacts.content(organization, artifact_kind, artifact_id, deployment_id)
        return Response(text, media_type="application/yaml")

    @router.post(
        f"{path}/{{deployment_id}}/restore",
        status_code=201,
        responses={**waited, **CREATED},
        operation_id=f"restore{artifact_kind.name}Deployment",
        summary="Restore a deployment",
    )
    async def restore(
        artifact_id: ArtifactInPath,
        deployment_id: ResourceId,
        asked: _DeploymentRequest,
    ) -> DeploymentView:
        """Deploy the content of an older revision to its gateway again, as a new revision."""
        restored = await asked.artifacts.restore(
            asked.organization, artifact_kind, artifact_id, deployment_id, version=asked.version
        )
        located(asked.response, artifact_kind.collection, artifact_id, "deployments", restored.id)
        return await asked.answer(artifact_kind, restored)

    @router.post(
        "/{artifact_id}/undeploy",
        responses=waited,
        operation_id=f"undeploy{artifact_kind.name}",
        summary=f"Undeploy {_a(artifact_kind)}",
    )
    async def undeploy(
        artifact_id: ArtifactInPath,
        body: NewDeployment,
        asked: _DeploymentRequest,
    ) -> DeploymentView:
        """Undeploy the artifact from a gateway. You can deploy or restore it again."""
        gateway_id = await asked.gateway_id(body)
        stopped = await asked.artifacts.undeploy(
            asked.organization, artifact_kind, artifact_id, gateway_id, version=asked.version
        )
        return await asked.answer(artifact_kind, stopped)


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
    """Where the page begins; an unknown cursor starts over."""
    revision, _, gateway_id = after.partition(":")
    is_ours = revision.isascii() and revision.isdigit() and len(revision) < 16  # noqa: PLR2004 - fits a bigint
    return (int(revision), gateway_id) if is_ours else _BEGINNING


def _a(artifact_kind: ArtifactKind) -> str:
    """`an LLM provider`, `a REST API`."""
    return f"{'an' if artifact_kind.noun[0] in 'LM' else 'a'} {artifact_kind.noun}"


ROUTERS = [artifact_router(artifact_kind) for artifact_kind in ARTIFACT_KINDS]
