"""Settings: where they come from, and what is said of those that cannot be used."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatecast import EventHub, Settings
from gatecast.errors import SettingInvalid
from gatecast.settings import descriptions, parse_duration, show


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    assert Settings.read({}).retention == timedelta(days=7)
    environment = {"GATECAST_RETENTION": "12h"}
    assert Settings.read(environment).retention == timedelta(hours=12)
    assert Settings.read(environment, retention="5m").retention == timedelta(minutes=5)
    assert Settings.read(environment, retention=None).retention == timedelta(hours=12)


def test_a_misspelt_variable_is_refused_without_showing_its_value() -> None:
    with pytest.raises(SettingInvalid, match="GATECAST_ADMIN_TOKENS") as refused:
        Settings.read({"GATECAST_ADMIN_TOKENS": "a-secret"})
    assert "a-secret" not in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        "GATECAST_SERVICE_HOST",
        "GATECAST_SERVICE_PORT",
        "GATECAST_SERVICE_PORT_HTTP",
        "GATECAST_PORT",
        "GATECAST_PORT_8080_TCP",
        "GATECAST_PORT_8080_TCP_ADDR",
        "GATECAST_ADMIN_API_SERVICE_HOST",
        "GATECAST_ADMIN_API_PORT_8080_TCP_PROTO",
    ],
)
def test_what_kubernetes_says_of_a_service_named_gatecast_is_no_setting(name: str) -> None:
    assert Settings.read({name: "tcp://10.0.0.1:8080"}).database == Settings().database


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("poll_interval", "0s", "longer than zero"),
        ("poll_interval", "soon", "duration like 250ms"),
        ("poll_interval", "9" * 400 + "d", "shorter"),
        ("migrate", "maybe", "auto, always, never"),
        ("notifications", "yes", "on, off"),
        ("max_connections", "0", "from 1 to"),
        ("admin_token", "fifteen-letters", "at least 16 characters, like the output of"),
        ("metrics_token", "short", "at least 16 characters"),
        ("max_connections", "1e3", "from 1 to"),
        ("api_listen", "8080", "host:port"),
        ("api_listen", "localhost:99999", "host:port"),
        ("trusted_proxies", "10.0.0.0/8;192.0.2.1", "separated by commas"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_rule(name: str, value: str, rule: str) -> None:
    with pytest.raises(SettingInvalid, match=rule) as refused:
        Settings.read({}, **{name: value})
    assert f"GATECAST_{name.upper()}" in str(refused.value)


def test_secrets_are_not_in_the_representation() -> None:
    secrets = {one.name for one in descriptions() if one.secret}
    assert secrets == {"database", "admin_token", "metrics_token", "outbox", "oidc_client_secret", "secret_key"}
    given: Any = dict.fromkeys(secrets - {"database"}, "hunter2-and-more")
    shown = repr(Settings(database="postgresql://me:hunter2@db/gatecast", **given))
    assert "hunter2" not in shown


def test_every_default_is_read_back_from_what_is_shown() -> None:
    defaults = Settings(pod_id="pod")
    flags = {each.name: show(getattr(defaults, each.name)) for each in fields(Settings)}
    assert Settings.read({}, **flags) == defaults


def test_networks_may_be_single_addresses() -> None:
    proxies = Settings.read({}, trusted_proxies="10.0.0.0/8, 192.0.2.1,").trusted_proxies
    assert proxies == (ip_network("10.0.0.0/8"), ip_network("192.0.2.1/32"))


@given(st.integers(1, 10**9))
def test_a_duration_is_shown_as_it_is_read(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(show(duration)) == duration


@given(st.text(max_size=30))
def test_whatever_is_written_as_a_setting_is_read_or_refused(text: str) -> None:
    for one in descriptions():
        with suppress(SettingInvalid):
            Settings.read({}, **{one.name: text})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poll_interval", timedelta(0)),
        ("poll_interval", timedelta(microseconds=1)),
        ("poll_interval", timedelta(seconds=-1)),
        ("poll_interval", timedelta.max),
        ("poll_interval", 0.5),
        ("retention", timedelta(seconds=-1)),
        ("retention", timedelta.max),
        ("retention", -1),
        ("retention_limit", timedelta(0)),
        ("retention_events", 0),
        ("retention_events", True),
        ("retention_events", "7"),
        ("drain_time", timedelta(0)),
        ("max_connections", -1),
        ("max_connections", 10**10),
        ("notifications", "off"),
        ("migrate", "sometimes"),
        ("pooler", None),
        ("api_listen", "8080"),
        ("trusted_proxies", "10.0.0.0/8"),
        ("pod_id", " "),
        ("pod_id", "x" * 256),
        ("admin_token", None),
        ("database", 7),
        ("log_format", "xml"),
    ],
)
async def test_values_are_refused_as_flags_are(name: str, value: object) -> None:
    """Zero as the poll interval would spin a core, a negative retention delete what is not confirmed."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(SettingInvalid, match=f"GATECAST_{name.upper()} must"):
        async with EventHub.open("sqlite:///never-made.db", settings=Settings(**given)):
            pass
    assert not Path("never-made.db").exists()


def test_every_value_that_a_flag_gives_is_one_that_may_be_given() -> None:
    read = Settings.read({}, retention="0", poll_interval="1ms", trusted_proxies="10.0.0.1", notifications="off")
    assert replace(read) == read
