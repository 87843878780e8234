"""Loads everything that a deployment must know about its gateways, with as many statements for one as for many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gatecast.controlplane.access.gateways import readable_manifest
from gatecast.controlplane.catalog.api_key import ApiKey, keys_of_artifacts
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER, noun_of
from gatecast.controlplane.catalog.artifact_store import ArtifactStore, StoredArtifact, provider_ids
from gatecast.controlplane.catalog.gateway_artifacts import namesakes_made_there, routes_made_there
from gatecast.controlplane.deployments.placements import DeploymentState, Revision, revision_of
from gatecast.controlplane.documents import Kind, LlmProvider, Route
from gatecast.controlplane.policies.supported_policies import OfferedPolicies
from gatecast.storage.contract import Row, Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.deployments", "snapshot.sql")


@dataclass(frozen=True, slots=True)
class NameHolder:
    """Another artifact that has the wanted name and version on a gateway, or may still have it."""

    handle: str
    #: False: its release of the name was published, and the gateway has not acknowledged that.
    has_it: bool


@dataclass(frozen=True, slots=True)
class RouteHolder:
    """Another artifact that is served where the wanted one would be."""

    noun: str
    handle: str
    route: Route
    #: Whether it was made on the gateway itself.
    made_there: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """One gateway, as far as one artifact is concerned."""

    gateway_id: str
    #: The newest revisions of the artifact, its providers, and the proxies that may need it, by artifact.
    revisions: Mapping[str, Revision]
    names: Sequence[NameHolder] = ()
    routes: Sequence[RouteHolder] = ()
    #: Handle of a gateway-owned artifact with the wanted handle or name.
    namesake: str | None = None
    #: Whether it has the template that the artifact names.
    has_template: bool = True
    #: None before it has said which ones it knows.
    policies: OfferedPolicies | None = None
    #: Ids of the proxies that run there and may need the artifact.
    dependants: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """An artifact in the revision that is to be deployed, and the gateways that it goes to, whose locks are held."""

    artifact: StoredArtifact
    gateways: Sequence[GatewayState]
    #: What was last published to gateways for artifacts, by content.
    contents: Mapping[str, StoredArtifact]
    #: Handles of the providers that the artifact needs, by id.
    providers: Mapping[str, str]
    #: Keys of the artifact and of the proxies that may need it, revoked ones included.
    keys: Mapping[str, Sequence[ApiKey]]

    def told(self, gateway: GatewayState, artifact_id: str) -> StoredArtifact | None:
        """An artifact in the revision last published to a gateway, running or not; None: none was."""
        revision = gateway.revisions.get(artifact_id)
        return self.contents[revision.content_id] if revision else None


async def load_snapshot(
    transaction: Transaction, store: ArtifactStore, artifact: StoredArtifact, gateway_ids: Collection[str]
) -> Snapshot:
    """The snapshot to decide about deploying an artifact to these gateways, whose locks the caller holds."""
    loader = _Loader(transaction, artifact, as_keys(gateway_ids))
    dependants = await loader.dependants()
    artifacts = {artifact.id, *provider_ids(artifact.document), *(each for ids in dependants.values() for each in ids)}
    revisions = await loader.revisions(artifacts)
    names, routes, namesakes = await loader.names(), await loader.routes(), await loader.namesakes()
    with_template, policies = await loader.with_template(), await loader.policies()
    contents = {revision.content_id for each in revisions.values() for revision in each.values()}
    return Snapshot(
        artifact=artifact,
        gateways=[
            GatewayState(
                gateway_id=gateway_id,
                revisions=revisions[gateway_id],
                names=names[gateway_id],
                routes=routes[gateway_id],
                namesake=namesakes.get(gateway_id),
                has_template=with_template is None or gateway_id in with_template,
                policies=policies.get(gateway_id),
                dependants=dependants[gateway_id],
            )
            for gateway_id in sorted(gateway_ids)
        ],
        contents=await store.in_revisions(transaction, contents),
        providers=await loader.providers(),
        keys=await keys_of_artifacts(
            transaction, {artifact.id, *(each for ids in dependants.values() for each in ids)}
        ),
    )


@dataclass(frozen=True, slots=True)
class _Loader:
    """One statement for each question, about all gateways."""

    transaction: Transaction
    artifact: StoredArtifact
    gateways: str

    async def dependants(self) -> Mapping[str, list[str]]:
        """Proxies that run and may need the artifact, by gateway."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        if self.artifact.artifact_kind is LLM_PROVIDER:
            rows = await self.transaction.fetch(_QUERIES["running_dependants"], self.artifact.id, self.gateways)
            for row in rows:
                found[row["gateway_id"]].append(row["artifact_id"])
        return found

    async def revisions(self, artifacts: Iterable[str]) -> Mapping[str, dict[str, Revision]]:
        """The newest revisions of artifacts, by gateway and artifact."""
        found: defaultdict[str, dict[str, Revision]] = defaultdict(dict)
        query = _QUERIES["revisions_on_gateways"]
        for row in await self.transaction.fetch(query, self.gateways, as_keys(artifacts)):
            found[row["gateway_id"]][row["artifact_id"]] = revision_of(row)
        return found

    async def names(self) -> Mapping[str, list[NameHolder]]:
        """Others that have the name, or may have it, by gateway."""
        artifact, document = self.artifact, self.artifact.document
        values = (artifact.artifact_kind.kind, document.name, document.version, artifact.id)
        found: defaultdict[str, list[NameHolder]] = defaultdict(list)
        for row in await self.transaction.fetch(_QUERIES["names_on_gateways"], self.gateways, *values):
            found[row["gateway_id"]].append(NameHolder(row["handle"], _has_it(row)))
        return found

    async def routes(self) -> Mapping[str, list[RouteHolder]]:
        """Others that are served where the artifact would be, by gateway."""
        wanted = sorted(self.artifact.document.routes())
        hosts = as_keys(route.host for route in wanted)
        values = (self.gateways, wanted[0].context, hosts, self.artifact.id)
        found: defaultdict[str, list[RouteHolder]] = defaultdict(list)
        deployed = await self.transaction.fetch(_QUERIES["routes_on_gateways"], *values)
        for rows, made_there in ((deployed, False), (await routes_made_there(self.transaction, *values), True)):
            for row in rows:
                route, noun = Route(row["host"], row["context"]), noun_of(row["kind"])
                found[row["gateway_id"]].append(RouteHolder(noun, row["handle"], route, made_there=made_there))
        return found

    async def namesakes(self) -> Mapping[str, str]:
        """Gateway-owned artifacts with the handle or the name, by gateway."""
        artifact, document = self.artifact, self.artifact.document
        names = (artifact.handle, document.name, document.version)
        kind = artifact.artifact_kind.kind
        return await namesakes_made_there(self.transaction, self.gateways, kind=kind, besides=artifact.id, names=names)

    async def with_template(self) -> set[str] | None:
        """The gateways that have shown the template which the artifact names; None: each of them has it."""
        document = self.artifact.document
        if not isinstance(document, LlmProvider) or document.has_built_in_template:
            return None
        values = (self.gateways, Kind.LLM_PROVIDER_TEMPLATE, document.template)
        return {row["gateway_id"] for row in await self.transaction.fetch(_QUERIES["imported_handle"], *values)}

    async def policies(self) -> Mapping[str, OfferedPolicies]:
        """The policies that gateways have announced, by gateway; equal announcements share one value."""
        found: dict[str, OfferedPolicies] = {}
        said = await self.transaction.fetch(_QUERIES["manifests"], self.gateways)
        for row in said:
            manifest = readable_manifest(row["manifest"])
            entries = manifest.get("policies") if manifest else None
            if isinstance(entries, list):
                found[row["id"]] = OfferedPolicies(row["id"], entries)
        return {row["id"]: found[row["alike"]] for row in said if row["alike"] in found}

    async def providers(self) -> Mapping[str, str]:
        """Handles of the providers that the artifact needs, by id."""
        needed = provider_ids(self.artifact.document)
        if not needed:
            return {}
        rows = await self.transaction.fetch(_QUERIES["handles_by_id"], as_keys(needed))
        return {row["id"]: row["handle"] for row in rows}


def _has_it(row: Row) -> bool:
    """Whether a revision is the last published one or, if that failed, the one before."""
    last = {row["newest"], row["held"]} if row["state"] == DeploymentState.FAILED else {row["newest"]}
    return row["deployment_id"] in last
