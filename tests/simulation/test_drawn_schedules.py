"""The promises over schedules that Hypothesis draws, and makes as short as they can be once one breaks a promise.

`SIMULATED_EXAMPLES=2000` draws so many, and other ones each time.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from gatecast.delivery import subscription
from gatecast.testing.virtual_time import run_in_virtual_time
from simulation.happenings import HAPPENINGS
from simulation.history import PromiseBroken
from simulation.run import simulate
from simulation.schedule import PAUSES, Step, read_schedule

_LIMITS = settings(
    max_examples=int(os.environ.get("SIMULATED_EXAMPLES", "50")),
    derandomize="SIMULATED_EXAMPLES" not in os.environ,
    database=None,
    # Which values of the seed matter cannot be told: explaining a failure takes long and says nothing.
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)

#: Without a publish nothing can go wrong, so every second happening is one.
_PUBLISHES = ["publish_one", "publish_many"]

SCHEDULES = st.lists(
    st.tuples(st.sampled_from(_PUBLISHES) | st.sampled_from(list(HAPPENINGS)), st.sampled_from(PAUSES)),
    min_size=1,
    max_size=40,
)

SEEDS = st.integers(0, 2**32 - 1)


@_LIMITS
@pytest.mark.timeout(0 if "SIMULATED_EXAMPLES" in os.environ else 300)
@given(seed=SEEDS, schedule=SCHEDULES)
def test_every_drawn_schedule_keeps_every_promise(seed: int, schedule: list[Step]) -> None:
    """The schedule is Hypothesis's, what it leaves open the seed's."""
    run_in_virtual_time(simulate(seed, schedule=schedule))


def test_a_broken_promise_is_shrunk_to_a_short_schedule_that_can_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a schedule is what it takes, and its note leads to the same end."""
    monkeypatch.setattr(subscription.Subscription, "mark_sent", subscription.Subscription.acknowledge)
    drawn = st.tuples(SEEDS, SCHEDULES)
    seed, schedule = find(drawn, _breaks, settings=settings(_LIMITS, derandomize=True, max_examples=100))
    # Nothing but publishing is left of it; a hundred examples may end before the last step that could go is gone.
    assert {name for name, _ in schedule} <= {"publish_one", "publish_many", "hold_transaction"}
    assert len(schedule) <= 2
    with pytest.raises(PromiseBroken, match=r"^P4:") as first:
        run_in_virtual_time(simulate(seed, schedule=schedule))
    (note,) = first.value.__notes__
    written = note.rpartition("SCHEDULE=")[2]
    assert note == f"replay with: make simulate SEED={seed} SCHEDULE={written}"
    with pytest.raises(PromiseBroken) as second:
        run_in_virtual_time(simulate(seed, schedule=read_schedule(written)))
    assert str(second.value) == str(first.value)


def _breaks(drawn: tuple[int, list[Step]]) -> bool:
    seed, schedule = drawn
    try:
        run_in_virtual_time(simulate(seed, schedule=schedule))
    except PromiseBroken:
        return True
    return False


@pytest.mark.parametrize("written", ["fall_asleep:1.0", "publish_one:soon"])
def test_what_cannot_happen_is_refused(written: str) -> None:
    """A schedule with a slip in it is not replayed as another one."""
    with pytest.raises(ValueError, match=r"fall_asleep|soon"):
        read_schedule(written)
