"""The calls of the gateway after each `connection.ack`, in their order (gateway-protocol.md 3.1, 3.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from typing import Final

from gatecast.testing.unmodified_gateway.api_keys import Dropped, listed_keys
from gatecast.testing.unmodified_gateway.artifact_kinds import API, LLM_PROVIDER, LLM_PROXY
from gatecast.testing.unmodified_gateway.connection import PERMANENT_REFUSALS, ProcessExit
from gatecast.testing.unmodified_gateway.deployment_sync import DeploymentSync
from gatecast.testing.unmodified_gateway.messages import Fields, Unparsable
from gatecast.testing.unmodified_gateway.packages import import_package
from gatecast.testing.unmodified_gateway.rest_calls import CallFailed, RestCalls
from gatecast.testing.unmodified_gateway.secrets_cache import SecretsCache
from gatecast.testing.unmodified_gateway.subscriptions import plan_from, subscription_from
from gatecast.testing.unmodified_gateway.world import World

_MANIFEST_WAITS = (2.0, 4.0)
_IMPORT_WAITS = (1.0, 2.0, 4.0, 8.0)

#: Path and kind of each back-fill of keys, in the order of the calls; two kinds belong to another binary.
_KEY_LISTS: Final = (
    ("apis", API.kind),
    ("websub-apis", ""),
    ("webbroker-apis", ""),
    ("llm-providers", LLM_PROVIDER.kind),
    ("llm-proxies", LLM_PROXY.kind),
)


class Synchronization:
    """One process's reconciliation with the control plane."""

    def __init__(self, calls: RestCalls, world: World) -> None:
        self.secrets = SecretsCache(calls, world)
        self._calls = calls
        self._world = world
        self._database = world.database
        self._records = world.records
        self._options = world.options
        self._pushing = asyncio.Lock()

    async def deployments(self) -> None:
        """Step 2: once per process."""
        sync = DeploymentSync(self._calls, self._world)
        await self._attempt(partial(sync.run, batch_size=self._options.sync_batch_size))

    async def api_keys_on_premises(self) -> None:
        """All that is left of the sequence where discovery named a path (section 1.3)."""
        await self._attempt(partial(self._keys, "apis", API.kind))

    async def plans_subscriptions_and_keys(self) -> None:
        """Steps 4 to 6."""
        await self._attempt(self._plans)
        for api_id, _ in list(self._database.artifacts.of_kind(API.kind)):
            await self._attempt(partial(self._subscriptions, api_id))
        for path, kind in _KEY_LISTS:
            await self._attempt(partial(self._keys, path, kind))

    async def fetch_secrets(self) -> None:
        """Step 1."""
        await self._attempt(self.secrets.synchronize)

    async def push_manifest(self, gateway_id: str) -> None:
        """Announce release and policies, beside everything else.

        Raises:
            ProcessExit: the control plane refused for good.
        """
        manifest = {
            "version": self._options.version,
            "functionalityType": "regular",
            "policies": list(self._options.policies),
        }
        try:
            await self._repeat(partial(self._calls.push_manifest, gateway_id, manifest), _MANIFEST_WAITS)
        except CallFailed as problem:
            if problem.status in PERMANENT_REFUSALS:
                raise ProcessExit(problem.status) from problem
            self._records.note(f"manifest given up: {problem}")

    async def push_own(self, only: str | None = None) -> None:
        """Step 3: announce what was made on the gateway itself, or one thing of it, beside steps 4 to 6."""
        push = partial(self._push_own, only)
        try:
            # One after another, so that what is said last is what holds.
            async with self._pushing:
                await self._repeat(push, _IMPORT_WAITS, ends_at=frozenset())
        except CallFailed as problem:
            self._records.note(f"import given up: {problem}")

    async def _push_own(self, only: str | None) -> None:
        own = self._database.own
        if entries := own.announced(only):
            own.taken(entries, await self._calls.push_import(import_package(entries), len(entries)))
            self._records.changed()

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        """One step; a failure leaves local data as it is, and the next step follows."""
        try:
            await step()
        except (CallFailed, Unparsable) as problem:
            self._records.note(f"step skipped: {problem}")
        self._records.changed()

    async def _repeat(
        self,
        call: Callable[[], Awaitable[None]],
        waits: Iterable[float],
        *,
        ends_at: frozenset[int] = PERMANENT_REFUSALS,
    ) -> None:
        """Repeat a call with these pauses; raises the last failure."""
        for wait in waits:
            try:
                return await call()
            except CallFailed as problem:
                if problem.status in ends_at:
                    raise
                self._records.note(f"to be repeated: {problem}")
            await self._options.clock.sleep(wait)
        return await call()

    async def _plans(self) -> None:
        subscriptions = self._database.subscriptions
        plans = {item.text("id"): plan_from(item) for item in _array(await self._calls.get("/subscription-plans"))}
        for plan_id in set(subscriptions.plans) - set(plans):
            self._tolerate(partial(subscriptions.delete_plan, plan_id))
        for plan_id, plan in plans.items():
            self._tolerate(partial(subscriptions.save_plan, plan_id, plan))

    async def _subscriptions(self, api_id: str) -> None:
        subscriptions = self._database.subscriptions
        items = _array(await self._calls.get(f"/apis/{api_id}/subscriptions"))
        listed = {item.text("id"): subscription_from(item, api_id=api_id) for item in items if item.text("id")}
        subscriptions.drop_api(api_id, keep=listed)
        for subscription_id, each in listed.items():
            self._tolerate(partial(subscriptions.save, subscription_id, each))

    async def _keys(self, path: str, kind: str) -> None:
        """Take over what is listed, and delete every other key of the artifacts of this kind."""
        keys = self._database.keys
        listed = listed_keys(_raw_array(await self._calls.get(f"/{path}/api-keys")))
        for key in listed:
            self._tolerate(partial(keys.save, key))
        await self._world.step(f"clean up /{path}/api-keys")
        artifact_ids = {artifact_id for artifact_id, _ in self._database.artifacts.of_kind(kind)}
        keys.keep_only({key.uuid for key in listed}, artifact_ids=artifact_ids)

    def _tolerate(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Dropped as problem:
            self._records.note(f"entry skipped: {problem}")


def _raw_array(answer: object) -> Collection[object]:
    """A JSON array; `null` is an empty one."""
    if answer is None:
        return ()
    if not isinstance(answer, list):
        raise Unparsable("not an array")
    return answer


def _array(answer: object) -> list[Fields]:
    return [Fields(item) for item in _raw_array(answer)]
