"""Preflight checks: what a gateway must have before an artifact is sent to it, so that it does not reject it.

Pure functions over a `Snapshot`.
"""

from __future__ import annotations

from collections.abc import Mapping

from gatecast.controlplane.catalog.artifact_kinds import MCP_PROXY
from gatecast.controlplane.catalog.artifact_store import StoredArtifact, provider_ids, reference_to
from gatecast.controlplane.catalog.gateway_artifacts import knows_template
from gatecast.controlplane.deployments.placements import WAITING
from gatecast.controlplane.deployments.snapshot import GatewayState, Snapshot
from gatecast.controlplane.documents import Artifact, LlmProvider, required_policies
from gatecast.controlplane.documents.artifact import ProviderReference
from gatecast.errors import Conflict
from gatecast.storage.contract import Transaction


def check_gateways(snapshot: Snapshot) -> None:
    """Check an artifact against every gateway that it is to be deployed to.

    A gateway that has not said yet which policies it knows is believed to know them all.

    Raises:
        Conflict: somewhere a provider, a policy or a template is missing, a policy would not take its parameters, its
            name or its place is taken, or a credential would be kept.
    """
    policies = PolicyChecks()
    for gateway in snapshot.gateways:
        providers = _providers_on(snapshot, gateway)
        _check_name(snapshot, gateway)
        _check_namesake(snapshot.artifact, gateway)
        _check_routes(snapshot, gateway)
        _check_kept_credential(snapshot.artifact, snapshot.told(gateway, snapshot.artifact.id))
        _check_template(snapshot.artifact, gateway)
        policies.check(snapshot.artifact, providers, gateway)


class PolicyChecks:
    """Compares documents with the manifests of gateways, once for all gateways with the same manifest."""

    def __init__(self) -> None:
        self._passed: set[tuple[int, str, frozenset[object]]] = set()

    def check(
        self, artifact: StoredArtifact, providers: Mapping[str, ProviderReference], gateway: GatewayState
    ) -> None:
        """Check that the gateway has the policies that the artifact needs, and that they accept its parameters.

        Raises:
            Conflict: it has not, or they do not.
        """
        required = required_policies(artifact.document, additional=providers)
        passed = (id(gateway.policies), artifact.content_id, frozenset[object](required))
        if not required or gateway.policies is None or passed in self._passed:
            return
        gateway.policies.check_loaded(required)
        gateway.policies.check_parameters(artifact.document.checked_policies())
        self._passed.add(passed)


def _providers_on(snapshot: Snapshot, gateway: GatewayState) -> dict[str, ProviderReference]:
    """The providers that the artifact needs, as the gateway runs them."""
    found: dict[str, ProviderReference] = {}
    for provider_id in provider_ids(snapshot.artifact.document):
        revision = gateway.revisions.get(provider_id)
        if revision is None or not revision.runs:
            raise Conflict(
                f'gateway {gateway.gateway_id} does not run the LLM provider "{snapshot.providers[provider_id]}"; '
                "deploy the provider there first",
                field="gateways",
            )
        found[provider_id] = reference_to(snapshot.contents[revision.content_id])
    return found


def _check_name(snapshot: Snapshot, gateway: GatewayState) -> None:
    """A gateway refuses two artifacts of one kind with the same name and version, running or not.

    It downloads what is current when it handles an event. So an artifact whose last event is not answered yet is not
    given a name that another one may still have: names swapped while a gateway was away would block each other there.
    """
    artifact, document = snapshot.artifact, snapshot.artifact.document
    name = f'the name "{document.name}" {document.version}'
    for holder in gateway.names:
        if holder.has_it:
            raise Conflict(
                f'on gateway {gateway.gateway_id} the {artifact.artifact_kind.noun} "{holder.handle}" has {name}; '
                "deploy it there under its present name, or delete it",
                field="name",
            )
    own, before = gateway.revisions.get(artifact.id), snapshot.told(gateway, artifact.id)
    keeps = before is not None and _name_of(before.document) == _name_of(document)
    if gateway.names and own is not None and own.state in WAITING and not keeps:
        holder = gateway.names[0]
        raise Conflict(
            f"gateway {gateway.gateway_id} has acknowledged neither that the {artifact.artifact_kind.noun} "
            f'"{holder.handle}" gave up {name} nor the last change of "{artifact.handle}", so they could block each '
            f'other there; wait until "{holder.handle}" is acknowledged there, then give its former name to '
            f'"{artifact.handle}"',
            field="name",
        )


def _name_of(document: Artifact) -> tuple[str, str]:
    return document.name, document.version


def _check_routes(snapshot: Snapshot, gateway: GatewayState) -> None:
    """Check that no other artifact has the same context there. Artifacts that already share one keep it."""
    artifact, own = snapshot.artifact, gateway.revisions.get(snapshot.artifact.id)
    told = snapshot.told(gateway, artifact.id)
    kept = told.document.routes() if told is not None and own is not None and own.runs else frozenset()
    for holder in gateway.routes:
        if holder.route not in kept:
            raise Conflict(
                f'on gateway {gateway.gateway_id} the {holder.noun} "{holder.handle}"'
                f"{', which was made there,' if holder.made_there else ''} is served under the context "
                f'"{holder.route.context}" of the virtual host "{holder.route.host}"; '
                "choose another context or vhost, or undeploy that one there first",
                field="context",
            )


def _check_kept_credential(artifact: StoredArtifact, before: StoredArtifact | None) -> None:
    """A gateway keeps the credential of an MCP proxy, whatever its next revision says (gateway-protocol.md 4.6)."""
    if (
        before is not None
        and artifact.artifact_kind is MCP_PROXY
        and before.credentials.keys() - artifact.credentials.keys()
    ):
        raise Conflict(
            "gateways keep the credential of an MCP proxy; delete the proxy and create it again without one",
            field="upstream.auth",
        )


def _check_namesake(artifact: StoredArtifact, gateway: GatewayState) -> None:
    """Return if the gateway runs no artifact of its own with this handle, or this name and version.

    Only running ones count. One announced as undeployed may still exist, and then the gateway refuses the artifact with
    a reason. But it announces deletions in the same words (gateway-protocol.md 3.7), and only once, so counting those
    would block the place for ever.
    """
    namesake, document = gateway.namesake, artifact.document
    if namesake is None:
        return
    same_handle = namesake == artifact.handle
    taken = "this handle" if same_handle else f'the name "{document.name}" {document.version}'
    raise Conflict(
        f'on gateway {gateway.gateway_id} the {artifact.artifact_kind.noun} "{namesake}", which was made there, has '
        f"{taken}; rename or delete it there, or choose another one",
        field="handle" if same_handle else "name",
    )


def _check_template(artifact: StoredArtifact, gateway: GatewayState) -> None:
    """Templates cannot be sent to gateways: a template that is not built in must exist there."""
    if isinstance(artifact.document, LlmProvider) and not gateway.has_template:
        raise Conflict(
            f'gateway {gateway.gateway_id} has not shown a template "{artifact.document.template}"; '
            "add it to the gateway's template folder, or choose a built-in one",
            field="template",
        )


async def check_known_template(
    transaction: Transaction, organization: str, document: Artifact, before: Artifact | None = None
) -> None:
    """See to it that a template exists when a document names it first; it may be deleted while providers are on it.

    Raises:
        Conflict: it is neither built in, nor the organization's own, nor did a gateway of it show one.
    """
    if not isinstance(document, LlmProvider) or document.has_built_in_template:
        return
    if isinstance(before, LlmProvider) and before.template == document.template:
        return
    if not await knows_template(transaction, organization, document.template):
        raise Conflict(
            f'there is no template "{document.template}", and no gateway has shown one; choose another, or make it '
            "first",
            field="template",
        )
