from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from gatecast.controlplane.documents import Kind, LlmProvider

Accept = Callable[..., Any]
Refuse = Callable[..., str]

KIND = Kind.LLM_PROVIDER
ONE_PER_SECOND = [{"count": 1, "duration": "1s"}]
URL = {"url": "https://llm.example.test"}
AUTH = {"type": "api-key", "header": "Authorization", "value": "Bearer x"}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "ab"},
        {"name": "n" * 120},
        {"name": "Anything, (goes): here"},
        {"version": "v1.0"},
        {"version": "v12.34"},
        {"description": "d" * 512},
        {"context": "/"},
        {"context": "/a/b_c-d"},
        {"context": "/demo/$version"},
        {"context": "/_gateway-healthy"},
        {"vhost": "llm.example.test"},
        {"vhost": "*"},
        {"template": "mistralai"},
        {"template": "own.template-1"},
        {"upstream": {**URL, "hostRewrite": "manual"}},
        {"upstream": {**URL, "auth": AUTH}},
        {"upstream": {**URL, "auth": {"type": "other", "value": "x"}}},
        {"upstream": {**URL, "auth": {"type": "none"}}},
        {"accessControl": {"mode": "allow_all", "exceptions": []}},
        {"accessControl": {"mode": "deny_all", "exceptions": [{"path": "/chat/*", "methods": ["*"]}]}},
        {"accessControl": {"exceptions": [{"path": "/a", "methods": ["GET", "POST"]}]}},
        {"policies": [{"name": "p", "version": "v1", "paths": [{"path": "/*", "methods": ["*"]}]}]},
        {"models": [{"id": "gpt-x", "name": "GPT"}]},
        {"openapi": {"openapi": "3.1.0", "paths": {}}},
        {"security": {"apiKey": {"enabled": False}}, "globalPolicies": [{"name": "api-key-auth"}]},
        {"rateLimits": {"global": {"requests": ONE_PER_SECOND * 10}}},
        {
            "rateLimits": {
                "paths": [{"path": "/a", "methods": ["POST"], "promptTokens": [{"count": 1, "duration": "1h"}]}]
            }
        },
        {"labels": {"team": "a b"}, "annotations": {"note": "x"}},
    ],
)
def test_it_is_accepted(accept: Accept, changes: dict[str, object]) -> None:
    accept(KIND, **changes)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"name": "a"}, "name"),
        ({"name": " a "}, "name"),
        ({"name": "n" * 121}, "name"),
        ({"name": "😀" * 64}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 12}, "name"),
        ({"version": "1.0"}, "version"),
        ({"version": "v1"}, "version"),
        ({"version": "v1.0.0"}, "version"),
        ({"version": "v1.0\n"}, "version"),
        ({"version": "v\u0661.\u0660"}, "version"),
        ({"description": "d" * 513}, "description"),
        ({"context": "demo"}, "context"),
        ({"context": "/demo/"}, "context"),
        ({"context": "//"}, "context"),
        ({"context": "/a.b"}, "context"),
        ({"context": "/a b"}, "context"),
        ({"context": "/$other"}, "context"),
        ({"context": "/" + "a" * 200}, "context"),
        ({"context": "/_gateway-health"}, "context"),
        ({"context": "/_gateway-health/x"}, "context"),
        ({"vhost": ""}, "vhost"),
        ({"vhost": "a b"}, "vhost"),
        ({"template": "Open AI"}, "template"),
        ({"template": ""}, "template"),
        ({"upstream": {}}, "upstream"),
        ({"upstream": {**URL, "ref": "a"}}, "upstream"),
        ({"upstream": {"ref": "unknown"}}, "upstream.ref"),
        ({"upstream": {"url": "ftp://a"}}, "upstream.url"),
        ({"accessControl": {"mode": "other"}}, "accessControl.mode"),
        ({"accessControl": {"exceptions": [{"path": "", "methods": ["*"]}]}}, "accessControl.exceptions.0.path"),
        ({"accessControl": {"exceptions": [{"path": "/a", "methods": []}]}}, "accessControl.exceptions.0.methods"),
        ({"context": "/", "accessControl": {"exceptions": [{"path": "/_gateway-health", "methods": ["*"]}]}},
         "accessControl.exceptions.0.path"),
        ({"context": "/", "rateLimits": {"paths": [{"path": "/_gateway-health/a", "requests": ONE_PER_SECOND}]}},
         "rateLimits.paths.0.path"),
        ({"context": "/",
          "operationPolicies": [{"name": "p", "paths": [{"path": "/_gateway-health", "methods": ["*"]}]}]},
         "operationPolicies.0.paths.0.path"),
        ({"context": "/a",
          "operationPolicies": [{"name": "p", "paths": [{"path": "/../_gateway-health", "methods": ["*"]}]}]},
         "operationPolicies.0.paths.0.path"),
        ({"context": "/", "policies": [{"name": "p", "paths": [{"path": "//_gateway-health", "methods": ["*"]}]}]},
         "policies.0.paths.0.path"),
        ({"context": "/a/b", "accessControl": {"exceptions": [{"path": "/../../_gateway-health", "methods": ["*"]}]}},
         "accessControl.exceptions.0.path"),
        ({"security": {"apiKey": {"key": ""}}}, "security.apiKey.key"),
        ({"security": {"apiKey": {"in": "cookie"}}}, "security.apiKey.in"),
        ({"security": {"apiKey": {"enabled": "yes"}}}, "security.apiKey.enabled"),
        ({"security": {"apiKey": {}}, "globalPolicies": [{"name": "api-key-auth"}]}, "globalPolicies"),
        ({"rateLimits": {"global": {}}}, "rateLimits.global"),
        ({"rateLimits": {"global": {"requests": [{"count": 0, "duration": "1s"}]}}},
         "rateLimits.global.requests.0.count"),
        ({"rateLimits": {"global": {"requests": [{"count": 1, "duration": "0s"}]}}},
         "rateLimits.global.requests.0.duration"),
        ({"rateLimits": {"global": {"requests": ONE_PER_SECOND * 11}}}, "rateLimits.global.requests"),
        ({"labels": {"a b": "x"}}, "labels.a b.[key]"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"unknown": 1}, "unknown"),
    ],
)  # fmt: skip
def test_it_is_refused(refuse: Refuse, changes: dict[str, object], place: str) -> None:
    assert refuse(KIND, **changes) == place


@pytest.mark.parametrize(
    "other",
    [
        {"globalPolicies": [{"name": "g"}]},
        {"operationPolicies": [{"name": "o", "paths": [{"path": "/", "methods": ["GET"]}]}]},
        {"security": {"apiKey": {"enabled": True}}},
        {"rateLimits": {"global": {"requests": ONE_PER_SECOND}}},
    ],
)
def test_the_older_list_of_policies_excludes_the_others(refuse: Refuse, other: dict[str, object]) -> None:
    older = [{"name": "p", "paths": [{"path": "/*", "methods": ["*"]}]}]
    assert refuse(KIND, policies=older, **other) == "policies"


@pytest.mark.parametrize("field", ["name", "template", "upstream"])
def test_a_field_is_needed(smallest: Mapping[Kind, dict[str, Any]], field: str) -> None:
    document = {name: value for name, value in smallest[KIND].items() if name != field}
    with pytest.raises(ValueError, match="Field required"):
        LlmProvider.model_validate(document)


def test_names_are_trimmed_and_the_context_is_derived_from_them(accept: Accept) -> None:
    provider = accept(KIND, name="  Demo Provider ")
    assert (provider.name, provider.context) == ("Demo Provider", "/demo-provider")


def test_a_derived_context_stays_when_the_name_changes(accept: Accept) -> None:
    stored = accept(KIND, name="Old name").model_dump(by_alias=True, exclude_unset=True)
    assert LlmProvider.model_validate({**stored, "name": "New name"}).context == "/old-name"


def test_a_document_does_not_change(accept: Accept) -> None:
    with pytest.raises(ValueError, match="frozen"):
        accept(KIND).name = "other"
