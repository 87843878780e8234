"""From what operators wrote to what gateways download."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gatecast.controlplane.documents.artifact import Artifact, ProviderReference, Surroundings
from gatecast.controlplane.documents.credentials import MASK
from gatecast.controlplane.documents.emitter import emit
from gatecast.controlplane.documents.handles import check_handle
from gatecast.controlplane.documents.policies import PolicyReference
from gatecast.controlplane.documents.refusals import InvalidDocument

#: Largest rendered document, in bytes: the YAML may repeat a value in several places.
MAX_RENDERED_BYTES = 768 * 1024

API_VERSION = "gateway.api-platform.wso2.com/v1"

_NO_PROVIDERS: Mapping[str, ProviderReference] = MappingProxyType({})


def take_credentials(artifact: Artifact) -> tuple[Artifact, dict[str, str]]:
    """The artifact with `***` for each credential, and the new credentials by place.

    A credential that is `***` already means "keep what is stored", and is not among the new ones.
    """
    written = ((place, auth.value) for place, auth in artifact.auths())
    return artifact.masked(), {place: value for place, value in written if value not in (None, MASK)}


def credential_paths(artifact: Artifact) -> tuple[str, ...]:
    """The places that carry a credential, masked or not."""
    return tuple(place for place, auth in artifact.auths() if auth.value is not None)


def render(
    artifact: Artifact,
    *,
    handle: str,
    credentials: Mapping[str, str],
    provider: ProviderReference | None = None,
    additional: Mapping[str, ProviderReference] = _NO_PROVIDERS,
) -> bytes:
    """The document in YAML; the same bytes for the same input.

    `credentials` has the handle of a stored secret for each of the artifact's `credential_paths`; the values
    themselves are nowhere in the document. A proxy needs its provider, and the additional ones by id.

    Raises:
        InvalidDocument: a handle is not valid, a credential is missing, providers of a proxy have the same name, or the
            document is larger than 768 KiB.
    """
    check_handle(handle)
    for place in credential_paths(artifact):
        check_handle(_secret(credentials, place))
    surroundings = Surroundings(credentials=credentials, provider=provider, additional=additional)
    metadata = {"name": handle, "labels": artifact.labels, "annotations": artifact.annotations}
    content = emit(
        {
            "apiVersion": API_VERSION,
            "kind": artifact.kind.value,
            "metadata": _present(metadata),
            "spec": _present(artifact.specification(surroundings)),
        }
    )
    if len(content) > MAX_RENDERED_BYTES:
        raise InvalidDocument(
            "document", len(content), f"have at most {MAX_RENDERED_BYTES:,} bytes once it is rendered"
        )
    return content


def required_policies(
    artifact: Artifact,
    provider: ProviderReference | None = None,
    additional: Mapping[str, ProviderReference] = _NO_PROVIDERS,
) -> frozenset[PolicyReference]:
    """What a gateway must offer, or it rejects the document; the providers are those of a proxy."""
    providers = [*additional.values(), *(() if provider is None else (provider,))]
    return frozenset(artifact.policies_needed(providers))


def _secret(credentials: Mapping[str, str], place: str) -> str:
    if place not in credentials:
        raise InvalidDocument(place, None, "have a stored secret")
    return credentials[place]


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are not empty."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
