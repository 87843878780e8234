"""The documents of gateway-protocol.md 4.3 to 4.6 and 4.8, byte for byte, and what holds for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gatecast.controlplane.documents import (
    MODELS,
    InvalidDocument,
    Kind,
    ProviderReference,
    credential_paths,
    render,
    take_credentials,
)
from gatecast.testing.unmodified_gateway.packages import referenced_secrets

Accept = Callable[..., Any]

GOLDEN = Path(__file__).parent / "golden"
FIRST = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f01"
SECOND = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f02"
PROVIDER = ProviderReference(handle="demo-provider", vhost=None)
ADDITIONAL = {SECOND: ProviderReference(handle="second-provider", vhost=None)}
UPSTREAM = {"url": "https://a.example.test"}
AUTH = {"type": "api-key", "header": "X-Key", "value": "x"}


def rendered(kind: str, handle: str, written: object) -> bytes:
    artifact, _ = take_credentials(MODELS[Kind(kind)].model_validate(written))
    secrets = {place: f"secret-{number}" for number, place in enumerate(credential_paths(artifact), 1)}
    providers: dict[str, Any] = {"provider": PROVIDER, "additional": ADDITIONAL} if kind == Kind.LLM_PROXY else {}
    return render(artifact, handle=handle, credentials=secrets, **providers)


def specification(kind: str, **fields: object) -> dict[str, Any]:
    spec: dict[str, Any] = yaml.safe_load(rendered(kind, "demo", {"name": "Demo", **fields}))["spec"]
    return spec


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_document_has_exactly_these_bytes(path: Path) -> None:
    case = json.loads(path.read_text())
    assert rendered(case["kind"], case["handle"], case["document"]) == path.with_suffix(".yaml").read_bytes()


def test_there_is_a_golden_file_for_every_document_of_the_protocol() -> None:
    assert len(sorted(GOLDEN.glob("*.yaml"))) == 8


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_is_stored_renders_like_what_was_written(path: Path) -> None:
    case = json.loads(path.read_text())
    masked, _ = take_credentials(MODELS[Kind(case["kind"])].model_validate(case["document"]))
    stored = json.loads(masked.model_dump_json(by_alias=True, exclude_unset=True))
    assert rendered(case["kind"], case["handle"], stored) == path.with_suffix(".yaml").read_bytes()


@pytest.mark.parametrize("kind", ["LlmProvider", "Mcp"])
def test_a_gateway_finds_the_secrets_and_never_sees_their_values(kind: str) -> None:
    fields = {"template": "openai"} if kind == "LlmProvider" else {}
    auth = {"type": "api-key", "header": "X-Key", "value": "the credential itself"}
    written = rendered(kind, "demo", {"name": "Demo", **fields, "upstream": {**UPSTREAM, "auth": auth}}).decode()
    assert referenced_secrets(written) == ["secret-1"]
    assert "the credential itself" not in written
    assert "***" not in written


@pytest.mark.parametrize("upstream", [UPSTREAM, {**UPSTREAM, "auth": {"type": "none"}}])
def test_a_provider_without_a_credential_says_so_because_gateways_keep_the_last_one(upstream: object) -> None:
    assert specification("LlmProvider", template="openai", upstream=upstream)["upstream"]["auth"] == {"type": "none"}


def test_a_proxy_without_credentials_says_so_because_gateways_keep_the_last_ones() -> None:
    spec = specification("LlmProxy", provider={"id": FIRST}, additionalProviders=[{"id": SECOND, "as": "second"}])
    assert spec["provider"] == {"id": "demo-provider", "auth": {"type": "none"}}
    assert spec["additionalProviders"] == [{"id": "second-provider", "as": "second", "auth": {"type": "none"}}]


def test_an_mcp_proxy_without_a_credential_has_no_auth_because_none_would_be_one() -> None:
    assert specification("Mcp", upstream=UPSTREAM)["upstream"] == UPSTREAM


def test_what_is_for_people_is_not_sent() -> None:
    spec = specification(
        "LlmProvider",
        template="openai",
        upstream=UPSTREAM,
        description="a note",
        models=[{"id": "gpt-x"}],
        openapi={"openapi": "3.1.0"},
    )
    assert set(spec) == {"displayName", "version", "context", "template", "upstream", "accessControl"}


@pytest.mark.parametrize("kind", ["LlmProvider", "Mcp"])
def test_optional_fields_that_are_empty_are_left_out(kind: str) -> None:
    fields = {"template": "openai"} if kind == "LlmProvider" else {}
    empty: dict[str, Any] = {"policies": [], "upstreamDefinitions": [], "resilience": None, "vhost": None}
    assert specification(kind, upstream=UPSTREAM, **fields, **empty) == specification(kind, upstream=UPSTREAM, **fields)


def test_specific_paths_come_before_wildcards_and_policies_of_one_path_keep_their_order() -> None:
    def policy(name: str, *paths: str) -> dict[str, object]:
        return {"name": name, "paths": [{"path": path, "methods": ["*"]} for path in paths]}

    policies = [
        policy("one", "/*", "/chat/*"),
        policy("two", "/*", "/chat/completions", "/{id}"),
        policy("three", "/", "/*"),
    ]
    spec = specification("LlmProvider", template="openai", upstream=UPSTREAM, operationPolicies=policies)
    assert [(each["paths"][0]["path"], each["name"]) for each in spec["operationPolicies"]] == [
        ("/chat/completions", "two"),
        ("/chat/*", "one"),
        ("/", "three"),
        ("/{id}", "two"),
        ("/*", "one"),
        ("/*", "two"),
        ("/*", "three"),
    ]
    assert all(len(each["paths"]) == 1 for each in spec["operationPolicies"])


def test_an_api_key_and_limits_become_well_known_policies() -> None:
    spec = specification(
        "LlmProvider",
        template="openai",
        upstream=UPSTREAM,
        security={"apiKey": {"key": "X-Key", "in": "query"}},
        globalPolicies=[{"name": "own"}],
        rateLimits={
            "global": {"requests": [{"count": 5, "duration": "1m"}], "totalTokens": [{"count": 7, "duration": "1h"}]},
            "paths": [{"path": "/chat", "methods": ["POST"], "promptTokens": [{"count": 9, "duration": "24h"}]}],
        },
    )
    assert spec["globalPolicies"] == [
        {"name": "api-key-auth", "version": "v1", "params": {"key": "X-Key", "in": "query"}},
        {"name": "basic-ratelimit", "version": "v1", "params": {"limits": [{"requests": 5, "duration": "1m"}]}},
        {
            "name": "token-based-ratelimit",
            "version": "v1",
            "params": {"totalTokenLimits": [{"count": 7, "duration": "1h"}]},
        },
        {"name": "own"},
    ]
    params = {"promptTokenLimits": [{"count": 9, "duration": "24h"}]}
    assert spec["operationPolicies"] == [
        {
            "name": "token-based-ratelimit",
            "version": "v1",
            "paths": [{"path": "/chat", "methods": ["POST"], "params": params}],
        }
    ]


def test_a_null_among_parameters_stays() -> None:
    policies = [{"name": "p", "params": {"a": None, "b": []}}]
    spec = specification("LlmProvider", template="openai", upstream=UPSTREAM, globalPolicies=policies)
    assert spec["globalPolicies"] == policies


@pytest.mark.parametrize("handle", ["", "Not Valid", 'x" }}{{ env "HOME', "a\nb"])
def test_a_handle_is_checked_before_it_is_written(accept: Accept, handle: str) -> None:
    with pytest.raises(InvalidDocument):
        render(accept(Kind.LLM_PROVIDER), handle=handle, credentials={})
    with_auth = accept(Kind.LLM_PROVIDER, upstream={**UPSTREAM, "auth": AUTH})
    with pytest.raises(InvalidDocument):
        render(with_auth, handle="demo", credentials={"upstream.auth": handle})


def test_a_credential_without_a_stored_secret_is_not_rendered(accept: Accept) -> None:
    with pytest.raises(InvalidDocument) as caught:
        render(accept(Kind.LLM_PROVIDER, upstream={**UPSTREAM, "auth": AUTH}), handle="demo", credentials={})
    assert caught.value.field == "upstream.auth"


def test_what_is_needed_at_many_places_may_make_a_document_too_large(accept: Accept) -> None:
    paths = [{"path": f"/{number}", "methods": ["*"]} for number in range(1_000)]
    policies = [{"name": "p", "paths": paths, "executionCondition": "x" * 1_000}]
    with pytest.raises(InvalidDocument) as caught:
        render(accept(Kind.LLM_PROVIDER, operationPolicies=policies), handle="demo", credentials={})
    assert caught.value.field == "document"


def test_a_document_at_the_limit_of_what_is_written_can_be_rendered(accept: Accept) -> None:
    params = {f"k{number}": "x" * 500 for number in range(999)}
    provider = accept(Kind.LLM_PROVIDER, globalPolicies=[{"name": "p", "params": params}])
    assert len(render(provider, handle="demo", credentials={})) > 500_000
