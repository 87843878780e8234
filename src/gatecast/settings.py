"""Every option, with its default, environment variable and meaning: read once, then frozen.

The flag of `poll_interval` is `--poll-interval`, its environment variable `GATECAST_POLL_INTERVAL`. Flags win.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from secrets import token_hex
from typing import Any, TypeAlias

from gatecast.errors import SettingInvalid
from gatecast.hiding import HIDDEN, redacted

PREFIX = "GATECAST_"

#: Variables of ours that are not settings: those of commands that talk to a server, and of the tests.
_NOT_SETTINGS = {"GATECAST_URL", "GATECAST_TOKEN", "GATECAST_TEST_POSTGRES"}

Networks: TypeAlias = "tuple[IPv4Network | IPv6Network, ...]"

#: Variables that Kubernetes sets in every pod for services whose names begin with "gatecast".
_SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


#: The longest duration of a setting: a hundred years.
_LONGEST = timedelta(days=36_500)

_SHORTEST = timedelta(milliseconds=1)

_LARGEST_PORT = 65535

_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class _Kind:
    """How an option's text becomes a value, and which values it may have.

    Both raise a ValueError that continues "must …". The check returns the value as it is kept.
    """

    parse: Callable[[str], Any]
    check: Callable[[Any], Any]


def _option(default: Any, meaning: str, kind: _Kind, *, secret: bool = False) -> Any:  # noqa: ANN401 - as `field`
    metadata = {"meaning": meaning, "kind": kind, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not secret)


def _clean_text(value: object) -> str:
    """The text without blanks and line ends around it, which files and shells add."""
    if not isinstance(value, str):
        raise ValueError("be text")  # noqa: TRY004 - every broken rule is one kind of error
    cleaned = value.strip()
    if not cleaned.isprintable():
        raise ValueError("hold only printable characters")
    return cleaned


def _name(value: object) -> str:
    cleaned = _clean_text(value)
    if not 1 <= len(cleaned) <= _LONGEST_NAME:
        raise ValueError(f"have 1 to {_LONGEST_NAME} characters")
    return cleaned


def _choice(*allowed: str) -> _Kind:
    def check(value: object) -> object:
        if value not in allowed:
            raise ValueError(f"be one of {', '.join(allowed)}")
        return value

    return _Kind(str, check)


def _parse_switch(value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError("be one of on, off")
    return value == "on"


def _check_switch(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("be True or False")  # noqa: TRY004 - every broken rule is one kind of error
    return value


#: Shortest retention of a log that an outbox feeds: many times as long as a forwarder may stand still.
_SHORTEST_BEHIND_OUTBOX = timedelta(minutes=1)


def _parse_count(value: str) -> int:
    return int(value) if re.fullmatch(r"[0-9]{1,10}", value) else 0


def _check_count(value: object) -> object:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10**9:
        raise ValueError("be a whole number from 1 to 1,000,000,000")
    return value


def parse_duration(value: str) -> timedelta:
    """`250ms`, `30s`, `5m`, `12h`, `7d`, or plain seconds.

    Raises:
        ValueError: it is none of these; the text continues "must …".
    """
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise ValueError("be a duration like 250ms, 30s, 5m, 12h or 7d")
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError("be shorter") from None


def _check_duration(value: object) -> timedelta:
    if not isinstance(value, timedelta):
        raise ValueError("be a timedelta")  # noqa: TRY004 - every broken rule is one kind of error
    if value < timedelta(0):
        raise ValueError("not be negative")
    if value > _LONGEST:
        raise ValueError(f"be shorter, at most {_LONGEST.days}d")
    return value


def _check_positive(value: object) -> timedelta:
    duration = _check_duration(value)
    if duration < _SHORTEST:
        raise ValueError("be longer than zero, at least 1ms")
    return duration


def _address(value: object) -> str:
    cleaned = _clean_text(value)
    host, _, port = cleaned.rpartition(":")
    if not (host and re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= _LARGEST_PORT):
        raise ValueError("be written host:port")
    return cleaned


_NETWORKS_RULE = "be addresses or networks like 10.0.0.0/8, separated by commas"


def _parse_networks(value: str) -> Networks:
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError(_NETWORKS_RULE) from None


def _check_networks(value: object) -> object:
    if not isinstance(value, tuple) or not all(isinstance(each, IPv4Network | IPv6Network) for each in value):
        raise ValueError(_NETWORKS_RULE)
    return value


#: Shortest secret that an operator may choose, in characters: a shorter one can be guessed.
SHORTEST_TOKEN = 16


def _token(value: object) -> str:
    cleaned = _clean_text(value)
    if cleaned and len(cleaned) < SHORTEST_TOKEN:
        raise ValueError(
            f"have at least {SHORTEST_TOKEN} characters, like the output of `openssl rand -base64 24`, or be left out"
        )
    return cleaned


_TEXT = _Kind(str, _clean_text)
_TOKEN = _Kind(str, _token)
_NAME = _Kind(str, _name)
_SWITCH = _Kind(_parse_switch, _check_switch)
_COUNT = _Kind(_parse_count, _check_count)
_DURATION_KIND = _Kind(parse_duration, _check_duration)
_POSITIVE = _Kind(parse_duration, _check_positive)
_ADDRESS = _Kind(str, _address)
_NETWORKS = _Kind(_parse_networks, _check_networks)


def _default_pod_id() -> str:
    return f"{socket.gethostname()}-{token_hex(3)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a running Gatecast. Values are checked, wherever they come from.

    Raises:
        SettingInvalid: a value cannot be used; names it.
    """

    #: Where events and resources are stored.
    database: str = _option(
        "sqlite:///gatecast.db",
        "sqlite:///file, postgresql://…, postgresql+embedded:///folder, or, with an outbox, nats://…",
        _TEXT,
        secret=True,
    )
    outbox: str = _option(
        "",
        "the SQL database with tables and changes, if the events are elsewhere; it carries them there (an outbox)",
        _TEXT,
        secret=True,
    )
    api_listen: str = _option("127.0.0.1:8080", "address of the admin API and the console", _ADDRESS)
    gateway_listen: str = _option("127.0.0.1:9243", "address that gateways connect to", _ADDRESS)
    gateway_tls: str = _option(
        "auto", "auto (self-signed certificate), off (behind a proxy that terminates TLS), or a certificate file", _TEXT
    )
    gateway_tls_key: str = _option("", "private key file that belongs to the certificate file", _TEXT)
    admin_token: str = _option(
        "",
        "bearer token of the default organization; if empty, the first pod creates one and prints it once",
        _TOKEN,
        secret=True,
    )
    metrics_token: str = _option(
        "", "bearer token that /metrics requires; if empty, anyone may read the metrics", _TOKEN, secret=True
    )
    secret_key: str = _option(
        "",
        "key that encrypts artifacts, 32 bytes in base64; if empty, created beside a database on this machine",
        _TEXT,
        secret=True,
    )
    pod_id: str = _option(_default_pod_id, "name of this pod, unique among running pods", _NAME)
    migrate: str = _option(
        "auto",
        "when a pod migrates the schema: auto (only an empty database), always, or never",
        _choice("auto", "always", "never"),
    )
    notifications: bool = _option(
        default=True, meaning="on: the database wakes pods; off: pods only poll", kind=_SWITCH
    )
    pooler: str = _option(
        "auto",
        "whether PostgreSQL is behind a pooler such as PgBouncer: auto (recognized), on or off",
        _choice("auto", "on", "off"),
    )
    poll_interval: timedelta = _option(
        timedelta(milliseconds=500), "longest time between two reads of the log", _POSITIVE
    )
    retention: timedelta = _option(
        timedelta(days=7), "confirmed events, and their ids, are kept this long", _DURATION_KIND
    )
    retention_limit: timedelta = _option(
        timedelta(days=30), "unconfirmed events are kept this long; after that, gateways resynchronize", _POSITIVE
    )
    retention_events: int = _option(1_000_000, "longest log of one gateway, in events", _COUNT)
    drain_time: timedelta = _option(
        timedelta(seconds=20),
        "longest orderly shutdown; gateways are disconnected over half of it, ports stay open for a quarter of it",
        _POSITIVE,
    )
    max_connections: int = _option(10_000, "gateway connections to this pod", _COUNT)
    max_connections_per_gateway: int = _option(10, "connections of one gateway to this pod", _COUNT)
    max_connections_per_address: int = _option(5_000, "gateway connections from one address to this pod", _COUNT)
    max_api_connections: int = _option(1_000, "connections to the admin API of this pod", _COUNT)
    connect_rate: int = _option(
        6_000, "connection attempts per minute from one address, good or bad; at the API, bad tokens", _COUNT
    )
    trusted_proxies: Networks = _option(
        (), "proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted", _NETWORKS
    )
    oidc_issuer: str = _option("", "issuer whose JWTs are accepted by the admin API", _TEXT)
    oidc_audience: str = _option("", "audience that those JWTs must carry", _TEXT)
    oidc_organization_claim: str = _option("organization", "claim of those JWTs that names the organization", _TEXT)
    oidc_role_claim: str = _option(
        "", "claim of those JWTs that holds admin or viewer, alone or in a list; if empty, all are admins", _TEXT
    )
    oidc_client_id: str = _option(
        "", "what the issuer calls this console; people can log in through the issuer once it is set", _TEXT
    )
    oidc_client_secret: str = _option(
        "", "its secret, where the issuer asks for one beside the proof of PKCE", _TEXT, secret=True
    )
    probe: bool = _option(
        False,  # noqa: FBT003 - what it is stands right before it
        "on: every 3 seconds this pod publishes a hidden event to the next pod, to measure whether and when it arrives",
        _SWITCH,
    )
    log_format: str = _option("text", "text for people, json for machines", _choice("text", "json"))
    traces: str = _option("", "where spans go: an OTLP endpoint (HTTP) such as http://collector:4318/v1/traces", _TEXT)
    access_log: bool = _option(
        False,  # noqa: FBT003 - what it is stands right before it
        "whether each answer of both listeners is logged in a line: on or off",
        _SWITCH,
    )

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, **flags: str | None) -> Settings:
        """The settings from flags, else from the environment, else their defaults.

        Raises:
            SettingInvalid: a value cannot be used; names it.
        """
        environment = os.environ if environment is None else environment
        _refuse_unknown(environment)
        given: dict[str, Any] = {}
        for option in fields(cls):
            text = flags.get(option.name)
            text = environment.get(variable(option.name)) if text is None else text
            if text is not None:
                given[option.name] = _parse(option.name, text, option.metadata)
        return cls(**given)

    def check_for_pod(self) -> None:
        """Return if a pod can have these settings.

        Raises:
            SettingInvalid: there is no database for its tables, or one too many; or it should probe with an outbox.
        """
        if self.is_on_stream and not self.outbox:
            rule = "name the SQL database for the pod's tables, like postgresql://…: NATS JetStream keeps events only"
            raise SettingInvalid(variable("outbox"), "", rule)
        if self.outbox and not self.is_on_stream:
            rule = "be empty for a pod whose events are in an SQL database: it keeps its tables beside them"
            raise SettingInvalid(variable("outbox"), HIDDEN, rule)
        if self.outbox and self.probe:
            raise SettingInvalid(variable("probe"), "on", "be off with an outbox: it goes by offsets, which come later")

    @property
    def is_on_stream(self) -> bool:
        """Whether the log is on NATS JetStream, which keeps no tables."""
        return self.database.startswith("nats://")

    @property
    def tables(self) -> str:
        """The URL of the SQL database with the tables of a pod."""
        return self.outbox or self.database

    def check_for_outbox(self) -> None:
        """Return if a hub with an outbox can have these settings.

        Raises:
            SettingInvalid: the log does not keep ids long enough to recognize events that are forwarded again.
        """
        if self.retention < _SHORTEST_BEHIND_OUTBOX:
            rule = "be at least 1m with an outbox: after a lost answer, the log recognizes events by the ids it keeps"
            raise SettingInvalid(variable("retention"), show(self.retention), rule)

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            with _refusing(option.name, value, option.metadata):
                object.__setattr__(self, option.name, option.metadata["kind"].check(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionDescription:
    """One option, as `gatecast settings` prints it."""

    name: str
    variable: str
    flag: str
    meaning: str
    secret: bool


def descriptions() -> list[OptionDescription]:
    """Every option, in the order of `Settings`."""
    return [
        OptionDescription(
            name=option.name,
            variable=variable(option.name),
            flag=f"--{option.name.replace('_', '-')}",
            meaning=option.metadata["meaning"],
            secret=option.metadata["secret"],
        )
        for option in fields(Settings)
    ]


def variable(name: str) -> str:
    """The environment variable of an option."""
    return PREFIX + name.upper()


def show(value: object) -> str:
    """A setting's value as a person would write it."""
    match value:
        case bool():
            return "on" if value else "off"
        case timedelta():
            return _show_duration(value)
        case tuple():
            return ", ".join(map(str, value))
        case _:
            return redacted(str(value))


def _show_duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds * 1000:.15g}ms"


def _parse(name: str, text: str, metadata: Mapping[str, Any]) -> object:
    with _refusing(name, text, metadata):
        return metadata["kind"].parse(text.strip())


@contextmanager
def _refusing(name: str, value: object, metadata: Mapping[str, Any]) -> Iterator[None]:
    """An error raised in this block names the option, and its value unless that is a secret."""
    try:
        yield
    except ValueError as problem:
        shown = HIDDEN if metadata["secret"] else redacted(show(value))
        raise SettingInvalid(variable(name), shown, str(problem)) from None


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """Refuse unknown variables: a misspelt one would silently do nothing."""
    known = {variable(option.name) for option in fields(Settings)} | _NOT_SETTINGS
    for name in environment:
        if name.startswith(PREFIX) and name not in known and not _SERVICE_LINK.fullmatch(name):
            raise SettingInvalid(name, HIDDEN, "be one of the settings that `gatecast settings` lists")
