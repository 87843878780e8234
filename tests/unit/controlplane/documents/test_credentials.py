from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from gatecast.controlplane.documents import MASK, MODELS, Kind, credential_paths, take_credentials

Accept = Callable[..., Any]
Refuse = Callable[..., str]

FIRST = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f01"
SECOND = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f02"
THIRD = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f03"


def auth(value: object) -> dict[str, object]:
    return {"type": "api-key", "header": "X-Key", "value": value}


def upstream(value: object) -> dict[str, object]:
    return {"upstream": {"url": "https://a", "auth": auth(value)}}


PROVIDERS = {
    "provider": {"id": FIRST, "auth": auth("one")},
    "additionalProviders": [{"id": SECOND, "auth": auth("two")}, {"id": THIRD, "as": "third"}],
}


@pytest.mark.parametrize(
    ("kind", "changes", "taken"),
    [
        (Kind.LLM_PROVIDER, upstream("secret"), {"upstream.auth": "secret"}),
        (Kind.MCP, upstream("secret"), {"upstream.auth": "secret"}),
        (Kind.LLM_PROXY, PROVIDERS, {"provider.auth": "one", f"additionalProviders/{SECOND}": "two"}),
        (Kind.LLM_PROVIDER, {}, {}),
        (Kind.LLM_PROXY, {}, {}),
        (Kind.MCP, {}, {}),
        (Kind.REST_API, {}, {}),
    ],
)
def test_credentials_are_taken_out(
    accept: Accept, kind: Kind, changes: dict[str, object], taken: dict[str, str]
) -> None:
    artifact = accept(kind, **changes)
    masked, found = take_credentials(artifact)
    assert found == taken
    assert credential_paths(masked) == credential_paths(artifact) == tuple(taken)
    assert not any(value in masked.model_dump_json() for value in taken.values())


@pytest.mark.parametrize("kind", [Kind.LLM_PROVIDER, Kind.MCP])
def test_a_mask_keeps_what_is_stored(accept: Accept, kind: Kind) -> None:
    masked, found = take_credentials(accept(kind, **upstream(MASK)))
    assert found == {}
    assert credential_paths(masked) == ("upstream.auth",)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.LLM_PROVIDER, upstream("secret")),
        (Kind.LLM_PROVIDER, {}),
        (Kind.LLM_PROXY, PROVIDERS),
        (Kind.MCP, upstream("secret")),
        (Kind.REST_API, {}),
    ],
)
def test_a_masked_artifact_survives_being_stored(accept: Accept, kind: Kind, changes: dict[str, object]) -> None:
    masked, _ = take_credentials(accept(kind, **changes))
    text = masked.model_dump_json(by_alias=True, exclude_unset=True)
    assert MODELS[kind].model_validate_json(text) == masked


@pytest.mark.parametrize("type_", ["api-key", "other"])
def test_a_gateway_would_go_on_with_an_old_value_so_there_must_be_one(refuse: Refuse, type_: str) -> None:
    target = {"url": "https://a", "auth": {"type": type_, "header": "X-Key"}}
    assert refuse(Kind.LLM_PROVIDER, upstream=target) == "upstream.auth.value"


@pytest.mark.parametrize("more", [{"header": "X-Key"}, {"value": "x"}])
def test_none_carries_nothing(refuse: Refuse, more: dict[str, str]) -> None:
    target = {"url": "https://a", "auth": {"type": "none", **more}}
    assert refuse(Kind.LLM_PROVIDER, upstream=target) == "upstream.auth"


@pytest.mark.parametrize("header", ["", "X Key", "X:Key", "X-Kéy", "x" * 257])
def test_a_header_is_one_that_a_gateway_can_set(refuse: Refuse, header: str) -> None:
    target = {"url": "https://a", "auth": {"type": "api-key", "header": header, "value": "x"}}
    assert refuse(Kind.LLM_PROVIDER, upstream=target) == "upstream.auth.header"


@pytest.mark.parametrize(
    "value", ["", "top-secret\n", "top-secret\0", "top-secret\x7f", "top-secret{{", "x" * 8_193, 12]
)
@pytest.mark.parametrize("kind", [Kind.LLM_PROVIDER, Kind.MCP])
def test_a_refused_credential_is_never_shown(accept: Accept, kind: Kind, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        accept(kind, **upstream(value))
    first = caught.value.errors()[0]
    assert first["loc"] == ("upstream", "auth", "value")
    assert first["input"] == {}
    assert "top-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("https://user:top-secret@a", ("upstream",)),
        ({"url": "https://user:top-secret@a"}, ("upstream", "url")),
        ({"url": "https://a", "auth": "top-secret"}, ("upstream", "auth")),
        ({"url": "https://a", "auth": {"type": "api-key", "header": "X-Key", "vlaue": "top-secret"}},
         ("upstream", "auth", "vlaue")),
    ],
)  # fmt: skip
def test_a_credential_at_a_wrong_place_is_refused(accept: Accept, target: object, place: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        accept(Kind.LLM_PROVIDER, upstream=target)
    first = caught.value.errors()[0]
    assert first["loc"] == place
    # Of an unknown field, which is told by its name, the API shows no value.
    assert first["input"] == {} or first["type"] == "extra_forbidden"
