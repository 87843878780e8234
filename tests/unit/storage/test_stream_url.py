"""URLs of NATS JetStream."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest

from gatecast.errors import SettingInvalid
from gatecast.storage.connect import open_engine
from gatecast.storage.stream_url import parse_stream


@pytest.mark.parametrize(
    ("text", "servers", "stream", "replicas"),
    [
        ("nats://127.0.0.1:4222", ["nats://127.0.0.1:4222"], "GATECAST", 3),
        (" nats://host/ \n", ["nats://host"], "GATECAST", 3),
        ("nats://host/EVENTS?replicas=1", ["nats://host"], "EVENTS", 1),
        ("nats://a:1,[::1]:2,c/E-1_x?replicas=5", ["nats://a:1", "nats://[::1]:2", "nats://c"], "E-1_x", 5),
        ("nats://me:p%40ss@a,b:2", ["nats://a", "nats://b:2"], "GATECAST", 3),
    ],
)
def test_a_url_names_servers_stream_and_copies(text: str, servers: list[str], stream: str, replicas: int) -> None:
    url = parse_stream(text)
    assert url is not None
    assert (url.servers, url.stream, url.replicas) == (servers, stream, replicas)


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        ("nats://a", "", None),
        ("nats://me:p%40%3A%2Fss@a,b", "me", "p@:/ss"),
        ("nats://me:x@a,me:x@b", "me", "x"),
        ("nats://me:@a", "me", ""),
        ("nats://a-token@a", "a-token", None),
    ],
)
def test_a_user_is_named_once_and_decoded(text: str, user: str, password: str | None) -> None:
    url = parse_stream(text)
    assert url is not None
    assert (url.user, url.password) == (user, password)
    assert not password or password not in repr(url)


def test_two_users_are_refused() -> None:
    with pytest.raises(SettingInvalid, match="the same user and password"):
        parse_stream("nats://me:x@a,you:y@b")


@pytest.mark.parametrize("text", ["sqlite:///file.db", "postgresql://host/nats", ""])
def test_other_urls_are_not_its_business(text: str) -> None:
    assert parse_stream(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "nats:",
        "nats://",
        "nats://host/a.b",
        "nats://host/a/b",
        "nats://host/E?replicas=2",
        "nats://host/E?replicas=1&x=y",
        "nats://me:secret@host,/E",
        "nats://me:sec@ret@host/E",
        "NATS://host",
    ],
)
def test_a_malformed_one_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(SettingInvalid, match=r"be written nats://user:password@host:4222") as refused:
        parse_stream(text)
    assert "secret" not in str(refused.value)


async def test_who_lacks_the_extra_is_told_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith(("nats", "gatecast.storage.jetstream"))]:
        monkeypatch.delitem(sys.modules, name)
    # As Python marks what cannot be imported.
    monkeypatch.setitem(cast("dict[str, Any]", sys.modules), "nats", None)
    with pytest.raises(SettingInvalid, match=r"gatecast\[jetstream\]"):
        async with open_engine("nats://127.0.0.1:1/X"):
            pass
