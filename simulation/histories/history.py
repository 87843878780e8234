"""One history: drawn operations, the truth in between, and the desired state at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gatecast.testing.desired_state import differences, every_artifact
from simulation.histories.operations import NEED_ARTIFACTS, OPERATIONS, Operation, begin, start_again
from simulation.histories.repeatable import LoopClock, run_repeatably
from simulation.histories.truth import Moment, describe, failed_paths, shown, untruths
from simulation.histories.world import World

#: Seconds between two operations.
_PAUSES = (0.0, 0.0, 0.0, 0.001, 0.05, 0.3, 2.0)

#: So long after the last fault everything that is shown must be so; in virtual seconds.
TRUE_WITHIN = 10.0

#: So long after the last fault nothing may be waiting any more; in virtual seconds.
SETTLED_WITHIN = 400.0

#: No history takes longer; one that does hangs. In virtual seconds.
_LONGEST = 20_000.0

#: What failed is tried again so often: a proxy may have to wait for its provider.
_TRIES = 3


class Broken(AssertionError):
    """A history in which something is shown that is not so, or that does not end in the desired state."""

    def __init__(self, seed: int, problems: list[str], log: list[str]) -> None:
        super().__init__(f"seed {seed}: {'; '.join(problems)}")
        #: What repeats it.
        self.seed = seed
        #: What is wrong, in words.
        self.problems = problems
        #: What happened.
        self.log = log


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a history that nothing was wrong with."""

    operations: int
    #: Events that gateways got.
    events: int
    #: What happened, and when.
    log: list[str]
    #: Differs when anything happened otherwise.
    digest: str


def live_through(seed: int, *, operations: int = 60, compare_every: int = 20) -> Outcome:
    """Live through the history of a seed, comparing in between.

    Raises:
        Broken: something was wrong.
    """
    return run_repeatably(seed, _live(seed, operations, compare_every))


async def _live(seed: int, operations: int, compare_every: int) -> Outcome:
    async with asyncio.timeout(_LONGEST), World.open(seed) as world:
        try:
            await begin(world)
            for number in range(1, operations + 1):
                await _happen(world)
                if number % compare_every == 0:
                    await _compare(world)
            await _end(world)
        except (AssertionError, TimeoutError) as problem:
            raise Broken(seed, [str(problem) or repr(problem)], [*world.log, *_described(world)]) from problem
        events = sum(len(each.gateway.received) for edge in world.edges for each in edge.controllers)
        return Outcome(operations=operations, events=events, log=world.log, digest=world.digest)


def _described(world: World) -> list[str]:
    return [line for edge in world.edges for line in describe(edge)]


async def _happen(world: World) -> None:
    operation = _draw(world)
    world.note(operation.__name__)
    await operation(world)
    await asyncio.sleep(world.random.choice(_PAUSES))


def _draw(world: World) -> Operation:
    possible = [each for each in OPERATIONS if world.artifacts or each not in NEED_ARTIFACTS]
    [chosen] = world.random.choices(possible, [OPERATIONS[each] for each in possible])
    return chosen


async def _compare(world: World) -> None:
    """What is shown is so; what is waited for comes; nobody is restarted, because that heals and hides."""
    world.network.cut_silent()
    await asyncio.sleep(TRUE_WITHIN)
    world.note("compare")
    await world.list_artifacts()
    await _check_truth(world)
    await _until_settled(world)
    await _check_documents(world, await _check_truth(world))


async def _check_truth(world: World) -> Moment:
    """What is shown now is so."""
    now = Moment(world.pods[0].operator)
    if found := await untruths(now, world.edges):
        raise AssertionError("; ".join(found))
    return now


async def _until_settled(world: World) -> None:
    for edge in world.edges:
        if len(edge.comparable) < len(edge.controllers):
            continue
        give_up_at, pause = asyncio.get_running_loop().time() + SETTLED_WITHIN, 1.0
        while not (claims := await shown(world.pods[0].operator, edge)).is_settled and not claims.asks_for_help:
            if asyncio.get_running_loop().time() > give_up_at:
                raise AssertionError(f"{edge.way} is not settled: {claims.why}, {claims.waiting}")
            await asyncio.sleep(pause)
            pause *= 1.5


async def _check_documents(world: World, now: Moment) -> None:
    """The whole documents and credentials too, where nothing failed."""
    for edge in world.edges:
        claims = await shown(now, edge)
        if len(edge.comparable) < len(edge.controllers) or claims.failed or claims.asks_for_help:
            continue
        for number, controller in enumerate(edge.controllers):
            at = LoopClock().now()
            found = await differences(now, edge.id, controller.gateway, as_written=False, now=at)
            found += [f"{each} is unknown" for each in sorted(edge.applications - set(controller.gateway.applications))]
            if found:
                raise AssertionError(f"{edge.way}/{number}: {'; '.join(found)}")


async def _end(world: World) -> None:
    """Everything works again, and what failed is tried again: every gateway ends in the desired state."""
    world.note("end")
    world.network.cut_silent()
    for edge in world.edges:
        for controller in edge.controllers:
            controller.gateway.plan_no_failures()
            if not controller.runs or controller.blind:
                await start_again(controller)
    # Until it is noticed that they have started, what was known before is shown.
    await asyncio.sleep(TRUE_WITHIN)
    for _ in range(_TRIES):
        await _until_settled(world)
        helped = await _help(world)
        if not await _try_again(world) and not helped:
            break
    await _until_settled(world)
    now = await _check_truth(world)
    for edge in world.edges:
        if len(edge.comparable) < len(edge.controllers):
            raise AssertionError(f"{edge.way} was never answered what it should have")
        if not (claims := await shown(now, edge)).is_settled or claims.failed:
            raise AssertionError(f"{edge.way} does not end in the desired state: {claims}")
    # Last, because it asks with the gateways' own tokens, as if they were synchronizing.
    await _check_documents(world, now)


async def _help(world: World) -> bool:
    """Do as `resync-needed` says: start the process again, without its data, and say so; False when nobody asks.

    A gateway asks for it once nothing else is the matter.
    """
    helped = False
    for edge in world.edges:
        if (await shown(world.pods[0].operator, edge)).asks_for_help:
            world.note(f"help {edge.way}")
            edge.controllers[0].gateway.lose_data()
            for controller in edge.controllers:
                await start_again(controller)
            await asyncio.sleep(TRUE_WITHIN)
            await world.ask("POST", f"/gateways/{edge.id}/resynchronized")
            edge.forgotten, helped = False, True
    return helped


async def _try_again(world: World) -> bool:
    """Deploy, or undeploy, what failed, and nothing else, providers first; False when nothing did."""
    every = every_artifact(world.pods[0].operator)
    items = [(f"/{collection}/{item['id']}", item) async for collection, item in every]
    failed = failed_paths(items)
    for path, gateway_id, deployed in failed:
        await world.ask("POST", f"{path}/{'deployments' if deployed else 'undeploy'}", {"gatewayId": gateway_id})
    return bool(failed)
