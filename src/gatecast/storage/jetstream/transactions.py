"""Refuses callers' transactions: a stream cannot take part in one."""

from __future__ import annotations

from gatecast.errors import TransactionUnusable


def refuse(transaction: object | None) -> None:
    """Refuse a caller's transaction, and say what to do instead.

    Raises:
        TransactionUnusable: there is one.
    """
    if transaction is not None:
        raise TransactionUnusable(
            "NATS JetStream cannot take part in the transaction of your database; name that database as the outbox, "
            "like EventHub.open('nats://…', outbox='postgresql://…'), or publish after the commit until that succeeds: "
            "the event id makes repeating it safe"
        )
