"""What a set of gateways has in common."""

from __future__ import annotations

from typing import Any

import pytest

from gatecast.controlplane.policies.policy_catalogue import common_policies


def _manifest(*policies: tuple[str, str]) -> dict[str, Any]:
    return {"policies": [{"name": name, "version": version, "description": name} for name, version in policies]}


def test_only_what_all_have_is_common_and_of_that_the_newest() -> None:
    one = _manifest(("mask", "v1.2.0"), ("mask", "v1.10.0"), ("mask", "v2.0.0"), ("only-here", "v1.0.0"))
    other = _manifest(("mask", "v1.2.0"), ("mask", "v1.10.0"), ("cache", "v1.0.0"))
    assert [(each.name, each.version) for each in common_policies([one, other])] == [("mask", "v1.10.0")]
    assert [each.name for each in common_policies([one])] == ["mask", "only-here"]
    assert common_policies([]) == []


@pytest.mark.parametrize(
    "broken",
    [{}, {"policies": None}, {"policies": {"name": "x"}}, {"policies": [None, 1, {"name": 1}, {"name": "x"}]}],
)
def test_a_manifest_that_makes_no_sense_offers_nothing(broken: dict[str, Any]) -> None:
    assert common_policies([broken]) == []
    assert common_policies([_manifest(("mask", "v1.0.0")), broken]) == []


def test_what_is_no_schema_is_none() -> None:
    [policy] = common_policies([{"policies": [{"name": "x", "version": "v1.0.0", "parameters": [], "description": 5}]}])
    assert (policy.parameters, policy.description) == ({}, "")
