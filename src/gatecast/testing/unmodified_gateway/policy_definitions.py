"""The policies that every gateway image carries, as its manifest lists them (gateway-protocol.md 3.6, 4.2).

The schemas demand what those of the real policies demand; descriptions and system parameters are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEADER_NAME = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[a-zA-Z0-9-_]+$"}
_HEADER = {
    "type": "object",
    "required": ["name", "value"],
    "properties": {"name": _HEADER_NAME, "value": {"type": "string", "maxLength": 8192}},
}
_HEADERS = {"type": "array", "items": _HEADER}

_REQUESTS_IN_TIME = {
    "type": "object",
    "additionalProperties": False,
    "required": ["requests", "duration"],
    "properties": {
        "requests": {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
        "duration": {"type": "string", "pattern": "^[0-9]+(ns|us|µs|ms|s|m|h)$"},
    },
}
_TOKENS_IN_TIME = {
    "type": "object",
    "required": ["count", "duration"],
    "properties": {
        "count": {"type": "integer", "minimum": 1},
        "duration": {"type": "string", "pattern": r"^[-+]?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))+$"},
    },
}


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
    }


_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "api-key-auth": _object({"key": {"type": "string"}, "in": {"enum": ["header", "query"]}}, "key", "in"),
    "basic-ratelimit": _object(
        {"limits": {"type": "array", "minItems": 1, "maxItems": 10, "items": _REQUESTS_IN_TIME}}, "limits"
    ),
    "host-rewrite": _object(
        {"host": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9.:-]+$"}}, "host"
    ),
    "respond": _object(
        {
            "statusCode": {"type": "integer", "minimum": 100, "maximum": 599},
            "headers": {"type": "array", "items": _HEADER | {"additionalProperties": False}},
            "body": {"type": "string", "maxLength": 1_048_576},
        }
    ),
    "set-headers": {
        "type": "object",
        "properties": {"requestHeaders": _HEADERS, "responseHeaders": _HEADERS},
        "anyOf": [{"required": ["requestHeaders"]}, {"required": ["responseHeaders"]}],
    },
    "token-based-ratelimit": _object(
        {
            name: {"type": "array", "items": _TOKENS_IN_TIME}
            for name in ("promptTokenLimits", "completionTokenLimits", "totalTokenLimits")
        }
    ),
}

#: Policies that artifacts may need, each with the schema of its parameters.
DEFAULT_POLICIES: tuple[Mapping[str, Any], ...] = tuple(
    {"name": name, "version": "v1.0.0", "managedBy": "wso2", "parameters": parameters}
    for name, parameters in _PARAMETERS.items()
)
