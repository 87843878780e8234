"""Repeats transactions that the database has rolled back in favour of others."""

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
    """The method, repeated as a whole if the database rolled its transaction back (a deadlock, a conflict).

    The method must be one transaction and have no other effect. Our changes take their locks in one order, so that they
    do not deadlock with each other, but other programs on the database may not keep to it. A test checks that every
    transaction begins in such a method.
    """

    @wraps(method)
    async def again(self: _Owner, /, *arguments: _P.args, **names: _P.kwargs) -> _T:
        return await self._database.repeated(lambda: method(self, *arguments, **names))

    return again
