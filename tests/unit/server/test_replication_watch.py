"""What is shown of standbys while the pod knows, and while it does not."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

from gatecast.errors import StorageUnavailable
from gatecast.server.replication_watch import ReplicationWatch
from gatecast.storage.contract import Database
from gatecast.telemetry import metrics


def _needed() -> float:
    value = metrics.registry.get_sample_value("gatecast_synchronous_standbys_needed")
    assert value is not None
    return value


async def test_a_pod_that_cannot_tell_does_not_say_that_commits_wait_for_none() -> None:
    answers: list[object] = [
        SimpleNamespace(needed=1, in_sync=1, problem=None),
        StorageUnavailable("away"),
        # There can be no standby.
        None,
    ]

    async def replication() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    watch = ReplicationWatch(cast("Database", SimpleNamespace(replication=replication)))
    await watch.look()
    assert _needed() == 1
    await watch.look()
    assert math.isnan(_needed())
    await watch.look()
    assert _needed() == 0
