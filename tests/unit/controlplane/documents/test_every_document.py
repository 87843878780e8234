"""What holds for every document that is accepted."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from gatecast.controlplane.documents import (
    MASK,
    MODELS,
    Artifact,
    Kind,
    ProviderReference,
    credential_paths,
    derive_handle,
    render,
    required_policies,
    take_credentials,
)
from gatecast.testing.unmodified_gateway.document_rules import check_document
from gatecast.testing.unmodified_gateway.packages import parse_document
from gatecast.testing.unmodified_gateway.policy_definitions import DEFAULT_POLICIES

IDS = [f"5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f0{number}" for number in range(4)]
PROVIDERS = {id_: ProviderReference(handle=f"provider-{number}", vhost=None) for number, id_ in enumerate(IDS)}

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{"), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
PARAMS = st.dictionaries(TEXTS, VALUES, max_size=3)
WORDS = st.text("abcxyz09", min_size=2, max_size=8)
VERSIONS = st.builds("v{}.{}".format, st.integers(0, 99), st.integers(0, 99))
PATHS = st.sampled_from(["/", "/*", "/a", "/a/*", "/a/b", "/{id}", "/a/{id}/c"])
METHODS = st.sampled_from([["*"], ["GET"], ["GET", "POST"]])
CREDENTIALS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="{'%"), min_size=1)
AUTHS = st.fixed_dictionaries({"type": st.just("api-key"), "header": st.just("X-Key"), "value": CREDENTIALS})
POLICIES = st.lists(st.fixed_dictionaries({"name": WORDS, "params": PARAMS}), max_size=3)
PLACES = st.fixed_dictionaries({"path": PATHS, "methods": METHODS, "params": PARAMS})
OPERATION_POLICIES = st.lists(
    st.fixed_dictionaries({"name": WORDS, "paths": st.lists(PLACES, min_size=1, max_size=3)}), max_size=3
)
UPSTREAMS = st.fixed_dictionaries({"url": st.just("https://a.example.test/b")}, optional={"auth": AUTHS})
DURATIONS = st.sampled_from(["1s", "250ms", "1.5m", "0s"])
RESILIENCE = st.fixed_dictionaries({}, optional={"timeout": DURATIONS, "idleTimeout": DURATIONS})
DEFINITIONS = st.lists(
    st.fixed_dictionaries(
        {
            "name": WORDS,
            "upstreams": st.lists(
                st.fixed_dictionaries(
                    {"url": st.sampled_from(["http://a.example.test", "https://10.0.0.1:8443"])},
                    optional={"weight": st.integers(0, 100)},
                ),
                min_size=1,
                max_size=2,
            ),
        },
        optional={"basePath": st.just("/base"), "timeout": st.just({"connect": "5s"})},
    ),
    max_size=2,
    unique_by=lambda definition: str(definition["name"]),
)
COMMON = {
    "resilience": RESILIENCE,
    "upstreamDefinitions": DEFINITIONS,
    "description": TEXTS,
    "version": VERSIONS,
    "annotations": st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=2),
}
PROXY_COMMON = {name: strategy for name, strategy in COMMON.items() if name != "upstreamDefinitions"}
LIMITS = st.lists(
    st.fixed_dictionaries({"count": st.integers(1, 9), "duration": st.just("1h")}), min_size=1, max_size=2
)
LLM = {"globalPolicies": POLICIES, "operationPolicies": OPERATION_POLICIES}
PROVIDER = {
    "security": st.sampled_from(
        [{"apiKey": {"key": "X-Key", "in": "header"}}, {"apiKey": {"key": "k", "in": "query"}}]
    ),
    "accessControl": st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["allow_all", "deny_all"]),
            "exceptions": st.lists(st.fixed_dictionaries({"path": PATHS, "methods": METHODS}), max_size=2),
        }
    ),
    "rateLimits": st.fixed_dictionaries({"global": st.fixed_dictionaries({"requests": LIMITS, "totalTokens": LIMITS})}),
}
LLM_NAMES = TEXTS.map(lambda text: f"Né 1 {re.sub('[^ -~]', '', text)}")
API_NAMES = WORDS.map(lambda word: f"Api {word}")


WELL_KNOWN = {"api-key-auth", "basic-ratelimit", "token-based-ratelimit"}
SCHEMAS = {each["name"]: each["parameters"] for each in DEFAULT_POLICIES}


def additional(ids: list[str]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(*(st.fixed_dictionaries({"id": st.just(each)}, optional={"auth": AUTHS}) for each in ids)).map(
        list
    )


DOCUMENTS = st.one_of(
    st.tuples(
        st.just(Kind.LLM_PROVIDER),
        st.fixed_dictionaries(
            {"name": LLM_NAMES, "template": st.just("openai"), "upstream": UPSTREAMS},
            optional={**COMMON, **LLM, **PROVIDER, "vhost": st.just("llm.example.test"), "openapi": PARAMS},
        ),
    ),
    st.tuples(
        st.just(Kind.LLM_PROXY),
        st.fixed_dictionaries(
            {"name": LLM_NAMES, "provider": st.fixed_dictionaries({"id": st.just(IDS[0])}, optional={"auth": AUTHS})},
            optional={
                **PROXY_COMMON,
                **LLM,
                "additionalProviders": st.sampled_from([[], IDS[1:2], IDS[1:]]).flatmap(additional),
            },
        ),
    ),
    st.tuples(
        st.just(Kind.MCP),
        st.fixed_dictionaries(
            {"name": API_NAMES, "upstream": UPSTREAMS},
            optional={
                **COMMON,
                "specVersion": st.sampled_from(["2025-06-18", "2025-11-25"]),
                "policies": POLICIES,
                "tools": st.lists(st.fixed_dictionaries({"name": WORDS, "description": TEXTS}), max_size=2),
            },
        ),
    ),
    st.tuples(
        st.just(Kind.REST_API),
        st.fixed_dictionaries(
            {
                "name": API_NAMES,
                "upstream": st.just({"main": {"url": "https://a.example.test"}}),
                "operations": st.lists(
                    st.fixed_dictionaries({"method": st.just("GET"), "path": PATHS, "policies": POLICIES}),
                    min_size=1,
                    max_size=3,
                ),
            },
            optional={**COMMON, "policies": POLICIES},
        ),
    ),
)


def providers_of(artifact: Artifact) -> dict[str, Any]:
    return {"provider": PROVIDERS[IDS[0]], "additional": PROVIDERS} if artifact.kind is Kind.LLM_PROXY else {}


def secrets_of(artifact: Artifact) -> dict[str, str]:
    return {place: f"gatecast-{number}" for number, place in enumerate(credential_paths(artifact))}


def written(artifact: Artifact) -> bytes:
    handle = derive_handle(artifact.name)
    return render(artifact, handle=handle, credentials=secrets_of(artifact), **providers_of(artifact))


@given(DOCUMENTS)
def test_it_is_read_back_as_it_was_written(case: tuple[Kind, dict[str, Any]]) -> None:
    kind, document = case
    artifact = MODELS[kind].model_validate(document)
    found = yaml.safe_load(written(artifact))
    assert (found["kind"], found["metadata"]["name"]) == (kind, derive_handle(artifact.name))
    assert found["metadata"].get("annotations", {}) == document.get("annotations", {})
    spec = found["spec"]
    assert (spec["displayName"], spec["version"], spec["context"]) == (
        document["name"].strip(),
        document.get("version", "v1.0"),
        f"/{derive_handle(document['name'])}",
    )
    assert _policies(spec) == _policies(document)


@given(DOCUMENTS)
def test_a_gateway_with_the_policies_that_it_needs_applies_it(case: tuple[Kind, dict[str, Any]]) -> None:
    kind, document = case
    artifact = MODELS[kind].model_validate(document)
    needed = required_policies(artifact, **providers_of(artifact))
    loaded = [
        {"name": each.name, "version": f"{each.major or 'v3'}.1.0", "parameters": SCHEMAS.get(each.name)}
        for each in needed
    ]
    check_document(kind, parse_document(written(artifact).decode()), loaded)


def _policies(document: dict[str, Any]) -> list[str]:
    """Every policy with one place of its use, in any order; but for those of `security` and `rateLimits`."""
    everywhere = [*document.get("globalPolicies", ()), *document.get("policies", ())]
    for operation in document.get("operations", ()):
        everywhere += operation.get("policies", ())
    single = [
        {"name": policy["name"], **place}
        for policy in document.get("operationPolicies", ())
        for place in policy["paths"]
    ]
    own = (policy for policy in [*everywhere, *single] if policy["name"] not in WELL_KNOWN)
    return sorted(json.dumps(each, sort_keys=True) for each in own)


@given(DOCUMENTS)
def test_it_has_the_same_bytes_every_time_also_after_being_stored(case: tuple[Kind, dict[str, Any]]) -> None:
    kind, document = case
    artifact = MODELS[kind].model_validate(document)
    masked, _ = take_credentials(artifact)
    stored = MODELS[kind].model_validate_json(masked.model_dump_json(by_alias=True, exclude_unset=True))
    assert stored == masked
    assert written(artifact) == written(artifact) == written(masked) == written(stored)


@given(DOCUMENTS)
def test_it_has_no_template_but_our_references_and_no_credential(case: tuple[Kind, dict[str, Any]]) -> None:
    kind, document = case
    artifact = MODELS[kind].model_validate(document)
    text = written(artifact).decode()
    references = [f'{{{{ secret \\"{handle}\\" }}}}' for handle in secrets_of(artifact).values()]
    assert text.count("{{") == len(references)
    assert all(text.count(reference) == 1 for reference in references)
    assert MASK not in [auth.value for _, auth in artifact.auths()] or MASK not in text


@given(DOCUMENTS)
def test_its_text_is_utf_8_in_whole_lines_without_anchors_and_tags(case: tuple[Kind, dict[str, Any]]) -> None:
    kind, document = case
    content = written(MODELS[kind].model_validate(document))
    assert content.endswith(b"\n")
    assert b"\r" not in content
    tokens = list(yaml.scan(content.decode()))
    assert not any(isinstance(token, yaml.AnchorToken | yaml.AliasToken | yaml.TagToken) for token in tokens)
