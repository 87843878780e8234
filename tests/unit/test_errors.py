"""Errors carry their data in fields, and arrive whole in another process."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from gatecast import errors
from gatecast.errors import (
    ControlPlaneError,
    GatecastError,
    InvalidValue,
    Mistakes,
    PayloadTooLarge,
    PositionLost,
    StorageError,
    StorageUnavailable,
)
from gatecast.events import Position

_EVENT = UUID(int=1)

#: What a field of this name may hold; every other one holds text.
_EXAMPLES = {
    "event_id": _EVENT,
    "position": Position(_EVENT, 7),
    "resume_from": Position(_EVENT, 7),
    "size": 2_000_000,
    "limit": 1_048_576,
    "found": 30,
    "supported": 20,
}

_ABSTRACT = (GatecastError, StorageError, ControlPlaneError)


def _fields(kind: type[GatecastError]) -> dict[str, Any]:
    if kind.__init__ is Exception.__init__:
        return {}
    return {name: _EXAMPLES.get(name, f"the {name}") for name in inspect.signature(kind).parameters}


def _made(kind: type[GatecastError]) -> GatecastError:
    return kind(**_fields(kind))


def _kinds(of: type[GatecastError] = GatecastError) -> Iterator[type[GatecastError]]:
    for kind in of.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from _kinds(kind)


_KINDS = [each for each in _kinds() if each not in _ABSTRACT]


def _through_pickle(error: GatecastError) -> GatecastError:
    back: GatecastError = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    return back


@pytest.mark.parametrize("carried", [_through_pickle, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", _KINDS)
def test_it_arrives_whole(kind: type[GatecastError], carried: Callable[[GatecastError], GatecastError]) -> None:
    """As a pool of processes carries it, which would end with an error that cannot be read there."""
    error = _made(kind)
    error.add_note("a note")
    back = carried(error)
    assert type(back) is kind
    assert (str(back), back.args, vars(back)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize("kind", _KINDS)
def test_its_fields_are_what_it_was_made_of(kind: type[GatecastError]) -> None:
    assert _fields(kind).items() <= vars(_made(kind)).items()


def test_the_other_mistakes_arrive_as_well() -> None:
    mistakes = Mistakes()
    for name in ("type", "action"):
        with mistakes.noted():
            raise InvalidValue(name, 7, "be a string")
    with pytest.raises(InvalidValue) as raised:
        mistakes.raise_any()
    assert str(_through_pickle(raised.value)) == "type must be a string; got 7; action must be a string; got 7"


def test_each_error_is_one_of_its_own() -> None:
    """Two with the same fields are not equal, as it is with every exception."""
    assert PositionLost("epoch", resume_from=Position(_EVENT, 1)) != PositionLost(
        "epoch", resume_from=Position(_EVENT, 1)
    )


def test_a_payload_that_is_too_large_is_an_invalid_value() -> None:
    error = PayloadTooLarge(2_000_000, 1_048_576)
    assert (error.field, error.value, error.rule) == ("data", 2_000_000, "be at most 1,048,576 bytes of JSON")


@pytest.mark.parametrize("shown", [str, repr, lambda error: str(error.args), lambda error: str(vars(error))])
def test_no_password_of_a_database_is_in_an_error(shown: Callable[[Any], str]) -> None:
    error = StorageUnavailable("cannot connect to postgresql://user:a-password@host/database")
    assert "a-password" not in shown(error)
