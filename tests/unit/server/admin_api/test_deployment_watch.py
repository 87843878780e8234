"""`deployment` messages of the stream: what gateways do with artifacts, as it changes, on every database."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import httpx
import pytest

from gatecast.controlplane.deployments import artifacts
from gatecast.errors import StorageUnavailable
from gatecast.server.admin_api import AdminContext, deployment_looks, shared_looks
from gatecast.server.admin_api.deployment_watch import DeploymentWatch

OpenApi = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
NewGateway = Callable[..., Awaitable[str]]

_STATE = "UPDATE gatecast_deployments SET state = $1, reason = $2, updated_at = now() WHERE id = $3"


@pytest.fixture(autouse=True)
def _always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_looks, "FRESH", 0.0)
    monkeypatch.setattr(shared_looks, "_TIMES_ITS_COST", 0)


async def _make(client: httpx.AsyncClient, name: str, gateways: list[str]) -> str:
    upstream = {"url": "https://mcp.example.test/mcp"}
    body = {"name": name, "version": "v1.0", "upstream": upstream, "gateways": gateways}
    answer = await client.post("/api/v1/mcp-proxies", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _told(watch: DeploymentWatch) -> list[dict[str, Any]]:
    """The deployments that it tells of now."""
    await watch.look()
    text = ""
    while portion := await watch.next_portion():
        text += portion
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n") if line.startswith("data: ")]


def _watch(context: AdminContext, organization: str = "default", gateway: str = "") -> DeploymentWatch:
    return DeploymentWatch(context, organization, gateway=gateway)


async def _acknowledge(context: AdminContext, deployment: dict[str, Any], state: str, reason: str = "") -> None:
    async with context.hub.storage.database.transaction() as transaction:
        await transaction.execute(_STATE, state, reason, deployment["id"])


async def test_a_deployment_is_told_when_it_begins_and_when_the_gateway_answers(
    open_api: OpenApi, new_gateway: NewGateway
) -> None:
    async with open_api() as (client, context):
        one, two = [await new_gateway(client, name) for name in ("one", "two")]
        watch, of_one = _watch(context), _watch(context, gateway=one)
        assert await _told(watch) == []
        artifact_id = await _make(client, "Tools", [one, two])
        begun = {each["gatewayName"]: each for each in await _told(watch)}
        assert {name: each["state"] for name, each in begun.items()} == {"one": "PENDING", "two": "PENDING"}
        assert begun["one"]["artifactId"] == artifact_id
        assert (begun["one"]["gatewayId"], begun["one"]["kind"], begun["one"]["handle"]) == (one, "Mcp", "tools")
        assert [each["gatewayId"] for each in await _told(of_one)] == [one]
        assert await _told(watch) == []
        await _acknowledge(context, begun["two"], "FAILED", "no such policy")
        [failed] = await _told(watch)
        assert (failed["gatewayId"], failed["state"], failed["reason"]) == (two, "FAILED", "no such policy")
        assert await _told(of_one) == []


async def test_who_comes_back_is_told_what_changed_lately(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And only that: the rest is in the list."""
    async with open_api() as (client, context):
        await _make(client, "Tools", [await new_gateway(client)])
        assert len(await _told(_watch(context))) == 1
        monkeypatch.setattr(deployment_looks, "WINDOW", timedelta(seconds=-1))
        assert await _told(_watch(context)) == []


async def test_s31_deployments_of_another_organization_are_not_told(open_api: OpenApi, new_gateway: NewGateway) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        await _make(client, "Tools", [gateway_id])
        assert await _told(_watch(context, "other")) == []
        assert await _told(_watch(context, "other", gateway_id)) == []
        assert (await context.deployments.look("other")).fingerprint == 1


async def test_a_deletion_is_told_once_whatever_ran_it_and_again_to_who_comes_back(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)
        made = {name: await _make(client, name, gateways) for name, gateways in (("Aa", [gateway_id]), ("Bb", []))}
        watch, of_gateway = _watch(context), _watch(context, gateway=gateway_id)
        for each in (watch, of_gateway):
            assert len(await _told(each)) == 1
        for name, artifact_id in made.items():
            await client.delete(f"/api/v1/mcp-proxies/{artifact_id}")
            for each in (watch, of_gateway):
                [told] = await _told(each)
                assert told.pop("deletedAt")
                assert told == {
                    "artifactId": artifact_id,
                    "kind": "Mcp",
                    "handle": name.lower(),
                    "name": name,
                    "deleted": True,
                }
        assert await _told(watch) == []
        assert {each["artifactId"] for each in await _told(_watch(context))} == set(made.values())
        assert await _told(_watch(context, "other")) == []
        monkeypatch.setattr(deployment_looks, "WINDOW", timedelta(seconds=-1))
        assert await _told(_watch(context)) == []


async def test_deletions_are_remembered_for_an_hour(open_api: OpenApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_api() as (client, context):
        await client.delete(f"/api/v1/mcp-proxies/{await _make(client, 'Aa', [])}")
        monkeypatch.setattr(artifacts, "_DELETED_FOR", timedelta(seconds=-1))
        await client.delete(f"/api/v1/mcp-proxies/{await _make(client, 'Bb', [])}")
        assert await context.hub.storage.database.fetch("SELECT * FROM gatecast_deleted_artifacts") == []


async def test_more_changes_than_are_told_are_said_once(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are told, and that the list must be read."""
    monkeypatch.setattr(deployment_looks, "MOST_CHANGES", 1)
    async with open_api() as (client, context):
        await _make(client, "Tools", [await new_gateway(client, name) for name in ("one", "two")])
        watch = _watch(context)
        await watch.look()
        assert await watch.next_portion() == 'event: reload\ndata: {"list": "deployments"}\n\n'
        assert (await watch.next_portion()).startswith("event: deployment\n")
        assert await _told(watch) == []


async def test_what_changed_unseen_is_told_as_something_that_was_missed(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pod could not look for longer than changes are looked for: pages turn, and streams say `reload`, once."""
    async with open_api() as (client, context):
        await _make(client, "Tools", [await new_gateway(client)])
        watch, now = _watch(context), 0.0
        monkeypatch.setattr(context.deployments, "_clock", lambda: now)
        [begun] = await _told(watch)
        before = (await context.deployments.look("default")).fingerprint
        await _acknowledge(context, begun, "FAILED", "no such policy")
        with monkeypatch.context() as patch:
            patch.setattr(deployment_looks, "WINDOW", timedelta(seconds=-1))
            now += deployment_looks.LONGEST_GAP
            await watch.look()
            after = (await context.deployments.look("default")).fingerprint
            assert after == before + 1
            await watch.look()
            assert await watch.next_portion() == 'event: reload\ndata: {"list": "deployments"}\n\n'
            assert await watch.next_portion() == ""
            assert await _told(_watch(context)) == []
        assert (await context.deployments.look("default")).fingerprint == after + 1


async def test_a_look_that_hangs_may_miss_what_changed_before_it_is_answered(
    open_api: OpenApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It began in time, and was carried out too late."""
    async with open_api() as (_, context):
        clock = iter((0.0, 0.0, 1.0, 1.0 + deployment_looks.LONGEST_GAP, 40.0, 40.0))
        monkeypatch.setattr(context.deployments, "_clock", lambda: next(clock))
        watch = _watch(context)
        said = []
        for _ in range(3):
            await watch.look()
            said.append(await watch.next_portion())
        assert [bool(each) for each in said] == [False, True, True]


async def test_what_the_database_could_not_tell_is_told_later(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_api() as (client, context):
        watch = _watch(context)
        await _make(client, "Tools", [await new_gateway(client)])

        async def away(*_: object, **__: object) -> None:
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(context.control_plane.search, "recent_deployments", away)
            with pytest.raises(StorageUnavailable):
                await _told(watch)
        assert len(await _told(watch)) == 1


async def test_pages_turn_when_deployments_or_artifacts_change_and_not_with_time(
    open_api: OpenApi, new_gateway: NewGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact on no gateway is something new, too; a change that has become old is not."""
    async with open_api() as (client, context):
        gateway_id = await new_gateway(client)

        async def fingerprint() -> int:
            return (await context.deployments.look("default")).fingerprint

        seen = [await fingerprint()]
        await _make(client, "Nowhere", [])
        seen.append(await fingerprint())
        artifact_id = await _make(client, "Tools", [gateway_id])
        seen.append(await fingerprint())
        [deployment] = (await client.get("/api/v1/deployments")).json()["items"]
        await _acknowledge(context, deployment, "DEPLOYED")
        seen.append(await fingerprint())
        await client.delete(f"/api/v1/mcp-proxies/{artifact_id}")
        seen.append(await fingerprint())
        assert len(set(seen)) == len(seen)
        monkeypatch.setattr(deployment_looks, "WINDOW", timedelta(seconds=-1))
        assert await fingerprint() == seen[-1]
