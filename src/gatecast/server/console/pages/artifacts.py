"""Providers, proxies and APIs: the list of each kind, one of them with its parts, and what can be done with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import RedirectResponse

from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS, ArtifactKind
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.deployments.api_keys import IssuedKey
from gatecast.controlplane.deployments.artifact_search import ArtifactFilter, ArtifactSort, DeploymentFilter
from gatecast.controlplane.deployments.artifacts import Running
from gatecast.controlplane.deployments.placements import WAITING, Deployment, DeploymentState, Desired
from gatecast.errors import Conflict, InvalidValue, NotFound
from gatecast.server.admin_api.artifact_models import artifact_view, deployment_view, key_view
from gatecast.server.admin_api.context import AdminContext, Context
from gatecast.server.admin_api.lists import listed_deployment
from gatecast.server.admin_api.named import gateway_ids
from gatecast.server.admin_api.paths import KeyName, ResourceId
from gatecast.server.console.rendering import SECURITY_HEADERS, page
from gatecast.server.console.routes import ArtifactOfPage, ConsoleRoute, Visitor

#: Rows of one page.
_ROWS = 50

_TITLES = {
    "llm-providers": (
        "LLM providers",
        "Services that answer prompts, and which of their operations callers may use.",
        "",
    ),
    "llm-proxies": ("LLM proxies", "Endpoints that applications call: a provider with its own policies.", "proxy"),
    "mcp-proxies": ("MCP proxies", "Tools for agents, behind a gateway.", "mcp"),
    "rest-apis": ("REST APIs", "HTTP interfaces, behind a gateway.", "api"),
}

#: Tabs that show a part of the document, by the fields that they show, and what is said where those are empty.
_PARTS = {
    "access": (
        "Access control",
        ("accessControl", "security"),
        ("Open", "Every path is served to every caller that reaches the gateway."),
    ),
    "limits": ("Rate limits", ("rateLimits",), ("No limit", "Gateways let through as much as callers ask for.")),
    "guardrails": (
        "Guardrails",
        ("globalPolicies", "operationPolicies", "policies"),
        ("No guardrail", "No policy looks at requests or answers."),
    ),
}

_TABS = [
    ("overview", "Overview"),
    ("keys", "Keys"),
    *((name, title) for name, (title, *_) in _PARTS.items()),
    ("revisions", "Revisions"),
    ("yaml", "YAML"),
]

#: Before every deployment.
_BEGINNING = (2**62, "")


#: The filters of lists, by their names in addresses.
STATE_FILTERS = {
    "waiting": ("waiting for gateways", tuple(sorted(WAITING))),
    "failed": ("failed", (DeploymentState.FAILED,)),
    "deployed": ("deployed", (DeploymentState.DEPLOYED,)),
    "undeployed": ("undeployed", (DeploymentState.UNDEPLOYED,)),
}

#: So many gateways are offered to deploy to; others are named.
_OFFERED = 100


def states_named(name: str) -> Sequence[DeploymentState]:
    """The states that a filter selects; empty: all."""
    return STATE_FILTERS[name][1] if name in STATE_FILTERS else ()


@dataclass(frozen=True, slots=True)
class _Shown:
    """The part of an artifact that a page shows."""

    tab: str = "overview"
    deployment: str = ""
    #: The revision that it is compared with.
    other: str = ""
    #: Only gateways in this state, with this in their names, after this name.
    state: str = ""
    q: str = ""
    after: str = ""

    def query(self, **changes: str) -> str:
        """The same in an address."""
        values = {name: getattr(self, name) for name in ("tab", "deployment", "other", "state", "q", "after")} | changes
        return urlencode({name: value for name, value in values.items() if value})


_Short = Annotated[str, Query(max_length=20)]
_Id = Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")]
_Text = Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")]


async def _shown_part(
    tab: _Short = "overview",
    deployment: _Id = "",
    other: _Id = "",
    state: _Short = "",
    q: _Text = "",
    after: _Text = "",
) -> _Shown:
    known = tab in dict(_TABS) or tab == "difference"
    return _Shown(tab=tab if known else "overview", deployment=deployment, other=other, state=state, q=q, after=after)


ShownPart = Annotated[_Shown, Depends(_shown_part)]


class ArtifactPages:
    """The pages of one kind of artifact."""

    def __init__(self, artifact_kind: ArtifactKind) -> None:
        self._artifact_kind = artifact_kind
        self._title, self._about, self._command = _TITLES[artifact_kind.collection]

    def router(self) -> APIRouter:
        """The routes of these pages."""
        router = APIRouter(
            prefix=f"/{self._artifact_kind.collection}", route_class=ConsoleRoute, include_in_schema=False
        )
        router.add_api_route("", self.list_artifacts, methods=["GET"])
        router.add_api_route("/{artifact_id}", self.show_artifact, methods=["GET"])
        name = self._artifact_kind.name
        for path, answer, operation in (
            ("/keys", self.create_key, f"create{name}ApiKey"),
            ("/keys/{name}/rotate", self.rotate_key, f"rotate{name}ApiKey"),
            ("/keys/{name}/revoke", self.revoke_key, f"revoke{name}ApiKey"),
            ("/deployments/{deployment_id}/restore", self.restore, f"restore{name}Deployment"),
            ("/deploy", self.deploy, f"deploy{name}"),
            ("/undeploy", self.undeploy, f"undeploy{name}"),
            ("/delete", self.delete, f"delete{name}"),
        ):
            router.add_api_route(f"/{{artifact_id}}{path}", answer, methods=["POST"], operation_id=operation)
        return router

    async def list_artifacts(
        self,
        request: Request,
        context: Context,
        visitor: Visitor,
        q: Annotated[str, Query(max_length=120, pattern=r"^[^\x00]*$")] = "",
        state: Annotated[str, Query(max_length=20)] = "",
        sort: Annotated[str, Query(max_length=20)] = ArtifactSort.HANDLE,
        after: Annotated[str, Query(max_length=300, pattern=r"^[^\x00]*$")] = "",
    ) -> Response:
        """A page of them, with how many gateways are in which state of each."""
        order = ArtifactSort(sort) if sort in list(ArtifactSort) else ArtifactSort.HANDLE
        wanted = ArtifactFilter(kind=self._artifact_kind.kind, text=q, states=states_named(state))
        found = await context.control_plane.search.artifacts(
            visitor.organization, wanted, sort=order, after=after, limit=_ROWS
        )
        filters = {name: value for name, value in (("q", q), ("state", state), ("sort", order)) if value}
        return page(
            request,
            "artifacts.html",
            artifact_kind=self._artifact_kind,
            title=self._title,
            about=self._about,
            command=self._command,
            items=found.items,
            total=found.total,
            q=q,
            state=state,
            states=STATE_FILTERS,
            sort=order,
            sorted={each.value: f"?{urlencode({**filters, 'sort': each})}" for each in ArtifactSort},
            here=f"{request.url.path}?{urlencode({**filters, 'after': after})}",
            first=f"?{urlencode(filters)}" if after else "",
            next=f"?{urlencode({**filters, 'after': found.next})}" if found.next else "",
        )

    async def show_artifact(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage, shown: ShownPart
    ) -> Response:
        """One of them."""
        return self._page(request, await self._read(context, visitor.organization, artifact_id, shown))

    async def _read(self, context: AdminContext, organization: str, artifact_id: str, shown: _Shown) -> dict[str, Any]:
        artifact = await context.control_plane.artifacts.get(organization, self._artifact_kind, artifact_id)
        running = await context.control_plane.artifacts.running(artifact_id)
        view = artifact_view(artifact, running)
        tab_title, part_fields, tab_empty = _PARTS.get(shown.tab, ("", (), ("", "")))
        return {
            "artifact": artifact,
            "document": artifact.document,
            "tab": shown.tab,
            "tab_title": tab_title,
            "tab_empty": tab_empty,
            "part": {name: view[name] for name in part_fields if name in view},
            "facts": _facts(view),
            "shown": shown,
            "here": f"/{self._artifact_kind.collection}/{quote(artifact_id)}?{shown.query()}",
            **await self._tab(context, artifact, running, shown),
        }

    def _page(self, request: Request, read: Mapping[str, Any], *, secret: str = "", problem: str = "") -> Response:
        """The page, with a key that was just created, or with a mistake."""
        parts = {"artifact_kind": self._artifact_kind, "title": self._title, "tabs": _TABS, **read}
        return page(request, "artifact.html", **parts, secret=secret, problem=problem)

    async def _tab(
        self, context: AdminContext, artifact: StoredArtifact, running: Sequence[Running], shown: _Shown
    ) -> dict[str, Any]:
        """The content of one tab."""
        place = (artifact.organization, self._artifact_kind, artifact.id)
        artifacts = context.control_plane.artifacts
        match shown.tab:
            case "keys":
                return {"keys": [key_view(each) for each in await context.control_plane.keys.of_artifact(*place)]}
            case "revisions":
                return await self._revisions(context, place)
            case "difference":
                return await self._revisions(context, place) | await self._difference(context, place, shown, running)
            case "yaml":
                deployment_id = shown.deployment or (running[0].deployment.id if running else "")
                return {"yaml": await artifacts.content(*place, deployment_id) if deployment_id else ""}
            case "overview":
                return await self._rollout(context, artifact, running, shown)
        return {}

    async def _rollout(
        self, context: AdminContext, artifact: StoredArtifact, running: Sequence[Running], shown: _Shown
    ) -> dict[str, Any]:
        """The state on each gateway, and the gateways where it could run as well."""
        wanted = DeploymentFilter(artifact_id=artifact.id, states=states_named(shown.state), gateway=shown.q)
        search = context.control_plane.search
        place = (self._artifact_kind.kind, artifact.handle, shown.after)
        found = await search.deployments(artifact.organization, wanted, after=place, limit=_ROWS + 1)
        standings = (await context.fleets.look(artifact.organization)).standings
        on_page = {each.deployment.gateway_id for each in found}
        runs_on = _running_on(running)
        elsewhere = [each.gateway for each in standings if each.id not in runs_on]
        return {
            "placed": [(listed_deployment(each), each) for each in found[:_ROWS]],
            "connected": {each.id for each in standings if each.id in on_page and each.connected},
            "counts": (await search.states([artifact.id])).get(artifact.id, {}),
            "states": STATE_FILTERS,
            "next": f"?{shown.query(after=found[_ROWS - 1].gateway_name)}" if len(found) > _ROWS else "",
            "elsewhere": elsewhere[:_OFFERED],
            "elsewhere_more": len(elsewhere) > _OFFERED,
        }

    async def _revisions(self, context: AdminContext, place: tuple[str, ArtifactKind, str]) -> dict[str, Any]:
        """The newest revisions, with the names of their gateways."""
        found = await context.control_plane.artifacts.deployments(*place, after=_BEGINNING, limit=_ROWS)
        gateways = await context.gateways.those(place[0], {each.gateway_id for each in found})
        return {
            "revisions": [deployment_view(each) for each in found],
            "names": {gateway_id: each.fields.name for gateway_id, each in gateways.items()},
        }

    async def _difference(
        self, context: AdminContext, place: tuple[str, ArtifactKind, str], shown: _Shown, running: Sequence[Running]
    ) -> dict[str, Any]:
        """From one revision to another; when that is not named, to what the gateway of the first one runs now."""
        artifacts = context.control_plane.artifacts
        if not shown.deployment:
            return {"difference": [], "older": None, "newer": None}
        older = await artifacts.deployment(*place, shown.deployment)
        if shown.other:
            newer = await artifacts.deployment(*place, shown.other)
        else:
            [newer] = [each.deployment for each in running if each.deployment.gateway_id == older.gateway_id] or [older]
        before, now = [(await artifacts.content(*place, each.id)).splitlines() for each in (older, newer)]
        return {"difference": list(unified_diff(before, now, lineterm=""))[2:], "older": older, "newer": newer}

    # --- changing -----------------------------------------------------------------------------------------------

    async def create_key(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage
    ) -> Response:
        """A new key, shown once."""
        name = str((await request.form(max_files=0)).get("name", ""))
        return await self._issue(request, context, visitor, artifact_id, name, context.control_plane.keys.create)

    async def rotate_key(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage, name: KeyName
    ) -> Response:
        """Another value for a key, shown once."""
        return await self._issue(request, context, visitor, artifact_id, name, context.control_plane.keys.rotate)

    async def _issue(
        self,
        request: Request,
        context: AdminContext,
        visitor: Visitor,
        artifact_id: str,
        name: str,
        change: Callable[[str, ArtifactKind, str, str], Awaitable[IssuedKey]],
    ) -> Response:
        # Read before: once the key is made, no failure may keep its value from the visitor.
        read = await self._read(context, visitor.organization, artifact_id, _Shown(tab="keys"))
        try:
            issued = await change(visitor.organization, self._artifact_kind, artifact_id, name)
        except (Conflict, InvalidValue) as error:
            return self._page(request, read, problem=str(error))
        keys = [*(each for each in read["keys"] if each.id != issued.key.id), key_view(issued.key)]
        return self._page(request, {**read, "keys": sorted(keys, key=lambda each: each.name)}, secret=issued.value)

    async def revoke_key(
        self, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage, name: KeyName
    ) -> Response:
        """End a key."""
        await context.control_plane.keys.revoke(visitor.organization, self._artifact_kind, artifact_id, name)
        return self._to(f"/{artifact_id}?tab=keys")

    async def deploy(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage
    ) -> Response:
        """Let a gateway run it as it is now."""
        return await self._place(
            request, context, visitor.organization, artifact_id, context.control_plane.artifacts.deploy
        )

    async def undeploy(
        self, request: Request, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage
    ) -> Response:
        """Let a gateway stop running it."""
        return await self._place(
            request, context, visitor.organization, artifact_id, context.control_plane.artifacts.undeploy
        )

    async def _place(
        self,
        request: Request,
        context: AdminContext,
        organization: str,
        artifact_id: str,
        change: Callable[[str, ArtifactKind, str, str], Awaitable[Deployment]],
    ) -> Response:
        gateway = str((await request.form(max_files=0)).get("gateway", "")).strip()
        try:
            [gateway_id] = await gateway_ids(context, organization, [gateway])
            await change(organization, self._artifact_kind, artifact_id, gateway_id)
        except (Conflict, InvalidValue, NotFound) as error:
            return self._page(
                request, await self._read(context, organization, artifact_id, _Shown()), problem=str(error)
            )
        return self._to(f"/{artifact_id}")

    async def restore(
        self, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage, deployment_id: ResourceId
    ) -> Response:
        """Let the gateway of an earlier deployment run its content again."""
        await context.control_plane.artifacts.restore(
            visitor.organization, self._artifact_kind, artifact_id, deployment_id
        )
        return self._to(f"/{artifact_id}")

    async def delete(self, context: Context, visitor: Visitor, artifact_id: ArtifactOfPage) -> Response:
        """Delete it everywhere."""
        await context.control_plane.artifacts.delete(visitor.organization, self._artifact_kind, artifact_id)
        return self._to("")

    def _to(self, path: str) -> Response:
        return RedirectResponse(f"/{self._artifact_kind.collection}{path}", 303, SECURITY_HEADERS)


def _running_on(running: Sequence[Running]) -> set[str]:
    return {each.deployment.gateway_id for each in running if each.desired == Desired.DEPLOYED}


def _facts(view: dict[str, Any]) -> list[tuple[str, str]]:
    """The most important facts of a document."""
    upstream = view.get("upstream") or {}
    facts = (
        ("Description", view.get("description", "")),
        ("Context", view.get("context", "")),
        ("Template", view.get("template", "")),
        ("Upstream", upstream.get("url") or (upstream.get("main") or {}).get("url", "")),
        ("Provider", (view.get("provider") or {}).get("id", "")),
        ("Virtual host", view.get("vhost", "")),
    )
    return [(name, value) for name, value in facts if value]


ROUTERS = [ArtifactPages(artifact_kind).router() for artifact_kind in ARTIFACT_KINDS]
