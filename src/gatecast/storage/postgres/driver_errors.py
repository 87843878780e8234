"""The one place where errors of the PostgreSQL driver become Gatecast's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from gatecast.errors import (
    GatecastError,
    SchemaMissing,
    StatementFailed,
    StorageUnavailable,
    TransactionUnusable,
    ValueRefused,
)

#: The schema, or a part of it that this release needs, is not there.
_SCHEMA_MISSING = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidCatalogNameError,
)

#: The request may succeed later: connection lost, server starting, stopping, full, failing or standing by, transaction
#: ended by the server, lock not granted.
_UNAVAILABLE = (
    OSError,  # includes TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


#: A value is at fault: the driver cannot encode it, the server's encoding lacks it, or a constraint forbids it.
_VALUE_REFUSED = (asyncpg.DataError, asyncpg.CheckViolationError, asyncpg.NotNullViolationError)


#: Unsupported feature, syntax or access rule, program limit, object state, internal error.
_CLASSES_WITHOUT_VALUES = frozenset({"0A", "42", "54", "55", "XX"})


@contextmanager
def translated() -> Iterator[None]:
    """Run a block that talks to PostgreSQL, and raise whatever it raises as one of `gatecast.errors`.

    What is on no list is `StatementFailed`: the caller is answered, and nothing else ends (promise P11).
    """
    try:
        yield
    except _SCHEMA_MISSING as error:
        raise SchemaMissing from error
    except asyncpg.InFailedSQLTransactionError as error:
        raise TransactionUnusable("it has failed already; roll it back") from error
    except _UNAVAILABLE as error:
        raise StorageUnavailable(_said(error)) from error
    except _VALUE_REFUSED as error:
        raise ValueRefused(_kind(error)) from error
    except GatecastError:
        raise
    except Exception as error:
        raise StatementFailed(_kind(error)) from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _kind(error: BaseException) -> str:
    """The kind of error, and its words where they name no more than tables, rights and limits, and never a value."""
    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        return type(error).__name__
    said = f": {error}" if state[:2] in _CLASSES_WITHOUT_VALUES else ""
    return f"{type(error).__name__} ({state}){said}"
