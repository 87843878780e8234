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
            "NATS JetStream cannot take part in the transaction of your database; store the event with your change, "
            "and publish it after the commit until that succeeds: its event id makes repeating it safe"
        )
