"""Transactions that are done again when the database gave them up for others."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from gatecast.storage.contract import Database

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _OnDatabase(Protocol):
    """Works on a database."""

    @property
    def _database(self) -> Database:
        """Where its transactions are."""


_Owner = TypeVar("_Owner", bound=_OnDatabase)

_Method = Callable[Concatenate[_Owner, _P], Coroutine[Any, Any, _T]]


def whole(method: _Method[_Owner, _P, _T]) -> _Method[_Owner, _P, _T]:
    """Do a method that is one transaction, and nothing beside it, again when the database gave it up for others.

    Locks are taken in one order, so that changes do not wait for each other in a circle; what else works on the
    database may not know that order. Every transaction is begun in such a method: a test looks for others.
    """

    @wraps(method)
    async def again(self: _Owner, /, *arguments: _P.args, **names: _P.kwargs) -> _T:
        return await self._database.repeated(lambda: method(self, *arguments, **names))

    return again
