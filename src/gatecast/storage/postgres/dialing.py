"""Opens connections that behave alike, whatever the defaults of the role, the database or a pooler are."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import asyncpg

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.database_url import invalid

#: The oldest supported version of PostgreSQL.
OLDEST_VERSION = 14

#: Settings of a session that is ours alone, sent while connecting. Each statement in a function needs its own snapshot,
#: and just-in-time compilation takes longer than any of our statements.
_SESSION = {"default_transaction_isolation": "read committed", "jit": "off"}

#: Array types of PostgreSQL itself that our statements have: name, and the numbers of the type and of its elements,
#: which are the same on every server. A new connection of the driver asks what an array consists of before it runs the
#: first statement with one, and planning that question takes longer than most of our statements.
_ARRAYS = [
    ("_bool", 1000, 16),
    ("_bytea", 1001, 17),
    ("_int4", 1007, 23),
    ("_int8", 1016, 20),
    ("_float8", 1022, 701),
    ("_timestamptz", 1185, 1184),
    ("_uuid", 2951, 2950),
    ("_jsonb", 3807, 3802),
]

#: The same as the answers to that question.
_KNOWN_TYPES = [
    {
        "oid": number,
        "ns": "pg_catalog",
        "name": name,
        "kind": b"b",
        "basetype": None,
        "elemtype": of,
        "elemdelim": ",",
        "range_subtype": None,
        "attrtypoids": None,
        "attrnames": None,
    }
    for name, number, of in _ARRAYS
]

_SET_POOLER = "connect to PostgreSQL itself, or set GATECAST_POOLER=on"


class Dialer:
    """Opens connections to one server, and finds out whether a pooler is in front of it.

    Behind a pooler the next transaction may run on another connection to the server. Then settings of the session and
    named prepared statements cannot be relied on, and each transaction sets what it needs.
    """

    def __init__(self, pooler: str) -> None:
        self._pooled = {"on": True, "off": False}.get(pooler)

    @property
    def pooled(self) -> bool:
        """Whether connections go through a pooler; with `auto`, False until the first connection has shown it."""
        return bool(self._pooled)

    async def dial(self, *arguments: Any, **options: Any) -> asyncpg.Connection[Any]:  # noqa: ANN401 - the driver's own
        """A new connection; takes the arguments of `asyncpg.connect`, whose place it takes in the pool.

        Raises:
            SettingInvalid: the URL has parameters that PostgreSQL does not know.
            DatabaseUnsuitable: the server is older than PostgreSQL 14, its encoding is not UTF8, or a pooler refuses
                settings of the session.
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
    """A connection that changes nothing in the server's session, which the pooler gives to another client next.

    Prepared statements have no names, and the driver does not switch just-in-time compilation off for the session when
    it looks types up: our transactions switch it off for themselves.
    """
    connection: Any = await _connect(*arguments, **options, statement_cache_size=0)
    connection._server_caps = connection._server_caps._replace(jit=False)  # noqa: SLF001 - there is no option
    found: asyncpg.Connection[Any] = connection
    return found


async def _connect(*arguments: Any, **options: Any) -> asyncpg.Connection[Any]:  # noqa: ANN401 - the driver's own
    try:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(*arguments, **options)
    except (ValueError, OverflowError):
        # The driver's message repeats a part of the URL, which may hold a password.
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
    _know_arrays(connection)
    return connection


def _know_arrays(connection: Any) -> None:  # noqa: ANN401 - there is no option
    # A driver that is built otherwise asks, in whatever way this fails.
    with suppress(Exception):
        connection._protocol.get_settings().register_data_types(_KNOWN_TYPES)  # noqa: SLF001 - there is no option


async def _is_pooled(connection: asyncpg.Connection[Any]) -> bool:
    """Whether the process number announced at connect differs from the server's own, as with every pooler."""
    try:
        return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())
    except BaseException:
        connection.terminate()
        raise


def _check(connection: asyncpg.Connection[Any]) -> None:
    """Return if the server is new enough, and its database can store every character.

    Raises:
        DatabaseUnsuitable: it is older than PostgreSQL 14, or its encoding is not UTF8.
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
