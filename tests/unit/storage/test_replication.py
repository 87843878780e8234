"""What follows from `synchronous_standby_names` and the standbys that are there."""

from __future__ import annotations

import pytest

from gatecast.storage.replication import Replication


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        ("", 0),
        ("  ", 0),
        ("*", 1),
        ("first", 1),
        ("first, second", 1),
        ('"2"', 1),
        ("2 (a, b, c)", 2),
        ("FIRST 2 (a, b, c)", 2),
        ("first 3(a, b, c)", 3),
        ("ANY 12 (*)", 12),
        (" any 1 (a, b)", 1),
    ],
)
def test_names_say_how_many_standbys_a_commit_needs(names: str, needed: int) -> None:
    assert Replication(names=names, connected=0, in_sync=0).needed == needed


@pytest.mark.parametrize(
    ("names", "connected", "in_sync", "missing", "said"),
    [
        ("", 0, 0, False, "commits wait for no standby, 0 are connected"),
        ("", 2, None, False, "commits wait for no standby, 2 are connected"),
        ("*", 0, 0, True, "commits wait for 1 standby, and 0 are in sync"),
        ("*", 2, 2, False, "commits wait for 1 standby, 2 are in sync"),
        ("ANY 2 (a, b)", 2, 1, True, "commits wait for 2 standbys, and 1 are in sync"),
        ("ANY 2 (a, b)", 2, None, False, "pg_read_all_stats"),
    ],
)
def test_a_problem_is_what_is_known_to_be_missing(
    names: str,
    connected: int,
    in_sync: int | None,
    missing: bool,  # noqa: FBT001 - a case
    said: str,
) -> None:
    """A name is repeated to nobody."""
    found = Replication(names=names, connected=connected, in_sync=in_sync)
    assert (found.problem is not None) == missing
    assert said in str(found)
    assert "(a, b)" not in str(found)
