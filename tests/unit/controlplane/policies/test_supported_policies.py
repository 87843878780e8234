"""Which policies and parameters a gateway's manifest admits."""

from __future__ import annotations

from typing import Any

import pytest

from gatecast.controlplane.documents import MODELS, Artifact, Kind, required_policies
from gatecast.controlplane.policies.supported_policies import OfferedPolicies
from gatecast.errors import Conflict

_PROVIDER_ID = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f01"
_SECRET = "Bearer a-credential"
_NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

_DOCUMENTS: dict[Kind, dict[str, Any]] = {
    Kind.LLM_PROVIDER: {"template": "openai", "upstream": {"url": "https://llm.example.test/v1"}},
    Kind.LLM_PROXY: {"provider": {"id": _PROVIDER_ID}},
    Kind.MCP: {"upstream": {"url": "https://mcp.example.test/mcp"}},
    Kind.REST_API: {
        "upstream": {"main": {"url": "http://backend.example.test:8080"}},
        "operations": [{"method": "GET", "path": "/items"}],
    },
}


def _document(kind: Kind, **fields: object) -> Artifact:
    return MODELS[kind].model_validate({"name": "Demo", **_DOCUMENTS[kind], **fields})


def _entry(name: str, version: str = "v1.0.0", parameters: object = None) -> dict[str, Any]:
    return {"name": name, "version": version, "parameters": parameters}


def _refusal(document: Artifact, *entries: object) -> Conflict | None:
    offered = OfferedPolicies("gw", [_entry("set-headers"), *entries])
    try:
        offered.check_loaded(required_policies(document))
        offered.check_parameters(document.checked_policies())
    except Conflict as conflict:
        return conflict
    return None


def _policy(**fields: object) -> dict[str, Any]:
    return {"name": "p", "version": "v1", **fields}


_ON_A_PATH = {"paths": [{"path": "/a", "methods": ["GET"], "params": {"n": "x"}}]}


@pytest.mark.parametrize(
    ("kind", "fields", "place"),
    [
        (Kind.REST_API, {"policies": [_policy(), _policy(params={"n": 1})]}, "policies.0"),
        (
            Kind.REST_API,
            {"operations": [{"method": "GET", "path": "/a", "policies": [_policy()]}]},
            "operations.0.policies.0",
        ),
        (Kind.MCP, {"policies": [_policy(params={"n": 1}), _policy(params={"n": _SECRET})]}, "policies.1"),
        (Kind.LLM_PROVIDER, {"globalPolicies": [_policy(params={"n": _SECRET})]}, "globalPolicies.0"),
        (Kind.LLM_PROXY, {"globalPolicies": [_policy()]}, "globalPolicies.0"),
    ],
)
def test_parameters_are_compared_where_gateways_do(kind: Kind, fields: dict[str, Any], place: str) -> None:
    conflict = _refusal(_document(kind, **fields), _entry("p", parameters=_NUMBER))
    assert conflict is not None
    assert conflict.field == place
    assert all(part in str(conflict) for part in ("gateway gw", "p v1", "params.n"))
    assert _SECRET not in str(conflict)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.LLM_PROVIDER, {"operationPolicies": [_policy(**_ON_A_PATH)]}),
        (Kind.LLM_PROVIDER, {"policies": [_policy(**_ON_A_PATH)]}),
        (Kind.LLM_PROXY, {"operationPolicies": [_policy(**_ON_A_PATH)]}),
        (Kind.LLM_PROXY, {"policies": [_policy(**_ON_A_PATH)]}),
        (Kind.REST_API, {"policies": [_policy(params={"n": 1})]}),
    ],
)
def test_of_the_others_only_name_and_version_are(kind: Kind, fields: dict[str, Any]) -> None:
    assert _refusal(_document(kind, **fields), _entry("p", parameters=_NUMBER)) is None
    assert _refusal(_document(kind, **fields), _entry("p", version="v2.0.0")) is not None


def test_policies_that_other_words_stand_for_are_compared_as_well() -> None:
    document = _document(
        Kind.LLM_PROVIDER,
        security={"apiKey": {"key": "X-Key", "in": "query"}},
        rateLimits={"global": {"requests": [{"count": 5, "duration": "1m"}]}},
    )
    keys, limits = _entry("api-key-auth"), _entry("basic-ratelimit")
    assert _refusal(document, keys, limits) is None
    keys["parameters"] = {"properties": {"in": {"enum": ["header"]}}}
    conflict = _refusal(document, keys, limits)
    assert conflict is not None
    assert conflict.field == "security.apiKey"
    keys["parameters"] = {}
    limits["parameters"] = {"properties": {"limits": {"items": {"properties": {"requests": {"maximum": 4}}}}}}
    conflict = _refusal(document, keys, limits)
    assert conflict is not None
    assert conflict.field == "rateLimits.global"
    assert "params.limits.0.requests" in str(conflict)


def test_two_versions_of_one_major_are_refused() -> None:
    versions = (_entry("p", "v1.0.0"), _entry("p", "v1.2.0"))
    document = _document(Kind.REST_API, policies=[_policy()])
    conflict = _refusal(document, *versions)
    assert conflict is not None
    assert "v1.0.0, v1.2.0" in str(conflict)
    # The same entry twice is one definition; other majors do not matter; without a version the newest is taken.
    assert _refusal(document, versions[0], versions[0], _entry("p", "v2.0.0")) is None
    assert _refusal(_document(Kind.REST_API, policies=[{"name": "p"}]), *versions) is None


def test_without_a_version_the_newest_definition_counts() -> None:
    document = _document(Kind.REST_API, policies=[{"name": "p", "params": {"n": "x"}}])
    old, new = _entry("p", "v9.0.0", _NUMBER), _entry("p", "v10.0.0")
    assert _refusal(document, old, new) is None
    new["parameters"] = _NUMBER
    assert _refusal(document, old, new) is not None
    assert _refusal(document, _entry("p", "newest", _NUMBER), _entry("p", "oldest", _NUMBER)) is None


@pytest.mark.parametrize("entry", [None, 7, {}, {"name": 7}, {"name": "p"}, {"name": "p", "version": ["v1"]}])
def test_entries_that_are_none_are_no_offer(entry: object) -> None:
    conflict = _refusal(_document(Kind.REST_API, policies=[_policy()]), entry)
    assert conflict is not None
    assert "does not offer the policy p v1" in str(conflict)
