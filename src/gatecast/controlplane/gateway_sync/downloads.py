"""Answers to gateways: the list of what they should run, documents, secrets and keys (gateway-protocol.md 3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from gatecast.controlplane.catalog.api_key import ApiKey
from gatecast.controlplane.catalog.artifact_kinds import BY_KIND, ArtifactKind, kind_of
from gatecast.controlplane.catalog.artifact_store import content_place, secret_place
from gatecast.controlplane.deployments.placements import DeploymentState, Desired, deployment_of, states_on
from gatecast.controlplane.documents import Kind
from gatecast.controlplane.encryption import Encryption
from gatecast.controlplane.newer_releases import known
from gatecast.controlplane.transactions.timestamps import instant
from gatecast.errors import NotFound
from gatecast.hub import EventHub
from gatecast.storage.contract import Row
from gatecast.storage.queries import Queries

_QUERIES = Queries("gatecast.controlplane.gateway_sync", "downloads.sql")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDeployment:
    """One artifact as a gateway is shown it at its start."""

    artifact_id: str
    deployment_id: str
    #: As it is stored: a newer release may know more kinds.
    kind: str
    desired: str
    #: In milliseconds since 1970.
    deployed_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A document of a gateway."""

    artifact_kind: ArtifactKind
    artifact_id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A credential that documents of a gateway ask for."""

    handle: str
    #: Changes with the value. A secret never changes, so its handle says it all.
    hash: str
    created_at: str
    #: None where it was not asked for.
    value: str | None


class GatewayFiles:
    """Answers for one gateway at a time. Data of other gateways does not exist for it."""

    def __init__(self, hub: EventHub, encryption: Encryption) -> None:
        self._database = hub.database
        self._encryption = encryption

    async def deployments(self, gateway_id: str) -> list[ListedDeployment]:
        """What a gateway should run, and what it has but should not run (scenario S38).

        An undeployed artifact is listed only if the gateway is known to have that very deployment: it would fetch and
        run another one. Others are left out and do not `exist` for it, so it removes what it has of them.
        """
        rows = await states_on(self._database, gateway_id)
        return [_listed(row) for row in rows if _is_listed(row)]

    async def existing(self, gateway_id: str, artifact_ids: Iterable[str]) -> set[str]:
        """Which of these artifacts a gateway should keep when the list of deployments leaves them out."""
        rows = await states_on(self._database, gateway_id)
        imported = await self._database.fetch(_QUERIES["imported_ids"], gateway_id)
        kept = {row["artifact_id"] for row in rows if _is_listed(row)}
        kept |= {each for row in imported for each in (row["id"], row["local_id"])}
        return kept & set(artifact_ids)

    async def content(self, gateway_id: str, artifact_kind: ArtifactKind, artifact_id: str) -> Content:
        """The document that a gateway is to run.

        Raises:
            NotFound: it is to run none.
            SecretKeyMissing: this pod cannot decrypt it.
        """
        rows = await self._database.fetch(_QUERIES["current_content"], gateway_id, artifact_kind.kind, artifact_id)
        if not rows:
            raise NotFound(artifact_kind.noun, artifact_id)
        return Content(artifact_kind=artifact_kind, artifact_id=artifact_id, text=self._text(rows[0]))

    async def contents(self, gateway_id: str, deployment_ids: Sequence[str]) -> dict[str, Content]:
        """The documents of the deployments among these that a gateway is to run, by deployment."""
        rows: list[tuple[str, Row]] = []
        for deployment_id in deployment_ids:
            found = await self._database.fetch(_QUERIES["deployed_content"], gateway_id, deployment_id)
            rows += [(deployment_id, row) for row in found]
        return dict(known(rows, lambda each: (each[0], self._content(each[1]))))

    async def secrets(self, gateway_id: str, *, with_values: bool) -> list[Secret]:
        """The secrets that the documents on a gateway ask for."""
        rows = await self._database.fetch(_QUERIES["gateway_secrets"], gateway_id)
        return known(rows, lambda row: self._secret(row, with_value=with_values))

    async def secret(self, gateway_id: str, handle: str) -> Secret:
        """One of these secrets, with its value.

        Raises:
            NotFound: no document on this gateway asks for it.
        """
        for row in await self._database.fetch(_QUERIES["gateway_secret"], gateway_id, handle):
            return self._secret(row, with_value=True)
        raise NotFound("secret", handle)

    async def keys(self, gateway_id: str, kind: Kind) -> list[ApiKey]:
        """The active keys of all artifacts of one kind that a gateway has."""
        rows = await self._database.fetch(_QUERIES["gateway_keys"], gateway_id, kind)
        return [ApiKey.of(row) for row in rows]

    def _content(self, row: Row) -> Content:
        return Content(artifact_kind=BY_KIND[kind_of(row)], artifact_id=row["artifact_id"], text=self._text(row))

    def _text(self, row: Row) -> str:
        return self._encryption.open(row["content"], place=content_place(row["id"]))

    def _secret(self, row: Row, *, with_value: bool) -> Secret:
        handle = row["handle"]
        return Secret(
            handle=handle,
            hash=sha256(handle.encode()).hexdigest(),
            created_at=instant(row["created_at"]).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            value=self._encryption.open(row["value"], place=secret_place(handle)) if with_value else None,
        )


def _is_listed(row: Row) -> bool:
    return bool(row["desired"] == Desired.DEPLOYED or row["held"] == row["id"])


def _listed(row: Row) -> ListedDeployment:
    """The entry as the gateway should compare it with its own state.

    An unacknowledged deployment is listed a millisecond older than its event: a gateway that starts and fetches it from
    the list then still accepts the event, which would otherwise be stale, and acknowledges it.
    """
    deployment = deployment_of(row)
    unanswered = deployment.state in {DeploymentState.PENDING, DeploymentState.UNDEPLOYING}
    return ListedDeployment(
        artifact_id=deployment.artifact_id,
        deployment_id=deployment.id,
        kind=row["kind"],
        desired=row["desired"],
        deployed_at=deployment.performed_at - unanswered,
    )
