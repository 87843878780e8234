"""What a gateway must have before an artifact is sent to it, so that nothing is accepted that it would reject."""

from __future__ import annotations

from collections.abc import Mapping

from gatecast.controlplane.artifact_store import ARTIFACTS, StoredArtifact, reference_to
from gatecast.controlplane.documents import (
    BUILT_IN_TEMPLATES,
    Artifact,
    Kind,
    LlmProvider,
    required_policies,
)
from gatecast.controlplane.families import MCP_PROXY
from gatecast.controlplane.gateways import readable_manifest
from gatecast.controlplane.imports import IMPORTS
from gatecast.controlplane.offered_policies import OfferedPolicies
from gatecast.controlplane.placements import PLACEMENTS
from gatecast.errors import Conflict
from gatecast.storage.contract import Transaction

_BUILT_IN = frozenset(template.handle for template in BUILT_IN_TEMPLATES)


async def check_offer(
    transaction: Transaction,
    artifact: StoredArtifact,
    providers: Mapping[str, StoredArtifact],
    gateway_id: str,
    *,
    before: StoredArtifact | None,
) -> None:
    """Check an artifact against one gateway, whose lock the caller holds.

    Artifact and providers are in the revisions that the gateway is to run, and `before` in the one that it was told of
    last. A gateway that has not said yet which policies it knows is believed to know them all.

    Raises:
        Conflict: a policy or a template is missing there, a policy would not take its parameters, its name is taken
            there, or it would keep a credential.
    """
    await _check_name(transaction, artifact, gateway_id)
    await _check_namesake(transaction, artifact, gateway_id)
    _check_kept_credential(artifact, before)
    await _check_template(transaction, artifact, gateway_id)
    references = {provider_id: reference_to(provider) for provider_id, provider in providers.items()}
    required = required_policies(artifact.document, additional=references)
    if required and (offered := await _offered(transaction, gateway_id)) is not None:
        offered.check_loaded(required)
        offered.check_parameters(artifact.document.checked_policies())


async def _check_name(transaction: Transaction, artifact: StoredArtifact, gateway_id: str) -> None:
    """A gateway refuses two artifacts of one kind with the same name and version, running or not."""
    kind, document = artifact.family.kind, artifact.document
    values = (gateway_id, kind, document.name, document.version, artifact.id)
    if (row := await transaction.fetch_one(ARTIFACTS["name_on_gateway"], *values)) is not None:
        raise Conflict(
            f'on gateway {gateway_id} the {artifact.family.noun} "{row["handle"]}" has the name "{document.name}" '
            f"{document.version}; deploy it there under its present name, or delete it",
            field="name",
        )


def _check_kept_credential(artifact: StoredArtifact, before: StoredArtifact | None) -> None:
    """A gateway keeps the credential of an MCP proxy, whatever its next revision says (gateway-protocol.md 4.6)."""
    if before is not None and artifact.family is MCP_PROXY and before.credentials.keys() - artifact.credentials.keys():
        raise Conflict(
            "gateways keep the credential of an MCP proxy; delete the proxy and create it again without one",
            field="upstream.auth",
        )


async def check_known_template(
    transaction: Transaction, organization: str, document: Artifact, before: Artifact | None = None
) -> None:
    """See to it that a template exists when a document names it first; it may be deleted while providers are on it.

    Raises:
        Conflict: it is neither built in, nor the organization's own, nor did a gateway of it show one.
    """
    template = _template_of(document)
    if template in (None, _template_of(before)) or template in _BUILT_IN:
        return
    if await transaction.fetch_one(IMPORTS["known_template"], organization, template) is None:
        raise Conflict(
            f'there is no template "{template}", and no gateway has shown one; choose another, or make it first',
            field="template",
        )


def _template_of(document: Artifact | None) -> str | None:
    return document.template if isinstance(document, LlmProvider) else None


async def _check_namesake(transaction: Transaction, artifact: StoredArtifact, gateway_id: str) -> None:
    """See to it that the gateway has nothing of its own under the artifact's handle, or its name and version.

    Only what it runs counts. What it announces as undeployed may still be there, and then it refuses the artifact and
    says so; but it announces what it deletes in the same words (gateway-protocol.md 3.7), does not announce it again,
    and nothing could be deployed in its place any more.
    """
    noun, document = artifact.family.noun, artifact.document
    values = (gateway_id, artifact.family.kind, artifact.id, artifact.handle, document.name, document.version)
    row = await transaction.fetch_one(IMPORTS["namesake"], *values)
    if row is None:
        return
    same_handle = row["handle"] == artifact.handle
    taken = "this handle" if same_handle else f'the name "{document.name}" {document.version}'
    raise Conflict(
        f'on gateway {gateway_id} the {noun} "{row["handle"]}", which was made there, has {taken}; '
        "rename or delete it there, or choose another one",
        field="handle" if same_handle else "name",
    )


async def _check_template(transaction: Transaction, artifact: StoredArtifact, gateway_id: str) -> None:
    """Templates cannot be sent to gateways: one that is not built in must have been made there."""
    document = artifact.document
    if not isinstance(document, LlmProvider) or document.template in _BUILT_IN:
        return
    kind = Kind.LLM_PROVIDER_TEMPLATE
    if await transaction.fetch_one(PLACEMENTS["imported_handle"], gateway_id, kind, document.template) is None:
        raise Conflict(
            f'gateway {gateway_id} has not shown a template "{document.template}"; '
            "add it to the gateway's template folder, or choose a built-in one",
            field="template",
        )


async def _offered(transaction: Transaction, gateway_id: str) -> OfferedPolicies | None:
    """What the gateway has said of its policies; None before it has."""
    row = await transaction.fetch_one(PLACEMENTS["manifest_of"], gateway_id)
    manifest = readable_manifest(row["manifest"]) if row else None
    entries = manifest.get("policies") if manifest else None
    return OfferedPolicies(gateway_id, entries) if isinstance(entries, list) else None
