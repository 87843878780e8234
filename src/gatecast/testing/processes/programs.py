"""Programs that tests find on this system, or not; imports nothing that takes long."""

from __future__ import annotations

import shutil
from pathlib import Path


def etcd_program() -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which("etcd")


def pgbouncer_program() -> str | None:
    """Where it is; None where it is not installed."""
    return shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")


def postgres_programs() -> dict[int, Path]:
    """The programs of each version of PostgreSQL, the oldest first, where Debian puts them."""
    found = (each.parent for each in Path("/usr/lib/postgresql").glob("[0-9]*/bin/initdb"))
    return dict(sorted((int(each.parent.name), each) for each in found))
