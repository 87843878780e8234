"""Histories repeat exactly, and whatever is shown and is not so breaks them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from gatecast.testing.unmodified_gateway import UNDEPLOYED
from simulation.histories import Broken, live_through
from simulation.histories.history import TRUE_WITHIN
from simulation.histories.operations import OPERATIONS, begin, deploy, fail, renew_epoch, tell_of_an_application
from simulation.histories.repeatable import run_repeatably
from simulation.histories.truth import shown, untruths
from simulation.histories.world import World

#: Nothing of what it takes is known to be shown wrongly.
_QUIET = 3

#: Both of its gateways have two controllers.
_REPLICATED = 28


def test_a_seed_repeats_exactly_and_another_one_is_another_history(monkeypatch: pytest.MonkeyPatch) -> None:
    for operation in OPERATIONS.keys() - {deploy}:
        monkeypatch.delitem(OPERATIONS, operation)
    first, again, other = (live_through(seed, operations=8, compare_every=8) for seed in (1, 1, 2))
    assert first == again
    assert first.log[0].strip().startswith("0.0")
    assert first.digest != other.digest
    assert first.events > 0


def test_tasks_stand_in_sets_by_their_number() -> None:
    """By their address they would be cancelled and woken in another order each time."""

    async def numbers() -> list[int]:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(8)]
        await asyncio.gather(*tasks)
        return [hash(each) - hash(tasks[0]) for each in tasks]

    assert run_repeatably(_QUIET, numbers()) == list(range(8))


def test_two_controllers_of_one_gateway_repeat() -> None:
    """What wakes their connections does so in one order, in every process that is told the seed."""
    options = "--seed", str(_REPLICATED), "--operations", "6", "--compare-every", "6"
    said = [_prove(*options, hash_seed=each) for each in (None, "0")]
    first, again = (text.rpartition("digest ")[2].strip() for text in said)
    assert first == again != ""


def test_histories_end_in_the_desired_state() -> None:
    """A short run for every day; `make prove` lives through as many as one likes."""
    assert " 0 broken" in _prove("--seeds", "4", "--keep-on")


def _prove(*options: str, hash_seed: str | None = "0") -> str:
    """What the command says, in a process of its own, because sets of texts have an order of each process.

    Without a seed for that order it begins once more with the one that it needs, and imports everything twice.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    if hash_seed is not None:
        environment["PYTHONHASHSEED"] = hash_seed
    command = [sys.executable, "-m", "simulation.histories", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_operators_reach_the_pod_that_has_taken_anothers_place() -> None:
    """Its admin API outlives it, and whatever that keeps of the pod's context."""

    async def publish() -> set[str]:
        async with World.open(_QUIET) as world:
            for pod in world.pods:
                await pod.stop()
                await pod.start()
            await tell_of_an_application(world)
            return set().union(*(edge.applications for edge in world.edges))

    assert run_repeatably(_QUIET, publish())


def test_a_seed_repeats_after_other_histories_in_one_process() -> None:
    """Whatever is drawn comes from the seed: also when the pods look, and clean up, for the first time."""
    pauses = []

    async def rest() -> None:
        async with World.open(_QUIET):
            loop = asyncio.get_running_loop()
            pauses.append(sorted(each.when() for each in loop._scheduled))  # type: ignore[attr-defined]

    for _ in range(2):
        run_repeatably(_QUIET, rest())
    assert pauses[0] == pauses[1]


def test_a_key_made_again_survives_that_its_namesakes_revocation_is_sent_again() -> None:
    """The gateway handles both, and its connection breaks before it can confirm them: both come once more."""

    async def run() -> None:
        async with World.open(_QUIET) as world:
            await begin(world)
            await asyncio.sleep(TRUE_WITHIN)
            collection, artifact_id = world.artifacts[0]
            path = f"/{collection}/{artifact_id}/api-keys"
            [key] = (await world.ask("GET", path))["items"]
            cut: list[str] = []
            edge = world.edges[0]

            async def cut_once(step: str) -> None:
                if step.startswith("handled apikey.created") and not cut:
                    cut.append(step)
                    world.network.cut(edge.way)

            edge.controllers[0].gateway.schedule_steps(cut_once)
            await world.ask("DELETE", f"{path}/{key['name']}")
            await world.ask("POST", path, {"name": key["name"]})
            await asyncio.sleep(TRUE_WITHIN)
            assert cut
            assert await untruths(world.pods[0].operator, world.edges) == []

    run_repeatably(_QUIET, run())


@pytest.mark.parametrize("statements", range(2, 62, 12))
def test_what_a_pod_began_that_dies_while_it_brings_a_gateway_up_to_date_another_one_completes(statements: int) -> None:
    """At whichever statement: the gateway's position is lost, so everything is published once more."""

    async def run() -> None:
        async with World.open(_QUIET) as world:
            await begin(world)
            await asyncio.sleep(TRUE_WITHIN)
            pod, edge = world.pods[0], world.edges[0]
            await renew_epoch(world)
            world.network.cut(edge.way)
            pod.dies_before = statements
            while not pod.is_dead:
                await asyncio.sleep(0.1)
            await pod.crash()
            await pod.start()
            await asyncio.sleep(2 * TRUE_WITHIN)
            claims = await shown(world.pods[0].operator, edge)
            assert claims.is_settled
            assert not claims.failed
            assert await untruths(world.pods[0].operator, world.edges) == []

    run_repeatably(_QUIET, run())


def test_a_broken_history_says_what_is_wrong_and_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose_an_artifact(world: World) -> None:
        """Behind the back of everybody."""
        await asyncio.sleep(TRUE_WITHIN)
        gateway = world.edges[0].controllers[0].gateway
        gateway.delete_by_hand(min(gateway.artifacts))

    for operation in list(OPERATIONS):
        monkeypatch.delitem(OPERATIONS, operation)
    monkeypatch.setitem(OPERATIONS, lose_an_artifact, 1)
    with pytest.raises(Broken, match=r"seed 3: way-0/0: .* is shown as deployed, and is not there") as broken:
        live_through(_QUIET, operations=1, compare_every=1)
    assert broken.value.seed == _QUIET
    assert any("lose_an_artifact" in line for line in broken.value.log)
    assert any("artifacts=" in line for line in broken.value.log)


def _with_a_stranger(world: World) -> None:
    gateway = world.edges[0].controllers[0].gateway
    artifacts = gateway._world.database.artifacts.stored
    artifacts["stranger"] = next(iter(artifacts.values()))


def _with_an_older_deployment(world: World) -> None:
    _replace(world, deployment_id="another")


def _with_something_undeployed(world: World) -> None:
    _replace(world, state=UNDEPLOYED)


def _replace(world: World, **fields: str) -> None:
    artifacts = world.edges[0].controllers[0].gateway._world.database.artifacts.stored
    artifact_id = min(artifacts)
    artifacts[artifact_id] = replace(artifacts[artifact_id], **fields)  # type: ignore[arg-type]


def _without_keys(world: World) -> None:
    world.edges[0].controllers[0].gateway._world.database.keys.stored.clear()


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (_with_a_stranger, "stranger is deployed, and not shown"),
        (_with_an_older_deployment, "is another deployment than shown"),
        (_with_something_undeployed, "is shown as deployed, and is undeployed"),
        (_without_keys, "opens with {}, not with"),
    ],
)
def test_every_kind_of_untruth_is_found(lie: Callable[[World], None], words: str) -> None:
    async def run() -> None:
        async with World.open(_QUIET) as world:
            await begin(world)
            await asyncio.sleep(TRUE_WITHIN)
            assert await untruths(world.pods[0].operator, world.edges) == []
            lie(world)
            assert any(words in each for each in await untruths(world.pods[0].operator, world.edges))
            for controller in world.edges[0].controllers:
                controller.lose_sight()
            assert await untruths(world.pods[0].operator, world.edges) == []

    run_repeatably(_QUIET, run())


def test_what_failed_is_shown_as_such() -> None:
    async def run() -> None:
        async with World.open(_QUIET) as world:
            for operation in (fail, fail, fail, begin):
                await operation(world)
            await asyncio.sleep(TRUE_WITHIN)
            assert any([(await shown(world.pods[0].operator, edge)).failed for edge in world.edges])
            assert await untruths(world.pods[0].operator, world.edges) == []

    run_repeatably(_QUIET, run())


def test_every_operation_can_happen() -> None:
    """To an installation that is at rest, one after the other."""

    async def run() -> None:
        async with World.open(_QUIET) as world:
            await begin(world)
            for operation in OPERATIONS:
                await asyncio.sleep(TRUE_WITHIN)
                if not world.artifacts:
                    await begin(world)
                await operation(world)

    run_repeatably(_QUIET, run())
