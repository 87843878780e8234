"""Bodies of requests and answers about artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, StringConstraints, ValidationError, create_model, model_validator

from gatecast.controlplane.catalog.api_key import ApiKey
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.catalog.gateway_artifacts import GatewayOwnedArtifact
from gatecast.controlplane.deployments.api_keys import LONGEST_NAME, NAME_PATTERN, SHORTEST_NAME
from gatecast.controlplane.deployments.artifacts import Clash, LastPublished, Running
from gatecast.controlplane.deployments.placements import Deployment, Desired
from gatecast.controlplane.documents import Artifact
from gatecast.controlplane.documents.contexts import DerivedContext
from gatecast.controlplane.documents.handles import HANDLE_PATTERN, MAX_HANDLE_LENGTH
from gatecast.controlplane.transactions.clock import milliseconds
from gatecast.events import MAX_IDENTIFIER_LENGTH
from gatecast.server.admin_api.models import NEXT, WHOLE, Etag, GatewayEventState, Model
from gatecast.server.admin_api.paths import etag_of

GatewayNames = Annotated[
    list[Annotated[str, StringConstraints(max_length=MAX_IDENTIFIER_LENGTH)]], Field(max_length=1_000)
]

Handle = Annotated[
    str, StringConstraints(max_length=MAX_HANDLE_LENGTH), Field(json_schema_extra={"pattern": HANDLE_PATTERN})
]

#: A field of answers that requests may carry, too.
ReadOnly = Annotated[Any, Field(json_schema_extra={"readOnly": True})]

StateName = Literal["PENDING", "DEPLOYED", "FAILED", "UNDEPLOYING", "UNDEPLOYED", "SUPERSEDED", "UNKNOWN"]


class DeploymentView(Model):
    """One revision of an artifact on one gateway."""

    id: str
    gateway_id: str
    revision: int = Field(description="Rises with every deployment of the artifact to this gateway.")
    state: StateName = Field(
        description="What the gateway has acknowledged; PENDING and UNDEPLOYING wait for it; UNKNOWN: a newer release "
        "has stored another one."
    )
    reason: str = Field(description="Why it failed; empty otherwise.")
    performed_at: datetime = Field(description="When its last event was created.")
    age_seconds: float = Field(description="How long ago that was.")
    created_at: datetime
    updated_at: datetime


class DeploymentPage(Model):
    """A page of deployments: the highest revisions first, those of the same number by gateway."""

    items: list[DeploymentView]
    next: str | None = Field(description=NEXT)


class GatewayDeploymentView(Model):
    """The last published deployment of an artifact on a gateway; for a deleted one, only its identity."""

    id: str
    gateway_id: str
    artifact_id: str
    kind: str = Field(examples=["LlmProvider"])
    handle: str | None = Field(description="Null: the artifact is deleted.")
    state: StateName | Literal["DELETING"] = Field(
        description="What the gateway has acknowledged; DELETING until it has confirmed, and then it is not listed."
    )
    revision: int | None
    reason: str = Field("", description="Why it failed; empty otherwise.")
    performed_at: datetime | None
    age_seconds: float | None
    created_at: datetime | None
    updated_at: datetime | None


class GatewayDeployments(Model):
    """A page of what a gateway was told to run, or to stop running, by artifact id."""

    items: list[GatewayDeploymentView]
    next: str | None = Field(description=NEXT)


class ImportedArtifactView(Model):
    """An artifact that was made on a gateway itself."""

    id: str
    local_id: str = Field(description="The id that the gateway gave it.")
    kind: str
    handle: str
    name: str
    status: str = Field(description="`deployed` or `undeployed`.")
    deployed_at: str = Field(description="As the gateway wrote it.")
    created_at: datetime
    updated_at: datetime


class ImportedArtifacts(Model):
    """A page of what a gateway announced, by id."""

    items: list[ImportedArtifactView]
    next: str | None = Field(description=NEXT)


class NewDeployment(Model):
    """Where to deploy an artifact as it is now."""

    gateway_id: Annotated[str, StringConstraints(min_length=1, max_length=MAX_IDENTIFIER_LENGTH)] = Field(
        description="Its id, or its name.", examples=["9c1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"]
    )


class Placing(Model):
    """Where an artifact should run."""

    gateways: GatewayNames | None = Field(
        None, description="Ids or names of the gateways that run it. Left out: those that run it now."
    )


class NewPlacing(Placing):
    """An artifact that does not exist yet."""

    handle: Handle | None = Field(None, description="Its name on gateways; derived from the name if left out.")


class ReadBack(Model):
    """The fields of an artifact that are shown and cannot be changed.

    A change may contain them and they are ignored, so that a client can send back what it has read.
    """

    @model_validator(mode="before")
    @classmethod
    def _ignore(cls, written: Any) -> Any:  # noqa: ANN401 - whatever was sent
        """Before any rule is applied: what a gateway gave as its reason keeps none."""
        return (
            {name: written[name] for name in written.keys() - names_of(ReadBack)}
            if isinstance(written, dict)
            else written
        )

    id: ReadOnly = None
    handle: ReadOnly = None
    deployments: ReadOnly = None
    clashes: ReadOnly = None
    etag: ReadOnly = None
    created_at: ReadOnly = None
    updated_at: ReadOnly = None


class ChangedPlacing(ReadBack, Placing):
    """An artifact that may run somewhere already."""

    undeploy: GatewayNames = Field(
        default_factory=list, description="The gateways that it is undeployed from because `gateways` leaves them out."
    )


class ClashView(Model):
    """Another artifact that should be served at the same place: the gateway serves one of the two."""

    gateway_id: str
    kind: str = Field(examples=["RestApi"])
    handle: str
    host: str
    context: str


class StoredPlacing(Model):
    """The fields that the control plane adds to an artifact."""

    id: str
    handle: str
    etag: Etag
    gateways: list[str] = Field(description="Ids of the gateways that should run it.")
    deployments: list[DeploymentView] = Field(description="What was last published to each gateway, and its answer.")
    clashes: list[ClashView] = Field(
        default_factory=list,
        description="Artifacts with the same route on a gateway; left out of lists. Move one of them.",
    )
    created_at: datetime
    updated_at: datetime


class ApiKeyView(Model):
    """A key without its value."""

    id: str
    name: str
    masked_value: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class IssuedApiKey(ApiKeyView):
    """A key on the only occasion on which its value is shown."""

    value: str
    gateways: list[GatewayEventState] = Field(description="Every gateway that gets the key, and how far it is.")


class ApiKeyList(Model):
    """The keys of an artifact."""

    items: list[ApiKeyView]
    next: Annotated[None, Field(description=WHOLE)] = None


class NewApiKey(Model):
    """A key to make."""

    name: Annotated[str, StringConstraints(max_length=LONGEST_NAME)] = Field(
        examples=["mobile-app"], json_schema_extra={"minLength": SHORTEST_NAME, "pattern": NAME_PATTERN}
    )
    expires_at: datetime | None = Field(
        None, description="Left out: it does not expire.", examples=["2099-12-31T00:00:00Z"]
    )


class RotatedApiKey(Model):
    """The expiry of a rotated key."""

    expires_at: datetime | None = Field(
        None,
        description="Left out: as before, which is refused once the key has expired.",
        examples=["2099-12-31T00:00:00Z"],
    )


M = TypeVar("M", bound=BaseModel)
A = TypeVar("A", bound=Artifact)


def joined(name: str, *parts: type[BaseModel]) -> type[BaseModel]:
    """A model with the fields of all parts."""
    return create_model(name, __base__=parts, __doc__=parts[-1].__doc__)


def names_of(model: type[BaseModel]) -> set[str]:
    """The names of its fields in bodies."""
    return {field.alias or name for name, field in model.model_fields.items()}


def document_in(body: BaseModel | Mapping[str, Any], model: type[M], placing: type[BaseModel]) -> M:
    """The artifact in a body, without what says where it runs.

    Raises:
        RequestValidationError: it breaks a rule.
    """
    values = body.model_dump(by_alias=True, exclude_unset=True) if isinstance(body, BaseModel) else dict(body)
    outside = names_of(placing)
    return checked(model, {name: value for name, value in values.items() if name not in outside | _derived(values)})


def in_place(document: A, stored: Artifact) -> A:
    """The document; when it says nothing of its context, it stays where the stored one is.

    Raises:
        RequestValidationError: it breaks a rule there.
    """
    context = getattr(stored, "context", None)
    if document.derived_context is None or context is None:
        return document
    values = document.model_dump(by_alias=True, exclude_unset=True)
    return checked(type(document), {**values, "context": context})


def _derived(values: Mapping[str, Any]) -> set[str]:
    """The derived fields, which the operator did not write."""
    return {name for name, value in values.items() if isinstance(value, DerivedContext)}


def checked(model: type[M], values: object) -> M:
    """These values as this model, or an answer as if the framework had found what is wrong.

    Raises:
        RequestValidationError: they break a rule.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        raise RequestValidationError(found) from None


def artifact_view(
    artifact: StoredArtifact, running: Sequence[Running], clashes: Sequence[Clash] = ()
) -> dict[str, Any]:
    """An artifact as it is shown: credentials masked."""
    added = StoredPlacing(
        id=artifact.id,
        handle=artifact.handle,
        etag=etag_of(artifact.version),
        gateways=[each.deployment.gateway_id for each in running if each.desired == Desired.DEPLOYED],
        deployments=[deployment_view(each.deployment) for each in running],
        clashes=[_clash_view(each) for each in clashes],
        created_at=artifact.created_at,
        updated_at=artifact.updated_at,
    )
    return {**document_dump(artifact.document), **added.model_dump(mode="json", by_alias=True)}


def _clash_view(clash: Clash) -> ClashView:
    return ClashView(
        gateway_id=clash.gateway_id,
        kind=clash.kind,
        handle=clash.handle,
        host=clash.route.host,
        context=clash.route.context,
    )


def document_dump(document: Artifact) -> dict[str, Any]:
    """The operator's document, as JSON."""
    return document.model_dump(mode="json", by_alias=True, exclude_unset=True)


def deployment_view(deployment: Deployment) -> DeploymentView:
    """A deployment as it is shown."""
    return DeploymentView(
        id=deployment.id,
        gateway_id=deployment.gateway_id,
        revision=deployment.revision,
        state=deployment.state.value,
        reason=deployment.reason,
        performed_at=_moment(deployment.performed_at),
        age_seconds=max(0.0, (milliseconds() - deployment.performed_at) / 1000),
        created_at=deployment.created_at,
        updated_at=deployment.updated_at,
    )


def gateway_deployment_view(told: LastPublished) -> GatewayDeploymentView:
    """One artifact of a gateway as it is shown."""
    if told.deployment is not None:
        shown = dict(deployment_view(told.deployment))
    else:
        unknown = dict.fromkeys(("revision", "performed_at", "age_seconds", "created_at", "updated_at"))
        shown = {"id": told.deployment_id, "gateway_id": told.gateway_id, "state": "DELETING", **unknown}
    return GatewayDeploymentView(**shown, artifact_id=told.artifact_id, kind=told.kind, handle=told.handle or None)


def imported_artifact_view(imported: GatewayOwnedArtifact) -> ImportedArtifactView:
    """An imported artifact as it is shown."""
    return ImportedArtifactView.model_validate({name: getattr(imported, name) for name in imported.__slots__})


def key_view(key: ApiKey) -> ApiKeyView:
    """A key as it is shown."""
    return ApiKeyView(
        id=key.id,
        name=key.name,
        masked_value=key.mask,
        created_at=_moment(key.created_at),
        updated_at=_moment(key.updated_at),
        expires_at=None if key.expires_at is None else _moment(key.expires_at),
        revoked_at=None if key.revoked_at is None else _moment(key.revoked_at),
    )


def _moment(milliseconds_: int) -> datetime:
    return datetime.fromtimestamp(milliseconds_ / 1000, UTC)
