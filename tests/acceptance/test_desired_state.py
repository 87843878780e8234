"""Random operations of operators, gateways and networks: what is shown is so, and at the end so is what is wanted.

On real sockets and every engine; `simulation.histories` lives through many more of them, in virtual time.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gatecast.testing.desired_state import in_desired_state
from gatecast.testing.eventually import PATIENCE, eventually
from gatecast.testing.nats_server import NatsServer
from gatecast.testing.operator import Refused
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.deployment import Site
from gatecast.testing.processes.installation import Replica
from gatecast.testing.tcp_proxy import TcpProxy
from gatecast.testing.unmodified_gateway import GatewayOptions, UnmodifiedGateway
from simulation.histories.truth import untruths
from simulation.histories.world import Controller, Edge

pytestmark = pytest.mark.acceptance

T = TypeVar("T")

_EAGER = GatewayOptions(reconnect_initial=0.02, reconnect_max=0.1)

_COLLECTIONS = st.sampled_from(["llm-providers", "llm-proxies", "mcp-proxies", "rest-apis"])

_WHICH = st.integers(min_value=0, max_value=9)

#: What an operation may end with that does not fit the present state.
_REFUSALS = (404, 409, 412, 422)

_GATEWAY = st.integers(min_value=0, max_value=1)

#: What failed is tried again so often: a proxy may have to wait for its provider.
_TRIES = 3

#: What is shown is compared with what is so after so many steps.
_COMPARE_EVERY = 20

_KEY_NAMES = st.sampled_from(["first-key", "second-key"])

_numbers = itertools.count(1)

#: So many histories, always the same; with TEST_EXAMPLES as many, and random.
_EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "5"))


class ControlPlane(RuleBasedStateMachine):
    """Two pods, two gateways, and an operator at each pod."""

    #: Makes an empty site out of a folder of its own; set by the tests.
    new_site: ClassVar[Any]

    @initialize()
    def start(self) -> None:
        """Start everything."""
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = TemporaryDirectory()
        #: Collection and id of everything that exists.
        self.artifacts: list[tuple[str, str]] = []
        self.names = itertools.count(1)
        self.stopped: set[int] = set()
        self.steps = 0
        self._run(self._start())

    async def _start(self) -> None:
        enter = self.stack.enter_async_context
        site = await self.new_site(Path(self.folder.name))
        self.pods: list[Replica] = [await enter(Replica(site, number)) for number in range(2)]
        self.ways, self.gateways, self.ids = [], [], []
        #: The pod that each gateway's way leads to.
        self.targets = [0, 1]
        for number in range(2):
            access = await self.pods[0].operator.create_gateway(f"gateway-{number}")
            way = await enter(TcpProxy(self.pods[number].gateways))
            gateway = UnmodifiedGateway(way.address, access.token, follow_artifacts=True, options=_EAGER)
            self.ways.append(way)
            self.gateways.append(await enter(gateway))
            self.ids.append(access.id)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, PATIENCE))

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """What the next pod's admin API answers; a refusal changes nothing, and is None."""
        operator = self.pods[next(_numbers) % 2].operator
        try:
            return self._run(operator.ask(method, path, body))
        except Refused as refused:
            if refused.status in _REFUSALS:
                return None
            raise

    def _path(self, which: int) -> str:
        collection, artifact_id = self.artifacts[which % len(self.artifacts)]
        return f"/{collection}/{artifact_id}"

    # --- operators ----------------------------------------------------------------------------------------------

    @rule(collection=_COLLECTIONS, everywhere=st.booleans(), where=_GATEWAY)
    def create(self, collection: str, where: int, *, everywhere: bool) -> None:
        """Create an artifact on one gateway or both."""
        number = next(self.names)
        body = {
            "name": f"Artifact {number}",
            "version": "v1.0",
            "context": f"/artifact-{number}",
            "gateways": self.ids if everywhere else [self.ids[where]],
            **self._particulars(collection),
        }
        if (made := self._ask("POST", f"/{collection}", body)) is not None:
            self.artifacts.append((collection, made["id"]))

    def _particulars(self, collection: str) -> dict[str, Any]:
        url = "http://backend.example.test:8080/base"
        auth = {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"}
        match collection:
            case "llm-providers":
                limits = {"global": {"requests": [{"count": 100, "duration": "1m"}]}}
                return {"template": "openai", "upstream": {"url": url, "auth": auth}, "rateLimits": limits}
            case "llm-proxies":
                providers = [each for kind, each in self.artifacts if kind == "llm-providers"] or ["none"]
                others = [{"id": each, "auth": auth} for each in providers[:-1][:1]]
                return {"provider": {"id": providers[-1], "auth": auth}, "additionalProviders": others}
            case "mcp-proxies":
                return {"upstream": {"url": url, "auth": auth}}
            case _:
                return {"upstream": {"main": {"url": url}}, "operations": [{"method": "GET", "path": "/items"}]}

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH)
    def change(self, which: int) -> None:
        """Move an artifact."""
        self._ask("PATCH", self._path(which), {"context": f"/moved-{next(self.names)}"})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, kept=st.booleans())
    def change_credential(self, which: int, *, kept: bool) -> None:
        """Give an artifact another credential, or none."""
        auth = {"type": "api-key", "header": "X-Key", "value": f"credential-{next(self.names)}"} if kept else None
        where = "provider" if self.artifacts[which % len(self.artifacts)][0] == "llm-proxies" else "upstream"
        self._ask("PATCH", self._path(which), {where: {"auth": auth}})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, like=_WHICH)
    def rename(self, which: int, like: int) -> None:
        """Give an artifact another name, perhaps one that others have or had."""
        self._ask("PATCH", self._path(which), {"name": f"Artifact {1 + like % next(self.names)}"})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, provider=_WHICH)
    def repoint(self, which: int, provider: int) -> None:
        """Let a proxy use another provider."""
        providers = [each for kind, each in self.artifacts if kind == "llm-providers"]
        if providers and self.artifacts[which % len(self.artifacts)][0] == "llm-proxies":
            self._ask("PATCH", self._path(which), {"provider": {"id": providers[provider % len(providers)]}})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, gateways=st.sets(_GATEWAY))
    def place(self, which: int, gateways: set[int]) -> None:
        """Say where an artifact runs, and that it is undeployed elsewhere."""
        chosen = [self.ids[number] for number in sorted(gateways)]
        others = [each for each in self.ids if each not in chosen]
        self._ask("PATCH", self._path(which), {"gateways": chosen, "undeploy": others})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, where=_GATEWAY)
    def deploy(self, which: int, where: int) -> None:
        """Deploy an artifact to a gateway, once more or for the first time."""
        self._ask("POST", f"{self._path(which)}/deployments", {"gatewayId": self.ids[where]})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, where=_GATEWAY)
    def undeploy(self, which: int, where: int) -> None:
        """Undeploy an artifact from a gateway."""
        self._ask("POST", f"{self._path(which)}/undeploy", {"gatewayId": self.ids[where]})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, back=_WHICH)
    def restore(self, which: int, back: int) -> None:
        """Restore an earlier deployment."""
        page = self._ask("GET", f"{self._path(which)}/deployments")
        if page["items"]:
            earlier = page["items"][back % len(page["items"])]
            self._ask("POST", f"{self._path(which)}/deployments/{earlier['id']}/restore")

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH)
    def delete(self, which: int) -> None:
        """Delete an artifact."""
        if self._ask("DELETE", self._path(which)) is None:
            self.artifacts = [each for each in self.artifacts if self._exists(each)]

    def _exists(self, artifact: tuple[str, str]) -> bool:
        return self._ask("GET", "/".join(("", *artifact))) is not None

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, name=_KEY_NAMES)
    def create_key(self, which: int, name: str) -> None:
        """Create a key."""
        self._ask("POST", f"{self._path(which)}/api-keys", {"name": name})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, name=_KEY_NAMES)
    def rotate_key(self, which: int, name: str) -> None:
        """Give a key a new value."""
        self._ask("POST", f"{self._path(which)}/api-keys/{name}/rotate", {})

    @precondition(lambda self: self.artifacts)
    @rule(which=_WHICH, name=_KEY_NAMES)
    def revoke_key(self, which: int, name: str) -> None:
        """Revoke a key."""
        self._ask("DELETE", f"{self._path(which)}/api-keys/{name}")

    # --- gateways and networks ----------------------------------------------------------------------------------

    @rule(where=_GATEWAY)
    def cut(self, where: int) -> None:
        """The connection breaks."""
        self.gateways[where].cut()
        self._run(asyncio.sleep(0))

    @rule(where=_GATEWAY)
    def stop(self, where: int) -> None:
        """The gateway's process ends."""
        self.stopped.add(where)
        self._run(self.gateways[where].stop())

    @rule(where=_GATEWAY)
    def restart(self, where: int) -> None:
        """The gateway's process starts, after a crash if it ran."""
        self.stopped.discard(where)
        self._run(self.gateways[where].restart())

    @rule(where=_GATEWAY, pod=_GATEWAY)
    def move(self, where: int, pod: int) -> None:
        """The gateway's way leads to a pod."""
        self.targets[where] = pod
        self.ways[where].retarget(self.pods[pod].gateways)

    @rule(which=_GATEWAY)
    def replace_pod(self, which: int) -> None:
        """A pod ends, and another one takes its place."""
        self._run(self.pods[which].restart())
        for way, target in zip(self.ways, self.targets, strict=True):
            if target == which:
                way.retarget(self.pods[which].gateways)

    @rule(where=_GATEWAY)
    def fail(self, where: int) -> None:
        """The next deploy or undeploy fails on the gateway."""
        self.gateways[where].fail_next_apply("no reason")

    @rule()
    def lose_positions(self) -> None:
        """The database was restored from a backup, as far as positions are concerned."""
        self._run(self._renew_epoch())

    async def _renew_epoch(self) -> None:
        log = self.pods[0].pod.hub.engine.log
        await log.renew_epoch((await log.changed_since(0)).epoch)

    @rule()
    def settle(self) -> None:
        """Time passes."""
        self._run(asyncio.sleep(0.05))

    # --- in between ---------------------------------------------------------------------------------------------

    @invariant()
    def compare(self) -> None:
        """What is shown is so; nobody is restarted for it, because that heals and hides."""
        self.steps += 1
        if self.steps % _COMPARE_EVERY == 0:
            self._run(self._become_true())

    async def _become_true(self) -> None:
        edges = [
            Edge(id=each, way=each, controllers=[Controller(gateway=gateway, runs=where not in self.stopped)])
            for where, (each, gateway) in enumerate(zip(self.ids, self.gateways, strict=True))
        ]
        last: list[str] = []

        async def true() -> bool:
            last[:] = await untruths(self.pods[0].operator, edges)
            return not last

        try:
            await eventually(true)
        except TimeoutError:
            raise AssertionError(last) from None

    # --- the end ------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Everything works again, and what failed is tried again: every gateway ends in the desired state."""
        if not hasattr(self, "runner"):
            return
        try:
            self._run(self._settle())
        finally:
            self._run(self.stack.aclose())
            self.runner.close()
            self.folder.cleanup()

    async def _settle(self) -> None:
        for where in self.stopped:
            await self.gateways[where].restart()
        for gateway in self.gateways:
            gateway._controls.planned_failures.clear()
        operator = self.pods[0].operator
        for _ in range(_TRIES):
            await eventually(self._all_answered)
            if not await self._try_again():
                break
        for gateway_id, gateway in zip(self.ids, self.gateways, strict=True):
            # Where an earlier revision was restored, that is what should run.
            await in_desired_state(operator, gateway_id, gateway, as_written=False)

    async def _all_answered(self) -> bool:
        states = [each["state"] for _, shown in await self._shown() for each in shown["deployments"]]
        return not {"PENDING", "UNDEPLOYING"} & set(states)

    async def _shown(self) -> list[tuple[str, Any]]:
        """Path and representation of everything that exists; providers first."""
        shown = []
        for collection, artifact_id in sorted(self.artifacts):
            path = f"/{collection}/{artifact_id}"
            with suppress(Refused):
                shown.append((path, await self.pods[0].operator.ask("GET", path)))
        return shown

    async def _try_again(self) -> bool:
        """Deploy, or undeploy, what failed, and nothing else; False when nothing did."""
        failed = [
            (path, each["gatewayId"], each["gatewayId"] in shown["gateways"])
            for path, shown in await self._shown()
            for each in shown["deployments"]
            if each["state"] == "FAILED"
        ]
        for path, gateway_id, deployed in failed:
            action = "deployments" if deployed else "undeploy"
            await self.pods[0].operator.ask("POST", f"{path}/{action}", {"gatewayId": gateway_id})
        return bool(failed)


def _explore(machine: type[ControlPlane]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=_EXAMPLES,
            stateful_step_count=25,
            # Each step takes real time: a failure is told as it was found.
            phases=[Phase.generate],
            derandomize="TEST_EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_random_operations_end_in_the_desired_state_on_sqlite() -> None:
    """On a file."""

    class OnSqlite(ControlPlane):
        @staticmethod
        async def new_site(folder: Path) -> str:
            return f"sqlite:///{folder / 'gatecast.db'}"

    _explore(OnSqlite)


def test_random_operations_end_in_the_desired_state_on_postgresql(postgres: PostgresServer) -> None:
    """On a server."""

    class OnPostgres(ControlPlane):
        @staticmethod
        async def new_site(_folder: Path) -> str:
            name = f"desired_state_{next(_numbers)}"
            await postgres.create_database(name)
            return postgres.url(name)

    _explore(OnPostgres)


def test_random_operations_end_in_the_desired_state_on_jetstream(nats: NatsServer) -> None:
    """On a stream, with a file beside it."""

    class OnJetStream(ControlPlane):
        @staticmethod
        async def new_site(folder: Path) -> Site:
            return Site(database=nats.url(f"D{uuid4().hex}"), outbox=f"sqlite:///{folder / 'gatecast.db'}")

    _explore(OnJetStream)
