"""Dials connections that behave alike, whatever the role, the database or a pooler say."""

from __future__ import annotations

from typing import Any

import asyncpg

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.database_url import invalid

#: The oldest PostgreSQL that has all that is needed.
OLDEST_VERSION = 14

#: Sent while connecting, where the connection is ours alone. Each statement of a function needs a snapshot of its own,
#: and just-in-time compilation costs more than any statement of ours takes.
_SESSION = {"default_transaction_isolation": "read committed", "jit": "off"}

_SET_POOLER = "connect to PostgreSQL itself, or set GATECAST_POOLER=on"


class Dialer:
    """Dials one server, and finds out whether a pooler stands in front of it.

    Behind a pooler the next transaction may run on another connection to the server: then settings of the session and
    prepared statements with names are of no use, and each statement needs a transaction that says what it needs.
    """

    def __init__(self, pooler: str) -> None:
        self._pooled = {"on": True, "off": False}.get(pooler)

    @property
    def pooled(self) -> bool:
        """Whether connections go through a pooler; known once the first has been dialled."""
        return bool(self._pooled)

    async def dial(self, *arguments: Any, **options: Any) -> asyncpg.Connection[Any]:  # noqa: ANN401 - the driver's own
        """A new connection, in place of `asyncpg.connect`.

        Raises:
            SettingInvalid: the URL cannot be used.
            DatabaseUnsuitable: the server cannot serve.
        """
        if self._pooled is not False:
            connection = await _connect_leaving_nothing(*arguments, **options)
            if self._pooled is None:
                self._pooled = await _is_pooled(connection)
            if self._pooled:
                return connection
            await connection.close()
        return await _connect(
            *arguments, **options | {"server_settings": options.get("server_settings", {}) | _SESSION}
        )


async def _connect_leaving_nothing(*arguments: Any, **options: Any) -> asyncpg.Connection[Any]:  # noqa: ANN401 - the driver's own
    """A connection that leaves nothing behind on the server's, which is somebody else's next.

    Prepared statements have no names; and the driver does not switch compilation off for the session when it looks
    types up: our transactions switch it off for themselves.
    """
    connection: Any = await _connect(*arguments, **options, statement_cache_size=0)
    connection._server_caps = connection._server_caps._replace(jit=False)  # noqa: SLF001 - there is no option
    found: asyncpg.Connection[Any] = connection
    return found


async def _connect(*arguments: Any, **options: Any) -> asyncpg.Connection[Any]:  # noqa: ANN401 - the driver's own
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(*arguments, **options)
    except (ValueError, OverflowError):
        # What the driver says repeats a part of the URL.
        raise invalid("be a URL whose parameters PostgreSQL knows") from None
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" in str(error):
            raise DatabaseUnsuitable("a pooler refuses settings of the session", _SET_POOLER) from error
        raise
    try:
        _check(connection)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _is_pooled(connection: asyncpg.Connection[Any]) -> bool:
    """Whether somebody in between gave us another number than the server's process has, as every pooler must."""
    try:
        return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())
    except BaseException:
        connection.terminate()
        raise


def _check(connection: asyncpg.Connection[Any]) -> None:
    """Look at what the server says of itself.

    Raises:
        DatabaseUnsuitable: it is too old, or cannot store every character.
    """
    version = connection.get_server_version()
    if version.major < OLDEST_VERSION:
        raise DatabaseUnsuitable(
            f"it is PostgreSQL {version.major}.{version.minor}", f"upgrade it to PostgreSQL {OLDEST_VERSION} or newer"
        )
    encoding = getattr(connection.get_settings(), "server_encoding", "UTF8")
    if encoding != "UTF8":
        raise DatabaseUnsuitable(
            f"its encoding is {encoding}, which lacks characters that events may hold",
            "create a database with ENCODING 'UTF8' TEMPLATE template0, and use that",
        )
