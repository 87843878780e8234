"""Descriptions of APIs (OpenAPI), for people: gateways are not sent them, so the rules of gateways do not hold."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationInfo, WithJsonSchema

from gatecast.controlplane.documents.refusals import is_stored, refused

#: Largest description, in bytes of JSON without blanks. The files of the big providers have 1 to 7 MiB.
MAX_OPENAPI_BYTES = 8 * 1024 * 1024

#: Deepest nesting of its values.
MAX_OPENAPI_DEPTH = 100


def _description(value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever was sent
    if is_stored(info):
        return value
    if not isinstance(value, dict):
        raise refused("be an object")
    if (size := _size(value)) > MAX_OPENAPI_BYTES:
        raise refused(f"have at most {MAX_OPENAPI_BYTES:,} bytes of JSON, not {size:,}")
    if _is_deeper(value, MAX_OPENAPI_DEPTH):
        raise refused(f"be nested at most {MAX_OPENAPI_DEPTH} deep")
    return value


def written_openapi(value: object) -> str:
    """A description as JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _size(value: object) -> int:
    try:
        return len(written_openapi(value).encode())
    except RecursionError:
        raise refused(f"be nested at most {MAX_OPENAPI_DEPTH} deep") from None
    except (ValueError, TypeError):
        raise refused("be JSON, with finite numbers and without unpaired surrogates") from None


def _is_deeper(value: object, depth: int) -> bool:
    """One level after the other, so that nesting costs no stack."""
    level = [value]
    for _ in range(depth):
        level = [child for each in level for child in _children(each) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _children(container: object) -> Any:  # noqa: ANN401 - JSON
    return container.values() if isinstance(container, dict) else container


OpenApi = Annotated[
    dict[str, Any], BeforeValidator(_description), WithJsonSchema({"type": "object", "additionalProperties": True})
]
