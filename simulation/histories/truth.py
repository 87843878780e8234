"""Whether what the control plane shows is so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gatecast.testing.desired_state import every_artifact, expired
from gatecast.testing.operator import Operator
from gatecast.testing.unmodified_gateway import CONTROL_PLANE, UnmodifiedGateway
from simulation.histories.repeatable import LoopClock
from simulation.histories.world import Edge

_DEPLOYED, _ACTIVE = "deployed", "active"

#: States that say that something is still to come.
_WAITING = frozenset({"PENDING", "UNDEPLOYING"})


class Moment(Operator):
    """What operators see at one moment: every page is asked for once, however many gateways it is about."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._pages: dict[str, Any] = {}

    async def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """What the operator is answered; `path` stands below `/api/v1`."""
        assert (method, body) == ("GET", None), "looking changes nothing"
        if path not in self._pages:
            self._pages[path] = await self._operator.ask(method, path)
        return self._pages[path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the control plane shows of one gateway."""

    why: str
    #: State, deployment and handle by artifact.
    deployments: Mapping[str, tuple[str, str, str]]
    #: Masks of the active keys by artifact, of everything that is shown as deployed; empty when nobody asked.
    keys: Mapping[str, Mapping[str, str]]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to come any more."""
        return self.claims and not self.waiting

    @property
    def asks_for_help(self) -> bool:
        """Whether an operator has to do something: a process that runs cannot name everything that it has."""
        return self.why == "resync-needed"

    @property
    def waiting(self) -> list[str]:
        """What the gateway has not answered, in words."""
        return [f"{handle} {state}" for state, _, handle in self.deployments.values() if state in _WAITING]

    @property
    def claims(self) -> bool:
        """Whether it is said that the gateway has everything, but for what it could not do."""
        return self.why == "current" or (self.why == "rejected" and self.failed)

    @property
    def failed(self) -> bool:
        """Whether the gateway could not do something."""
        return any(state == "FAILED" for state, _, _ in self.deployments.values())


async def shown(operator: Operator, edge: Edge, *, with_keys: bool = False) -> Shown:
    """What operators see of a gateway."""
    path = f"/gateways/{edge.id}"
    why = (await operator.ask("GET", f"{path}/why"))["code"]
    if why == "resync-needed" and not edge.forgotten and (await operator.ask("GET", path))["resyncReason"] is None:
        # It may run what only a lost history knew, and its operator is told to restart it. Nothing was lost.
        why = "current"
    deployments: dict[str, tuple[str, str, str]] = {}
    keys: dict[str, dict[str, str]] = {}
    async for collection, item in every_artifact(operator):
        for each in item["deployments"]:
            if each["gatewayId"] == edge.id:
                deployments[item["id"]] = (each["state"], each["id"], item["handle"])
                if with_keys and each["state"] == "DEPLOYED":
                    keys[item["id"]] = await _keys(operator, collection, item["id"])
    return Shown(why=why, deployments=deployments, keys=keys)


async def _keys(operator: Operator, collection: str, artifact_id: str) -> dict[str, str]:
    """Masks of the active keys, by name."""
    listed = await operator.ask("GET", f"/{collection}/{artifact_id}/api-keys")
    now = LoopClock().now()
    return {
        key["name"]: key["maskedValue"] for key in listed["items"] if key["revokedAt"] is None and not expired(key, now)
    }


async def untruths(operator: Operator, edges: Iterable[Edge]) -> list[str]:
    """Everything that is shown as current and is not so, in words."""
    found: list[str] = []
    for edge in edges:
        claims = await shown(operator, edge, with_keys=True)
        if not claims.claims:
            continue
        if not any(each.runs for each in edge.controllers):
            found.append(f"{edge.way}: is not there, and shown as current")
        for number, controller in enumerate(edge.controllers):
            if controller in edge.comparable:
                found += [f"{edge.way}/{number}: {each}" for each in _untruths(claims, controller.gateway)]
    return found


def _untruths(claims: Shown, gateway: UnmodifiedGateway) -> list[str]:
    if gateway.start_failed or gateway.exited:
        return [f"its process cannot start: {gateway.start_failed or gateway.exited}"]
    stored = {id_: each for id_, each in gateway.artifacts.items() if each.origin == CONTROL_PLANE}
    found: list[str] = []
    for artifact_id, (state, deployment_id, handle) in claims.deployments.items():
        present = stored.get(artifact_id)
        runs = present is not None and present.state == _DEPLOYED
        name = f"{handle} ({artifact_id[:8]})"
        if state == "DEPLOYED":
            if present is None or not runs:
                found.append(f"{name} is shown as deployed, and is {present.state if present else 'not there'}")
            elif present.deployment_id != deployment_id:
                found.append(f"{name} is another deployment than shown")
            else:
                found += _wrong_keys(name, claims.keys[artifact_id], gateway, artifact_id)
        elif state == "UNDEPLOYED" and runs:
            found.append(f"{name} is shown as undeployed, and is deployed")
    unknown = [each for each in stored if each not in claims.deployments and stored[each].state == _DEPLOYED]
    return found + [f"{each} is deployed, and not shown" for each in unknown]


def _wrong_keys(name: str, masks: Mapping[str, str], gateway: UnmodifiedGateway, artifact_id: str) -> list[str]:
    now = LoopClock().now()
    opening = {
        key_name: key.mask
        for (owner, key_name), key in gateway.api_keys.items()
        if owner == artifact_id and key.status == _ACTIVE and not (key.expires_at and key.expires_at <= now)
    }
    return [] if opening == masks else [f"{name} opens with {opening}, not with {masks}"]


def describe(edge: Edge) -> list[str]:
    """What the controllers of a gateway look like."""
    return [
        f"{edge.way}/{number}: runs={each.runs} blind={each.blind} {each.gateway.describe()}"
        for number, each in enumerate(edge.controllers)
    ]


def failed_paths(items: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, str, bool]]:
    """Path, gateway and whether it should run, of everything that failed."""
    return [
        (path, each["gatewayId"], each["gatewayId"] in item["gateways"])
        for path, item in items
        for each in item["deployments"]
        if each["state"] == "FAILED"
    ]
