from __future__ import annotations

import asyncio

import asyncpg
import pytest

from gatecast.errors import (
    SchemaMissing,
    StatementFailed,
    StorageError,
    StorageUnavailable,
    TransactionUnusable,
    UnknownGateway,
    ValueRefused,
)
from gatecast.storage.postgres.driver_errors import translated


def _raise(error: BaseException) -> None:
    with translated():
        raise error


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("08006", StorageUnavailable),  # the connection broke
        ("57P01", StorageUnavailable),  # the server is told to stop
        ("57P03", StorageUnavailable),  # it is starting up
        ("57014", StorageUnavailable),  # the statement took too long
        ("53300", StorageUnavailable),  # too many connections
        ("53100", StorageUnavailable),  # the disk is full
        ("58030", StorageUnavailable),  # the disk fails
        ("XX000", StatementFailed),  # the server met something that should not be
        ("XX001", StatementFailed),  # a row is damaged
        ("54000", StatementFailed),  # the queue of notifications is full
        ("42501", StatementFailed),  # a right was revoked
        ("22P05", ValueRefused),  # the server's encoding lacks a character
        ("22021", ValueRefused),  # bytes that are no character
        ("23514", ValueRefused),  # a CHECK constraint
        ("23505", StatementFailed),  # a race that a unique index decided
        ("ZZ999", StatementFailed),  # nobody knows
        ("40001", StorageUnavailable),  # the snapshot is too old
        ("40P01", StorageUnavailable),  # a deadlock
        ("55P03", StorageUnavailable),  # a lock was not granted in time
        ("25006", StorageUnavailable),  # a standby
        ("25P03", StorageUnavailable),  # the transaction was idle for too long
        ("28P01", StorageUnavailable),  # the password has just been changed
        ("25P02", TransactionUnusable),  # the caller's transaction has failed
        ("42P01", SchemaMissing),
        ("42883", SchemaMissing),
        ("3F000", SchemaMissing),
        ("3D000", SchemaMissing),
    ],
)
def test_what_the_server_says_becomes_one_of_our_errors(state: str, expected: type[StorageError]) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "what the server says", "S": "ERROR"})
    with pytest.raises(expected) as caught:
        _raise(error)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        OSError("no route"),
    ],
)
def test_what_the_driver_meets_on_the_way_is_unavailable(error: Exception) -> None:
    with pytest.raises(StorageUnavailable) as caught:
        _raise(error)
    assert type(error).__name__ in str(caught.value)


@pytest.mark.parametrize("error", [ValueError("a secret"), OverflowError("a secret"), asyncpg.DataError("a secret")])
def test_what_nobody_foresaw_is_an_error_of_its_statement_and_repeats_no_value(error: Exception) -> None:
    with pytest.raises(StatementFailed, match=type(error).__name__) as caught:
        _raise(error)
    assert caught.value.__cause__ is error
    assert "a secret" not in str(caught.value)


@pytest.mark.parametrize("error", [UnknownGateway("ours"), KeyboardInterrupt(), asyncio.CancelledError()])
def test_errors_of_ours_and_cancellations_come_out_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        _raise(error)
    assert caught.value is error
