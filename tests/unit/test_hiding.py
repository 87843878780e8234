"""Secrets: a planted password comes out of no door, however the text that holds it is malformed."""

from __future__ import annotations

import asyncio
import io
import logging
import string
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from gatecast import EventHub, Settings
from gatecast.cli.databases import temporary_database
from gatecast.cli.main import app
from gatecast.cli.remote import Remote
from gatecast.client.endpoint import server_url
from gatecast.errors import GatecastError, SettingInvalid, StorageUnavailable, shorten
from gatecast.hiding import may_hold_secret, redacted
from gatecast.storage.connect import open_storage
from gatecast.telemetry import configure_logs, get_logger

#: The planted one. Nothing else holds it.
_SECRET = "hunter2"

_COMMANDS = typer.main.get_command(app)

#: Where passwords stand in URLs, and in what people take for URLs. Port 1 refuses every connection.
_FORMS = [
    "postgresql://me:{}@127.0.0.1:1/db",
    "postgres://me:{}@127.0.0.1:1/db?sslmode=disable",
    "postgresql://127.0.0.1:1/db?user=me&password={}",
    "postgresql://127.0.0.1:1/db?sslmode={}",
    "postgresql://127.0.0.1:1/db?target_session_attrs={}",
    "postgresql://127.0.0.1:1/db?port={}",
    "postgresql://me:x/{}@127.0.0.1:1/db",
    "postgresql://me:x#{}@127.0.0.1:1/db",
    "postgresql://me:x?{}@127.0.0.1:1/db",
    "postgresql://me:1?a={}@127.0.0.1:1/db",
    "postgresql://me:1/{}@127.0.0.1:1/db",
    "postgresql://me:x@{}@127.0.0.1:1/db",
    "postgresql://me:{}@127.0.0.1:99999/db",
    "postgresql://me:{}@127.0.0.1:one/db",
    "postgresql://me:{}@[127.0.0.1/db",
    "postgresql://me:{}%ZZ@127.0.0.1:1/db",
    "postgresql:/me:{}@127.0.0.1:1/db",
    "postgresql:me:{}@127.0.0.1:1/db",
    "postgresql+asyncpg://me:{}@127.0.0.1:1/db",
    "postgresql+psycopg2://me:{}@127.0.0.1:1/db",
    "postgresql+embedded://me:{}@127.0.0.1:1/db",
    "POSTGRESQL+ASYNCPG://me:{}@127.0.0.1:1/db",
    "jdbc:postgresql://127.0.0.1:1/db?user=me&password={}",
    "jdbc:postgresql:db?user=me&password={}",
    "jdbc:{}",
    "host=127.0.0.1 port=1 dbname=db user=me password={}",
    "password='{}' host=127.0.0.1",
    "mysql://me:{}@127.0.0.1:1/db",
    "sqlite://me:{}@folder/file.db",
    "sqlite:///nowhere/that/is/file.db?password={}",
    "me:{}@127.0.0.1:1/db",
    "{}",
    " \n{}\t",
    "://{}@",
]

_AROUND = st.text(st.sampled_from(string.punctuation + " \t\n%40é0"), max_size=4)


@st.composite
def _urls(draw: st.DrawFn) -> str:
    """One of the forms, with characters around the password that have a meaning in URLs."""
    planted = f"{draw(_AROUND)}{_SECRET}{draw(_AROUND)}"
    return draw(st.sampled_from(_FORMS)).format(planted)


def _told(open_door: Callable[[], object]) -> str:
    """What a door says, and what a log or a traceback would show of it."""
    said = io.StringIO()
    with redirect_stderr(said):
        configure_logs(format_name="json", pod_id="", level=logging.DEBUG)
        try:
            open_door()
        except GatecastError as error:
            said.write(f"{error} {error!r} {''.join(traceback.format_exception(error))}")
            get_logger("test").exception("failed", problem=str(error))
    return said.getvalue()


async def _open_hub(url: str) -> None:
    async with EventHub.open(url):
        pass


async def _open_storage(url: str) -> None:
    async with open_storage(url) as opened:
        await opened.storage.database.ping()


async def _take_for_a_target(url: str) -> None:
    async with temporary_database(url):
        pass


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some forms name a file."""
    monkeypatch.chdir(str(tmp_path))


@given(_urls())
def test_no_library_door_repeats_a_password(url: str) -> None:
    for door in (_open_hub, _open_storage, _take_for_a_target):
        assert _SECRET not in _told(lambda door=door: asyncio.run(door(url)))  # type: ignore[misc]
    with suppress(SettingInvalid):
        assert _SECRET not in repr(Settings(database=url))


def _said(*arguments: str) -> str:
    """Everything that a command prints, and what Python would print of an error that nobody caught."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            _COMMANDS.main(list(arguments), prog_name="gatecast")
        except SystemExit:
            pass
        except GatecastError as error:
            said.write("".join(traceback.format_exception(error)))
    return said.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in _FORMS if form.strip() != "{}"])
def test_no_command_repeats_a_password(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given as a flag, as an argument that there is none for, or in the environment."""
    url = form.format(_SECRET)
    for command in (("migrate",), ("epoch", "show"), ("admin-token", "list"), ("reseal",)):
        assert _SECRET not in _said(*command, f"--database={url}"), command
    if "@" in url:
        assert _SECRET not in _said(url)
    assert _SECRET not in _said("migrate", "--", url)
    monkeypatch.setenv("GATECAST_DATABASE", url)
    for command in (("settings",), ("settings", "--json"), ("migrate",)):
        assert _SECRET not in _said(*command), command


@pytest.mark.slow
def test_what_starts_pods_repeats_no_password() -> None:
    for url in ("postgresql://me:hunter2@127.0.0.1:1/db", "host=127.0.0.1 user=me password=hunter2"):
        for command in (("demo", "--once"), ("verify", "--local")):
            said = _said(*command, "--database", url)
            assert "Connect call failed" in said or "not as key=value" in said, command
            assert _SECRET not in said, command


@settings(max_examples=min(40, settings().max_examples))
@given(_urls())
def test_the_url_of_a_server_is_told_without_its_user(url: str) -> None:
    for door in (lambda: Remote(url, "a-token").request("GET", "/api/v1/gateways"), lambda: str(server_url(url))):
        told = _told(door)
        assert _SECRET not in told or "@" not in url


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql+asyncpg://me:hunter2@db/x", "without the name of a driver"),
        ("postgresql+psycopg://me:hunter2@db/x", "without the name of a driver"),
        ("jdbc:postgresql://db/x?user=me&password=hunter2", "without `jdbc:`"),
        ("host=db user=me password=hunter2", "not as key=value"),
        ("postgresql://me:hunter#2@db/x", "percent-encoded"),
        ("sqlite+aiosqlite:///file.db", "sqlite:///file.db"),
        ("sqlite://file.db", "sqlite:///file.db"),
        ("sqlite:///:memory:", "sqlite:///file.db"),
        ("mysql://me:hunter2@db/x", "begin with"),
    ],
)
async def test_what_other_tools_write_gets_advice(url: str, advice: str) -> None:
    with pytest.raises(SettingInvalid, match=advice):
        await _open_storage(url)


@pytest.mark.parametrize("blanks", ["{}\n", " {} ", "\t{}\r\n"])
def test_settings_are_trimmed(blanks: str) -> None:
    """A token from a file ends on a line end; nobody could log in with that."""
    for made in (
        Settings(admin_token=blanks.format("a-token-that-is-long"), database=blanks.format("sqlite:///x.db")),
        Settings.read({"GATECAST_ADMIN_TOKEN": blanks.format("a-token-that-is-long")}, database="sqlite:///x.db"),
    ):
        assert made.admin_token == "a-token-that-is-long"
        assert made.database == "sqlite:///x.db"


@pytest.mark.parametrize("name", ["admin_token", "secret_key", "database", "gateway_tls_key", "oidc_audience"])
def test_line_ends_inside_a_setting_are_refused_unseen(name: str) -> None:
    content = f"-----BEGIN PRIVATE KEY-----\n{_SECRET}\n"
    values: dict[str, Any] = {name: content}
    with pytest.raises(SettingInvalid, match="printable") as flag:
        Settings.read({}, **values)
    with pytest.raises(SettingInvalid, match="printable") as value:
        Settings(**values)
    assert _SECRET not in f"{flag.value} {flag.value!r} {value.value} {value.value!r}"


def test_texts_of_others_are_shown_without_secrets() -> None:
    for text in (
        "cannot reach http://me:hunter2@proxy:80/x",
        "password=hunter2",
        "Authorization: Bearer hunter2hunter2",
        "-----BEGIN PRIVATE KEY-----\nhunter2",
        "host=db password = 'hunter2 hunter2'",
    ):
        assert _SECRET not in redacted(text) + shorten(text) + str(StorageUnavailable(text))
    assert redacted("connect call failed ('127.0.0.1', 5432)") == "connect call failed ('127.0.0.1', 5432)"


@pytest.mark.parametrize(
    "text",
    [
        "PassWord=hunter2",
        "TOKEN = hunter2",
        "my secret=hunter2",
        "BEARER hunter2hunter2",
        "bASIC hunter2hunter2",
        # Patterns that ignore case take these letters for an s and a k, and so must what decides whether to look.
        "pa\N{LATIN SMALL LETTER LONG S}sword=hunter2",
        "to\N{KELVIN SIGN}en=hunter2",
    ],
)
def test_a_secret_is_hidden_however_the_word_before_it_is_written(text: str) -> None:
    assert may_hold_secret(text)
    assert _SECRET not in redacted(f"cannot connect: {text}")
    assert not may_hold_secret("connected gateway=edge-1 start=0:12")


@pytest.mark.parametrize(
    "unit", ["x", ":", "a:", "://", "a:b", "password='", "token=", "bearer ", "@", ":@", " ", "://\n"]
)
def test_however_long_a_text_is_hiding_takes_no_longer_than_reading_it(unit: str) -> None:
    """What takes the square of the length takes hours here: one request once stopped a pod so."""
    text = unit * (2**20 // len(unit))
    assert len(redacted(text)) <= 4 * len(text)
    assert len(shorten(text)) <= 80
    assert len(shorten(text.encode())) <= 80


def test_what_python_cannot_write_is_shown_as_what_it_is() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shorten(10**5_000) == "(int: too large to show)"
    assert shorten(deep) == "(list: too large to show)"
