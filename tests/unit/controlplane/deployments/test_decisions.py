"""What a change decides once it knows the gateways concerned: no database takes part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import product
from typing import Any, cast

import pytest

from gatecast.controlplane.catalog.artifact_kinds import BY_KIND
from gatecast.controlplane.catalog.artifact_store import StoredArtifact
from gatecast.controlplane.deployments.placements import DeploymentState, Desired, Placement, Revision
from gatecast.controlplane.deployments.preflight import check_gateways
from gatecast.controlplane.deployments.rollouts import deploy_everywhere, rebuild_dependants
from gatecast.controlplane.deployments.snapshot import GatewayState, NameHolder, RouteHolder, Snapshot
from gatecast.controlplane.documents import MODELS, Kind, PolicyReference, Route
from gatecast.controlplane.policies.supported_policies import OfferedPolicies
from gatecast.controlplane.transactions.unit_of_work import UnitOfWork
from gatecast.errors import Conflict

_NOW = datetime(2026, 1, 2, tzinfo=UTC)
_PROVIDER_ID = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f01"
_DOCUMENTS: Mapping[Kind, Mapping[str, Any]] = {
    Kind.LLM_PROVIDER: {"template": "openai", "upstream": {"url": "https://a.test"}},
    Kind.LLM_PROXY: {"provider": {"id": _PROVIDER_ID}},
    Kind.MCP: {"upstream": {"url": "https://a.test"}},
    Kind.REST_API: {
        "upstream": {"main": {"url": "http://a.test"}},
        "operations": [{"method": "GET", "path": "/"}],
    },
}


def _artifact(kind: Kind = Kind.REST_API, id_: str = "own", name: str = "Own", **fields: object) -> StoredArtifact:
    document = MODELS[kind].model_validate({"name": name, "context": f"/{id_}", **_DOCUMENTS[kind], **fields})
    return StoredArtifact(
        id=id_,
        organization="default",
        artifact_kind=BY_KIND[kind],
        handle=id_,
        document=document,
        credentials={},
        content_id=f"{id_}-{name}-{hash(str(fields))}",
        version=1,
        created_at=_NOW,
        updated_at=_NOW,
    )


def _revision(
    artifact: StoredArtifact,
    *,
    number: int = 1,
    state: DeploymentState = DeploymentState.DEPLOYED,
    desired: Desired = Desired.DEPLOYED,
) -> Revision:
    placement = Placement(
        artifact_id=artifact.id,
        gateway_id="edge",
        kind=artifact.artifact_kind.kind,
        desired=desired,
        deployment_id=f"{artifact.id}-{number}",
        performed_at=number,
        event_id="told",
        held="",
    )
    return Revision(placement=placement, number=number, content_id=artifact.content_id, state=state)


def _snapshot(artifact: StoredArtifact, gateway: GatewayState, *told: StoredArtifact) -> Snapshot:
    return Snapshot(
        artifact=artifact,
        gateways=[gateway],
        contents={each.content_id: each for each in (artifact, *told)},
        providers={_PROVIDER_ID: "provider"},
        keys={},
    )


def _edge(**state: Any) -> GatewayState:  # noqa: ANN401
    return GatewayState(gateway_id="edge", **{"revisions": {}, **state})


def _field_of_refusal(snapshot: Snapshot) -> str | None:
    try:
        check_gateways(snapshot)
    except Conflict as refused:
        return refused.field
    return None


# --- one gateway ------------------------------------------------------------------------------------------------------


def test_a_gateway_without_peculiarities_takes_every_kind() -> None:
    provider = _artifact(Kind.LLM_PROVIDER, _PROVIDER_ID)
    for kind in _DOCUMENTS:
        gateway = _edge(revisions={_PROVIDER_ID: _revision(provider)} if kind is Kind.LLM_PROXY else {})
        assert _field_of_refusal(_snapshot(_artifact(kind), gateway, provider)) is None


@pytest.mark.parametrize("desired", [None, Desired.UNDEPLOYED])
def test_a_proxy_needs_its_provider_there(desired: Desired | None) -> None:
    provider = _artifact(Kind.LLM_PROVIDER, _PROVIDER_ID)
    revisions = {} if desired is None else {_PROVIDER_ID: _revision(provider, desired=desired)}
    snapshot = _snapshot(_artifact(Kind.LLM_PROXY), _edge(revisions=revisions), provider)
    with pytest.raises(Conflict, match='does not run the LLM provider "provider"'):
        check_gateways(snapshot)


@pytest.mark.parametrize(
    ("state", "field_"),
    [
        ({"names": [NameHolder("other", has_it=True)]}, "name"),
        ({"namesake": "other"}, "name"),
        ({"namesake": "own"}, "handle"),
        ({"routes": [RouteHolder("MCP proxy", "other", Route("*", "/own"))]}, "context"),
        ({"has_template": False}, "template"),
        ({"policies": OfferedPolicies("edge", [])}, "gateways"),
    ],
)
def test_what_stands_in_the_way_is_named(state: dict[str, Any], field_: str) -> None:
    artifact = _artifact(Kind.LLM_PROVIDER, template="own-template", globalPolicies=[{"name": "p"}])
    assert _field_of_refusal(_snapshot(artifact, _edge(**state))) == field_


@pytest.mark.parametrize("context", ["/own", "/other"])
@pytest.mark.parametrize("desired", [Desired.DEPLOYED, Desired.UNDEPLOYED])
def test_a_place_that_is_shared_already_is_kept(context: str, desired: Desired) -> None:
    told = _artifact(name="Told", context=context)
    gateway = _edge(
        revisions={"own": _revision(told, desired=desired)},
        routes=[RouteHolder("REST API", "other", Route("*", "/own"))],
    )
    keeps = context == "/own" and desired is Desired.DEPLOYED
    assert _field_of_refusal(_snapshot(_artifact(), gateway, told)) == (None if keeps else "context")


def test_a_credential_that_gateways_keep_is_not_taken_from_an_mcp_proxy() -> None:
    told = replace(_artifact(Kind.MCP, name="Told"), credentials={"upstream.auth": "secret"})
    gateway = _edge(revisions={"own": _revision(told)})
    assert _field_of_refusal(_snapshot(_artifact(Kind.MCP), gateway, told)) == "upstream.auth"


def test_gateways_that_offer_the_same_are_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = OfferedPolicies("edge", [{"name": "p", "version": "v1.0.0"}])
    calls: list[OfferedPolicies] = []
    check = OfferedPolicies.check_loaded

    def counted(offered: OfferedPolicies, required: Iterable[PolicyReference]) -> None:
        calls.append(offered)
        check(offered, required)

    monkeypatch.setattr(OfferedPolicies, "check_loaded", counted)
    artifact = _artifact(policies=[{"name": "p"}])
    snapshot = _snapshot(artifact, _edge(policies=offered))
    gateways = [replace(snapshot.gateways[0], gateway_id=f"edge-{number}") for number in range(100)]
    check_gateways(replace(snapshot, gateways=gateways))
    assert len(calls) == 1


# --- deploying --------------------------------------------------------------------------------------------------------


def _without_database() -> UnitOfWork:
    return UnitOfWork(cast("Any", None))


def test_where_a_provider_moves_its_proxies_are_told_again_after_it() -> None:
    for moved, proxies_told in product([False, True], repeat=2):
        before = _artifact(Kind.LLM_PROVIDER, _PROVIDER_ID, name="Before", context="/before")
        after = _artifact(Kind.LLM_PROVIDER, _PROVIDER_ID, context="/after" if moved else "/before")
        proxy = _artifact(Kind.LLM_PROXY, "proxy")
        gateway = _edge(
            revisions={_PROVIDER_ID: _revision(before, number=3), "proxy": _revision(proxy)},
            dependants=["proxy"] if proxies_told else [],
        )
        snapshot, change = _snapshot(after, gateway, before, proxy), _without_database()
        deploy_everywhere(change, snapshot)
        rebuild_dependants(change, snapshot)
        types = [event.type for event in change.events]
        assert types == ["llmprovider.deployed", *(["llmproxy.deployed"] if moved and proxies_told else [])]


def test_a_thousand_gateways_are_told_in_order_each_with_a_later_moment() -> None:
    artifact, told = _artifact(), _artifact(name="Told")
    gateways = [
        GatewayState(
            gateway_id=f"edge-{number:04}", revisions={"own": _revision(told, number=number)} if number else {}
        )
        for number in range(1_000)
    ]
    snapshot, change = replace(_snapshot(artifact, gateways[0], told), gateways=gateways), _without_database()
    assert len(set(deploy_everywhere(change, snapshot))) == 1_000
    assert [event.gateway_id for event in change.events] == [gateway.gateway_id for gateway in gateways]
    assert [event.action for event in change.events[:2]] == ["CREATE", "UPDATE"]


# --- names ------------------------------------------------------------------------------------------------------------

_NAMES = ("Alpha", "Beta", "Gamma", "Temp")
_VERSIONS = {(id_, name): _artifact(id_=id_, name=name) for id_ in "abc" for name in _NAMES}


@dataclass
class _Artifact:
    """One artifact, as the control plane and a gateway that keeps its data know it."""

    #: The names of its revisions, the newest last.
    names: list[str]
    #: The revision that the gateway acknowledged.
    held: int = 0
    state: DeploymentState = DeploymentState.DEPLOYED
    #: What the gateway has.
    really: str = ""


@dataclass
class _World:
    """Artifacts of one kind on one gateway, and the events that wait for it."""

    artifacts: dict[str, _Artifact]
    events: list[tuple[str, int]] = field(default_factory=list)

    def rename(self, id_: str, name: str) -> bool:
        """Whether the control plane allows it."""
        own = self.artifacts[id_]
        told = _VERSIONS[id_, own.names[-1]]
        gateway = _edge(
            revisions={id_: _revision(told, number=len(own.names), state=own.state)}, names=self._holders(id_, name)
        )
        if _field_of_refusal(_snapshot(_VERSIONS[id_, name], gateway, told)) is not None:
            return False
        own.names.append(name)
        own.state = DeploymentState.PENDING
        self.events.append((id_, len(own.names) - 1))
        return True

    def _holders(self, id_: str, name: str) -> list[NameHolder]:
        """As the statement finds them."""
        found = []
        for other, each in self.artifacts.items():
            for number in range(each.held, len(each.names)):
                if other != id_ and each.names[number] == name:
                    failed = each.state is DeploymentState.FAILED
                    found.append(
                        NameHolder(other, has_it=number == len(each.names) - 1 or (failed and number == each.held))
                    )
        return found

    def handle_one(self) -> None:
        """The gateway takes the next event: it fetches what is current, and refuses a name that another one has."""
        id_, revision = self.events.pop(0)
        own = self.artifacts[id_]
        taken = any(each.really == own.names[-1] for other, each in self.artifacts.items() if other != id_)
        if not taken:
            own.really = own.names[-1]
        if revision == len(own.names) - 1:
            own.state = DeploymentState.FAILED if taken else DeploymentState.DEPLOYED
            own.held = own.held if taken else revision

    def copy(self) -> _World:
        """One that can go another way."""
        return _World({id_: replace(each, names=[*each.names]) for id_, each in self.artifacts.items()}, [*self.events])


def _ways(world: _World, steps: int) -> Iterator[_World]:
    """Wherever some operations lead: renaming, deploying under the same name, and handling one event."""
    yield world
    if not steps:
        return
    for id_, name in product(world.artifacts, _NAMES):
        other = world.copy()
        if other.rename(id_, name):
            yield from _ways(other, steps - 1)
    if world.events:
        other = world.copy()
        other.handle_one()
        yield from _ways(other, steps - 1)


def _world(ids: Sequence[str]) -> _World:
    return _World({id_: _Artifact([name], really=name) for id_, name in zip(ids, _NAMES, strict=False)})


@pytest.mark.parametrize(("ids", "steps"), [("ab", 4), ("abc", 4)])
def test_whatever_was_allowed_a_gateway_that_returns_ends_with_every_name(ids: str, steps: int) -> None:
    """Every order of up to so many operations: no artifact is ever refused by the gateway, or left behind."""
    count = 0
    for world in _ways(_world(ids), steps):
        ended = world.copy()
        while ended.events:
            ended.handle_one()
        assert {each.state for each in ended.artifacts.values()} == {DeploymentState.DEPLOYED}, world
        assert all(each.really == each.names[-1] for each in ended.artifacts.values()), world
        count += 1
    assert count > 150


def test_what_the_rule_is_for() -> None:
    """Without it, names that are swapped while the gateway is away are both refused there."""
    world = _world("ab")
    assert world.rename("a", "Temp")
    assert world.rename("b", "Alpha")
    assert not world.rename("a", "Beta")
    world.artifacts["a"].names.append("Beta")
    world.events.append(("a", 2))
    while world.events:
        world.handle_one()
    assert {each.state for each in world.artifacts.values()} == {DeploymentState.FAILED}
