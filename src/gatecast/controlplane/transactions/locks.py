"""The rows that changes lock, always in the same order: an organization's names, then artifacts, then gateways."""

from __future__ import annotations

from collections.abc import Iterable

from gatecast.storage.contract import Transaction
from gatecast.storage.queries import Queries
from gatecast.storage.rows import as_keys

_QUERIES = Queries("gatecast.controlplane.transactions", "locks.sql")


async def lock_names(transaction: Transaction, organization: str) -> None:
    """Nobody else gives a name in this organization until the transaction ends."""
    await transaction.execute(_QUERIES["lock_names"], organization)


async def lock_gateway(transaction: Transaction, organization: str, gateway_id: str) -> bool:
    """Nobody else changes what runs on this gateway until the transaction ends; False: there is no such gateway."""
    return await transaction.execute(_QUERIES["lock_gateway"], organization, gateway_id) == 1


async def lock_gateways(transaction: Transaction, organization: str, gateway_ids: Iterable[str]) -> set[str]:
    """Lock what runs on these gateways until the transaction ends; return those that exist."""
    rows = await transaction.fetch(_QUERIES["lock_gateways"], organization, as_keys(gateway_ids))
    return {row["id"] for row in rows}
