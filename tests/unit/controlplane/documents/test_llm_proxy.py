from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gatecast.controlplane.documents import InvalidDocument, Kind, ProviderReference, render, required_policies

Accept = Callable[..., Any]
Refuse = Callable[..., str]

KIND = Kind.LLM_PROXY
FIRST = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f01"
SECOND = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f02"
THIRD = "5c0c4d54-7a0f-4e53-9d0e-0d6b6d7e8f03"
PRIMARY = ProviderReference(handle="first", vhost=None)


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": {"id": FIRST.upper()}},
        {"provider": {"id": FIRST, "auth": {"type": "api-key", "header": "X-API-Key", "value": "x"}}},
        {"additionalProviders": [{"id": SECOND}, {"id": THIRD, "as": "third_1-a"}]},
        {"additionalProviders": [{"id": SECOND, "transformer": {"type": "t", "version": "v1", "params": {"a": 1}}}]},
        {"security": {"apiKey": {"key": "X-Key"}}},
        {"vhost": "proxy.example.test"},
        {"provider": {"id": "demo-provider"}},
    ],
)
def test_it_is_accepted(accept: Accept, changes: dict[str, object]) -> None:
    accept(KIND, **changes)


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"provider": {}}, "provider.id"),
        ({"provider": {"id": "Demo Provider"}}, "provider.id"),
        ({"provider": {"id": FIRST, "auth": {"type": "api-key", "value": "x"}}}, "provider.auth.header"),
        ({"additionalProviders": [{"id": FIRST}]}, "additionalProviders.0.id"),
        ({"additionalProviders": [{"id": SECOND}, {"id": SECOND}]}, "additionalProviders.1.id"),
        ({"additionalProviders": [{"id": SECOND, "as": "a"}, {"id": THIRD, "as": "a"}]}, "additionalProviders.1.as"),
        ({"additionalProviders": [{"id": SECOND, "as": "a b"}]}, "additionalProviders.0.as"),
        ({"additionalProviders": [{"id": SECOND, "transformer": {"type": "t"}}]},
         "additionalProviders.0.transformer.version"),
        ({"additionalProviders": [{"id": SECOND, "transformer": {"type": "t", "version": "v1.0"}}]},
         "additionalProviders.0.transformer.version"),
        ({"upstream": {"url": "https://a"}}, "upstream"),
        ({"accessControl": {"mode": "allow_all"}}, "accessControl"),
    ],
)  # fmt: skip
def test_it_is_refused(refuse: Refuse, changes: dict[str, object], place: str) -> None:
    assert refuse(KIND, **changes) == place


def test_a_proxy_is_not_rendered_without_its_provider(accept: Accept) -> None:
    with pytest.raises(InvalidDocument) as caught:
        render(accept(KIND), handle="p", credentials={})
    assert caught.value.field == "provider"


@pytest.mark.parametrize(
    ("alias", "handle"),
    [({}, "first"), ({"as": "first"}, "second")],
    ids=["same handle", "alias is another's handle"],
)
def test_providers_have_different_names(accept: Accept, alias: dict[str, str], handle: str) -> None:
    proxy = accept(KIND, additionalProviders=[{"id": SECOND, **alias}])
    additional = {SECOND: ProviderReference(handle=handle, vhost=None)}
    with pytest.raises(InvalidDocument) as caught:
        render(proxy, handle="p", credentials={}, provider=PRIMARY, additional=additional)
    assert caught.value.field == "additionalProviders"


def test_every_proxy_needs_set_headers(accept: Accept) -> None:
    assert {each.name for each in required_policies(accept(KIND), PRIMARY)} == {"set-headers"}


@pytest.mark.parametrize("where", ["provider", "additional"])
def test_a_provider_with_a_vhost_needs_host_rewrite(accept: Accept, where: str) -> None:
    hosted = ProviderReference(handle="hosted", vhost="llm.example.test")
    given = {"provider": hosted} if where == "provider" else {"provider": PRIMARY, "additional": {SECOND: hosted}}
    assert {each.name for each in required_policies(accept(KIND), **given)} == {"set-headers", "host-rewrite"}
