"""Bodies of requests that the documentation shows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi.openapi.models import Example

from gatecast.controlplane.documents import Kind

_GATEWAY_ID = "9c1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"
_PROVIDER_ID = "4b1f7f0e-0d7f-4a1e-9d0c-2f6f6d1d9a55"

#: One artifact of each kind, as it may be created or replaced.
ARTIFACTS: Mapping[Kind, dict[str, Any]] = MappingProxyType(
    {
        Kind.LLM_PROVIDER: {
            "name": "OpenAI for Europe",
            "version": "v1.0",
            "context": "/openai-eu",
            "template": "openai",
            "upstream": {
                "url": "https://api.openai.com/v1",
                "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer …"},
            },
            "accessControl": {
                "mode": "deny_all",
                "exceptions": [{"path": "/chat/completions", "methods": ["POST"]}],
            },
            "security": {"apiKey": {"enabled": True, "key": "X-API-Key", "in": "header"}},
            "rateLimits": {"global": {"totalTokens": [{"count": 100_000, "duration": "1m"}]}},
            "gateways": [_GATEWAY_ID],
        },
        Kind.LLM_PROXY: {
            "name": "Support assistant",
            "version": "v1.0",
            "context": "/support-assistant",
            "provider": {"id": _PROVIDER_ID},
            "security": {"apiKey": {"enabled": True, "key": "X-API-Key", "in": "header"}},
            "gateways": [_GATEWAY_ID],
        },
        Kind.MCP: {
            "name": "Weather tools",
            "version": "v1.0",
            "context": "/weather-tools",
            "upstream": {"url": "https://mcp.example.com/mcp"},
            "tools": [{"name": "forecast", "description": "The weather of the next days"}],
            "gateways": [_GATEWAY_ID],
        },
        Kind.REST_API: {
            "name": "Orders API",
            "version": "v1.0",
            "context": "/orders/$version",
            "upstream": {"main": {"url": "https://orders.example.com/api"}},
            "operations": [{"method": "GET", "path": "/orders/{id}"}, {"method": "POST", "path": "/orders"}],
            "gateways": [_GATEWAY_ID],
        },
    }
)

#: A change of any of them.
ARTIFACT_PATCH: dict[str, Any] = {
    "description": "No longer in Frankfurt",
    "labels": {"team": "platform", "stage": None},
    "gateways": [],
    "undeploy": [_GATEWAY_ID],
}

#: A template of an organization's own.
TEMPLATE: dict[str, Any] = {
    "handle": "in-house-models",
    "name": "In-house models",
    "endpointUrl": "https://models.example.com/v1",
    "auth": {"type": "api-key", "header": "Authorization", "valuePrefix": "Bearer "},
    "extractors": {"totalTokens": {"location": "payload", "identifier": "$.usage.total_tokens"}},
}


def shown(value: dict[str, Any]) -> dict[str, Example]:
    """One example, as the documentation takes it."""
    return {"example": {"value": value}}
