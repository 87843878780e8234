"""The commands that look at, or prepare, a stream and the database beside it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from gatecast.cli.main import app
from gatecast.errors import DatabaseUnsuitable

pytestmark = pytest.mark.slow

_NOBODY = ("--api-listen", "127.0.0.1:9", "--gateway-listen", "127.0.0.1:9")


def _json(*arguments: str) -> Any:  # noqa: ANN401 - JSON
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_both_are_prepared_and_looked_at(stream_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    outbox = f"sqlite:///{tmp_path_factory.mktemp('outbox')}/pods.db"
    where = ("--database", stream_url, "--outbox", outbox)

    def findings() -> dict[str, tuple[str, str]]:
        found = _json("doctor", *where, *_NOBODY)["findings"]
        return {each["check"]: (each["state"], each["message"]) for each in found}

    assert findings()["stream"] == ("warning", "there is none yet")
    applied = _json("migrate", *where)["applied"]
    assert {1, 1001, 2001, 2004}.issubset(applied)
    assert _json("migrate", *where) == {"applied": []}
    after = findings()
    assert after["stream"][0] == "warning", "one copy is one disk"
    assert "1 copy" in after["stream"][1]
    assert (after["schema"][0], after["database"][0]) == ("ok", "ok")
    made = _json("admin-token", "create", *where)
    assert [each["id"] for each in _json("admin-token", "list", *where)] == [made["id"]]
    epoch = _json("epoch", "show", "--database", stream_url)["epoch"]
    assert _json("epoch", "renew", "--database", stream_url)["before"] == epoch
    with pytest.raises(DatabaseUnsuitable, match="gatecast epoch renew --database nats://"):
        _json("epoch", "renew", "--database", outbox)


def test_a_stream_alone_holds_no_pods(stream_url: str) -> None:
    found = {each["check"]: each for each in _json("doctor", "--database", stream_url, *_NOBODY)["findings"]}
    assert found["database"]["state"] == "problem"
    assert "GATECAST_OUTBOX must name the SQL database" in found["database"]["message"]
