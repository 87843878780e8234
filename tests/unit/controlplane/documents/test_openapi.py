"""Descriptions of APIs: for people, so the bounds of what gateways are sent do not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatecast.controlplane.documents import Kind, render
from gatecast.controlplane.documents.openapi import MAX_OPENAPI_BYTES, MAX_OPENAPI_DEPTH

Accept = Callable[..., Any]
Refuse = Callable[..., str]

_KINDS = [Kind.LLM_PROVIDER, Kind.REST_API]


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


_REAL: dict[str, dict[str, Any]] = {
    "templates": {"info": {"description": "Write {{name}} and {{ .Values.x }}"}},
    "more-schemas-than-a-document-may-have": {"components": {"schemas": {f"Schema{n}": {} for n in range(5_000)}}},
    "large-integers": {"maximum": 18446744073709551615, "minimum": -(10**30), "number": 1e300},
    "long-texts": {"info": {"description": "x" * 200_000}},
    "long-keys": {"paths": {"/" + "x" * 500: {}}},
    "nul": {"example": "\0"},
    "as-large-as-it-may-be": {"x": "x" * (MAX_OPENAPI_BYTES - 8)},
    "as-deep-as-it-may-be": {"x": _nested(MAX_OPENAPI_DEPTH - 1)},
    "empty": {},
}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("openapi", _REAL.values(), ids=_REAL)
def test_a_real_description_is_accepted_and_no_gateway_is_sent_it(
    accept: Accept, kind: Kind, openapi: dict[str, Any]
) -> None:
    document = accept(kind, openapi=openapi)
    assert document.openapi == openapi
    assert render(document, handle="h", credentials={}) == render(accept(kind), handle="h", credentials={})


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    "openapi",
    [
        {"x": "x" * (MAX_OPENAPI_BYTES - 7)},
        {"x": "é" * (MAX_OPENAPI_BYTES // 2)},
        {"x": _nested(MAX_OPENAPI_DEPTH)},
        {"x": _nested(100_000)},
        {"x": float("nan")},
        {"x": float("inf")},
        {"x": "\ud800"},
        {"\udfff": 1},
        {"x": 10**5_000},
        {"x": object()},
        [],
        "text",
        1,
    ],
    ids=range(13),
)
def test_another_one_is_refused(refuse: Refuse, kind: Kind, openapi: object) -> None:
    assert refuse(kind, openapi=openapi) == "openapi"


@pytest.mark.parametrize("kind", _KINDS)
def test_the_rest_of_the_document_keeps_its_bounds(refuse: Refuse, kind: Kind) -> None:
    assert refuse(kind, openapi={"x": "{{"}, description="{{") == "description"
