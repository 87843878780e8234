"""The one place where errors of the PostgreSQL driver become Gatecast's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from gatecast.errors import DatabaseUnsuitable, SchemaMissing, StorageUnavailable, TransactionUnusable

#: What to do when a right is missing.
GRANT_RIGHTS = "give the role its rights: `gatecast roles` prints the statements"

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
    asyncpg.InternalServerError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@contextmanager
def translated() -> Iterator[None]:
    """Run a block that talks to PostgreSQL, and raise what it raises as one of `gatecast.errors`."""
    try:
        yield
    except _SCHEMA_MISSING as error:
        raise SchemaMissing from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseUnsuitable(str(error), GRANT_RIGHTS) from error
    except asyncpg.InFailedSQLTransactionError as error:
        raise TransactionUnusable("it has failed already; roll it back") from error
    except _UNAVAILABLE as error:
        raise StorageUnavailable(_said(error)) from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
