"""The smallest documents that are accepted, and where a document is at fault."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from gatecast.controlplane.documents import MODELS, Artifact, Kind

PROVIDER_ID = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f01"

Document = dict[str, Any]
Accept = Callable[..., Artifact]
Refuse = Callable[..., str]

_SMALLEST: Mapping[Kind, Document] = {
    Kind.LLM_PROVIDER: {
        "name": "Demo Provider",
        "template": "openai",
        "upstream": {"url": "https://llm.example.test/v1"},
    },
    Kind.LLM_PROXY: {"name": "Demo Proxy", "provider": {"id": PROVIDER_ID}},
    Kind.MCP: {"name": "Demo MCP", "upstream": {"url": "https://mcp.example.test/mcp"}},
    Kind.REST_API: {
        "name": "Demo API",
        "upstream": {"main": {"url": "http://backend.example.test:8080/base"}},
        "operations": [{"method": "GET", "path": "/items/{id}"}],
    },
}


@pytest.fixture
def smallest() -> Mapping[Kind, Document]:
    """The smallest document of each kind."""
    return _SMALLEST


@pytest.fixture
def accept() -> Accept:
    """Reads the smallest document of a kind with these fields changed."""

    def read(kind: Kind, /, **changes: object) -> Artifact:
        return MODELS[kind].model_validate({**_SMALLEST[kind], **changes})

    return read


@pytest.fixture
def refuse(accept: Accept) -> Refuse:
    """The place at fault in the smallest document of a kind with these fields changed."""

    def place(kind: Kind, /, **changes: object) -> str:
        with pytest.raises(ValidationError) as caught:
            accept(kind, **changes)
        return ".".join(str(part) for part in caught.value.errors()[0]["loc"])

    return place
