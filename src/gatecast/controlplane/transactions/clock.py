"""The time as gateways compare it."""

from __future__ import annotations

import time


def milliseconds() -> int:
    """Now, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def later_than(last: int) -> int:
    """Now, or as little after `last` as two instants may differ, whatever this machine's clock says.

    Two milliseconds: the instant in between is what a gateway that has not acknowledged yet is shown at its start
    (`gatecast.controlplane.gateway_sync.downloads`).
    """
    return max(milliseconds(), last + 2)
