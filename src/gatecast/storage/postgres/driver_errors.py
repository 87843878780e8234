"""The one place that turns errors of the PostgreSQL driver into errors of Gatecast."""

from __future__ import annotations

from types import TracebackType

import asyncpg

from gatecast.errors import (
    GatecastError,
    SchemaMissing,
    StatementFailed,
    StorageUnavailable,
    TransactionUnusable,
    ValueRefused,
)
from gatecast.storage.moved import TOLD

#: The schema, or a part of it that this release needs, does not exist.
_SCHEMA_MISSING = (
    asyncpg.InvalidSchemaNameError,
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedFunctionError,
    asyncpg.InvalidCatalogNameError,
)

#: The same request may succeed later: the connection was lost; the server is starting, stopping, full, failing or a
#: standby; it ended the transaction, or did not grant a lock.
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


#: A value is at fault: the driver or the server cannot encode it, or a constraint forbids it.
_VALUE_REFUSED = (asyncpg.DataError, asyncpg.CheckViolationError, asyncpg.NotNullViolationError)


#: Classes of SQLSTATE whose messages hold no values: unsupported feature, syntax or access rule, program limit, object
#: state, internal error.
_CLASSES_WITHOUT_VALUES = frozenset({"0A", "42", "54", "55", "XX"})


class _Translated:
    """Holds nothing, so that one serves every statement."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, GatecastError):
            raise _ours(error) from error


_TRANSLATED = _Translated()


def translated() -> _Translated:
    """A block whose errors are raised as those of `gatecast.errors`.

    An error that is on no list becomes `StatementFailed`, so that it fails only its own caller (promise P11).
    """
    return _TRANSLATED


def _ours(error: Exception) -> GatecastError:
    match error:
        case _ if isinstance(error, _SCHEMA_MISSING):
            return SchemaMissing()
        case asyncpg.InFailedSQLTransactionError():
            return TransactionUnusable("it has failed already; roll it back")
        case _ if isinstance(error, _UNAVAILABLE):
            return StorageUnavailable(_said(error))
        case _ if isinstance(error, _VALUE_REFUSED):
            return ValueRefused(_kind(error))
    return StatementFailed(_kind(error))


def _said(error: BaseException) -> str:
    if str(error) in TOLD:
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _kind(error: BaseException) -> str:
    """The kind of error; with its message if that names only tables, rights and limits, and never a value."""
    state: str | None = getattr(error, "sqlstate", None)
    if state is None:
        return type(error).__name__
    said = f": {error}" if state[:2] in _CLASSES_WITHOUT_VALUES else ""
    return f"{type(error).__name__} ({state}){said}"
