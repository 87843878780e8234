"""What may happen: operators, gateways, networks and pods, each operation drawn from what there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import uuid4

from simulation.histories.repeatable import LoopClock
from simulation.histories.world import Controller, Edge, World

#: One operation.
Operation: TypeAlias = Callable[[World], Awaitable[None]]

_COLLECTIONS = ("llm-providers", "llm-proxies", "mcp-proxies", "rest-apis")

_KEY_NAMES = ("first-key", "second-key")

_AUTH = {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"}

#: Most artifacts that there are, and how many of them most operations are about.
_MOST, _FAVOURITES = 8, 3

#: Seconds that a key may live that ends soon.
_LIVES = (1, 20, 60)

#: So many applications there are, and so many tenths of a second a pod has to die.
_APPLICATIONS, _DYING = 3, 20

_URL = "http://backend.example.test:8080/base"


# --- operators ------------------------------------------------------------------------------------------------------


async def begin(world: World) -> None:
    """Create one artifact of each kind on every gateway, each with a key."""
    for collection in _COLLECTIONS:
        await _make(world, collection, [edge.id for edge in world.edges], with_key=True)


async def create(world: World) -> None:
    """Create an artifact on one gateway or both, often with a key; at last instead of another one."""
    if len(world.artifacts) >= _MOST:
        await delete(world)
    ids = [edge.id for edge in world.edges]
    gateways = world.random.choice([ids, ids[:1], ids[1:]])
    await _make(world, world.random.choice(_COLLECTIONS), gateways, with_key=world.random.random() < 0.5)


async def _make(world: World, collection: str, gateways: list[str], *, with_key: bool) -> None:
    number = next(world.names)
    body = {
        "name": f"Artifact {number}",
        "version": "v1.0",
        "context": f"/artifact-{number}",
        "gateways": gateways,
        **_particulars(world, collection),
    }
    if (made := await world.ask("POST", f"/{collection}", body)) is not None:
        world.artifacts.append((collection, made["id"]))
        if with_key:
            await world.ask("POST", f"/{collection}/{made['id']}/api-keys", {"name": world.random.choice(_KEY_NAMES)})


def _particulars(world: World, collection: str) -> dict[str, Any]:
    match collection:
        case "llm-providers":
            limits = {"global": {"requests": [{"count": 100, "duration": "1m"}]}}
            return {"template": "openai", "upstream": {"url": _URL, "auth": _AUTH}, "rateLimits": limits}
        case "llm-proxies":
            providers = _of(world, "llm-providers") or ["none"]
            chosen = world.random.choice(providers)
            others = [{"id": each, "auth": _AUTH} for each in providers if each != chosen][:1]
            return {"provider": {"id": chosen, "auth": _AUTH}, "additionalProviders": others}
        case "mcp-proxies":
            return {"upstream": {"url": _URL, "auth": _AUTH}}
        case _:
            return {"upstream": {"main": {"url": _URL}}, "operations": [{"method": "GET", "path": "/items"}]}


async def change(world: World) -> None:
    """Move an artifact."""
    await world.ask("PATCH", _path(world), {"context": f"/moved-{next(world.names)}"})


async def change_credential(world: World) -> None:
    """Give an artifact another credential, or none."""
    path = _path(world)
    kept = world.random.random() < 0.5
    auth = {"type": "api-key", "header": "X-Key", "value": f"credential-{next(world.names)}"} if kept else None
    where = "provider" if path.startswith("/llm-proxies") else "upstream"
    await world.ask("PATCH", path, {where: {"auth": auth}})


async def rename(world: World) -> None:
    """Give an artifact another name, perhaps one that others have or had."""
    path, number = _path(world), next(world.names)
    await world.ask("PATCH", path, {"name": f"Artifact {world.random.randint(1, number)}"})


async def repoint(world: World) -> None:
    """Let a proxy use another provider."""
    providers, proxies = _of(world, "llm-providers"), _of(world, "llm-proxies")
    if providers and proxies:
        body = {"provider": {"id": world.random.choice(providers)}}
        await world.ask("PATCH", f"/llm-proxies/{world.random.choice(proxies)}", body)


async def place(world: World) -> None:
    """Say where an artifact runs, and that it is undeployed elsewhere."""
    ids = [edge.id for edge in world.edges]
    chosen = [each for each in ids if world.random.random() < 0.5]
    others = [each for each in ids if each not in chosen]
    await world.ask("PATCH", _path(world), {"gateways": chosen, "undeploy": others})


async def deploy(world: World) -> None:
    """Deploy an artifact to a gateway, once more or for the first time."""
    await world.ask("POST", f"{_path(world)}/deployments", {"gatewayId": _edge(world).id})


async def undeploy(world: World) -> None:
    """Undeploy an artifact from a gateway."""
    await world.ask("POST", f"{_path(world)}/undeploy", {"gatewayId": _edge(world).id})


async def restore(world: World) -> None:
    """Restore an earlier deployment."""
    path = _path(world)
    page = await world.ask("GET", f"{path}/deployments")
    if page and page["items"]:
        earlier = world.random.choice(page["items"])
        await world.ask("POST", f"{path}/deployments/{earlier['id']}/restore")


async def delete(world: World) -> None:
    """Delete an artifact."""
    collection, artifact_id = world.random.choice(world.artifacts)
    path = f"/{collection}/{artifact_id}"
    await world.ask("DELETE", path)
    if await world.ask("GET", path) is None:
        world.artifacts.remove((collection, artifact_id))


async def create_key(world: World) -> None:
    """Create a key, sometimes one that ends soon."""
    body = {"name": world.random.choice(_KEY_NAMES), **_expiry(world)}
    await world.ask("POST", f"{_path(world)}/api-keys", body)


def _expiry(world: World) -> dict[str, str]:
    if world.random.random() < 0.7:
        return {}
    return {"expiresAt": (LoopClock().now() + timedelta(seconds=world.random.choice(_LIVES))).isoformat()}


async def rotate_key(world: World) -> None:
    """Give a key a new value."""
    await world.ask("POST", f"{_path(world)}/api-keys/{world.random.choice(_KEY_NAMES)}/rotate", _expiry(world))


async def revoke_key(world: World) -> None:
    """Revoke a key."""
    await world.ask("DELETE", f"{_path(world)}/api-keys/{world.random.choice(_KEY_NAMES)}")


async def tell_of_an_application(world: World) -> None:
    """Publish an event that gateways apply and ask for in no list."""
    edge = _edge(world)
    name = f"application-{world.random.randint(1, _APPLICATIONS)}"
    data = {
        "applicationId": name,
        "applicationUuid": name,
        "applicationName": name,
        "applicationType": "web",
        "mappings": [],
    }
    event = {
        "type": "application.updated",
        "action": "UPDATE",
        "entityType": "Application",
        "entityId": name,
        "data": data,
        "eventId": str(uuid4()),
    }
    if await world.ask("POST", f"/gateways/{edge.id}/events", event) is not None:
        edge.applications.add(name)


# --- gateways and networks ------------------------------------------------------------------------------------------


async def cut(world: World) -> None:
    """The connections of a gateway break."""
    world.network.cut(_edge(world).way)


async def silence(world: World) -> None:
    """Nothing passes over a gateway's present wires, and nobody notices."""
    world.network.silence(_edge(world).way)


async def move(world: World) -> None:
    """A gateway's way leads to a pod."""
    world.network.ways[_edge(world).way] = world.random.choice(world.pods).name


async def stop(world: World) -> None:
    """A controller's process ends in order."""
    controller = _controller(world)
    if controller.runs:
        controller.runs = False
        await controller.gateway.stop()


async def restart(world: World) -> None:
    """A controller's process starts, after a crash if it ran."""
    await start_again(_controller(world))


async def restart_without_data(world: World) -> None:
    """A gateway loses its database, and its processes start again."""
    edge = _edge(world)
    for controller in edge.controllers:
        controller.runs = False
        controller.lose_sight()
        await controller.gateway.stop()
    edge.controllers[0].gateway.lose_data()
    for controller in edge.controllers:
        await start_again(controller)


async def lose_data(world: World) -> None:
    """A gateway loses its database, and its processes do not notice."""
    edge = _edge(world)
    edge.controllers[0].gateway.lose_data()
    for controller in edge.controllers:
        controller.lose_sight()


async def delete_by_hand(world: World) -> None:
    """An operator deletes an artifact on a gateway."""
    edge = _edge(world)
    gateway = edge.controllers[0].gateway
    if gateway.artifacts:
        gateway.delete_by_hand(world.random.choice(sorted(gateway.artifacts)))
        for controller in edge.controllers:
            controller.lose_sight()


async def fail(world: World) -> None:
    """The next deploy or undeploy fails on a controller."""
    _controller(world).gateway.fail_next_apply("no reason")


# --- pods and their database ----------------------------------------------------------------------------------------


async def replace_pod(world: World) -> None:
    """A pod ends in order, and another one takes its place."""
    pod = world.random.choice(world.pods)
    await pod.stop()
    await pod.start()


async def crash_pod(world: World) -> None:
    """A pod dies, and another one takes its place."""
    pod = world.random.choice(world.pods)
    await pod.crash()
    await pod.start()


async def crash_pod_in_its_work(world: World) -> None:
    """A pod dies between two statements, perhaps while it brings a gateway up to date."""
    pod = world.random.choice(world.pods)
    world.network.cut(world.random.choice(world.edges).way)
    pod.dies_before = world.random.randint(1, 80)
    for _ in range(_DYING):
        if not pod.is_dead:
            await asyncio.sleep(0.1)
    await pod.crash()
    await pod.start()


async def back_up(world: World) -> None:
    """Keep a copy of the database."""
    world.back_up()


async def restore_database(world: World) -> None:
    """The database is lost, and the copy takes its place."""
    if not world.has_backup:
        return
    for pod in world.pods:
        await pod.stop()
    world.restore()
    for pod in world.pods:
        await pod.start()
    for edge in world.edges:
        edge.forgotten = True
        edge.applications.clear()
    await world.list_artifacts()


async def lose_database(world: World) -> None:
    """A pod cannot reach its database for a while."""
    pod = world.random.choice(world.pods)
    pod.has_database = False
    await asyncio.sleep(world.random.choice((0.01, 0.5, 3.0)))
    pod.has_database = True


async def renew_epoch(world: World) -> None:
    """The database was restored from a backup, as far as positions are concerned."""
    log = world.pods[0].pod.hub.storage.log
    await log.renew_epoch((await log.changed_since(0)).epoch)


async def start_again(controller: Controller) -> None:
    """Start a controller's process."""
    controller.runs = True
    await controller.gateway.restart()
    controller.started = True


#: How often each happens.
OPERATIONS: dict[Operation, int] = {
    create: 8,
    change: 8,
    change_credential: 3,
    rename: 3,
    repoint: 3,
    place: 8,
    deploy: 10,
    undeploy: 10,
    restore: 3,
    delete: 5,
    create_key: 8,
    rotate_key: 12,
    revoke_key: 8,
    cut: 5,
    silence: 2,
    move: 3,
    stop: 4,
    restart: 5,
    restart_without_data: 4,
    lose_data: 1,
    delete_by_hand: 1,
    fail: 2,
    replace_pod: 3,
    crash_pod: 2,
    crash_pod_in_its_work: 3,
    back_up: 1,
    restore_database: 1,
    tell_of_an_application: 3,
    lose_database: 3,
    renew_epoch: 1,
}

#: Operations on artifacts that exist.
NEED_ARTIFACTS = frozenset(
    {
        change,
        change_credential,
        rename,
        place,
        deploy,
        undeploy,
        restore,
        delete,
        create_key,
        rotate_key,
        revoke_key,
    }
)


def _edge(world: World) -> Edge:
    return world.random.choice(world.edges)


def _controller(world: World) -> Controller:
    return world.random.choice(_edge(world).controllers)


def _path(world: World) -> str:
    """Of an artifact, mostly one of the newest: what happens to one thing meets what happened to it before."""
    newest = world.artifacts[-_FAVOURITES:] if world.random.random() < 0.7 else world.artifacts
    collection, artifact_id = world.random.choice(newest)
    return f"/{collection}/{artifact_id}"


def _of(world: World, collection: str) -> list[str]:
    return [artifact_id for each, artifact_id in world.artifacts if each == collection]
