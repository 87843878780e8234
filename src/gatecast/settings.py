"""Every option, with its default, environment variable and meaning: read once, then frozen.

The flag of `poll_interval` is `--poll-interval`, its environment variable `GATECAST_POLL_INTERVAL`. Flags win.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from secrets import token_hex
from typing import Any, TypeAlias

from gatecast.errors import SettingInvalid

PREFIX = "GATECAST_"

Networks: TypeAlias = "tuple[IPv4Network | IPv6Network, ...]"

#: What Kubernetes tells every pod of services whose names begin with "gatecast".
_SERVICE_LINK = re.compile(r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
_UNITS = {"ms": 0.001, None: 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _option(default: Any, meaning: str, parse: Callable[[str], Any], *, secret: bool = False) -> Any:  # noqa: ANN401 - as `field`
    metadata = {"meaning": meaning, "parse": parse, "secret": secret}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata, repr=not secret)


def _text(value: str) -> str:
    return value


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"be one of {', '.join(allowed)}")
        return value

    return parse


def _switch(value: str) -> bool:
    return _choice("on", "off")(value) == "on"


def _count(value: str) -> int:
    if not value.isdigit() or not 1 <= int(value) <= 10**9:
        raise ValueError("be a whole number from 1 to 1,000,000,000")
    return int(value)


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


def _positive(value: str) -> timedelta:
    duration = parse_duration(value)
    if not duration:
        raise ValueError("be longer than zero")
    return duration


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) <= 65535):  # noqa: PLR2004 - the largest port
        raise ValueError("be written host:port")
    return value


def _networks(value: str) -> Networks:
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in value.split(",") if part.strip())
    except ValueError:
        raise ValueError("be addresses or networks like 10.0.0.0/8, separated by commas") from None


def _default_pod_id() -> str:
    return f"{socket.gethostname()}-{token_hex(3)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a running Gatecast was told."""

    #: Where events and resources are stored.
    database: str = _option(
        "sqlite:///gatecast.db",
        "sqlite:///file, postgresql://…, or postgresql+embedded:///folder",
        _text,
        secret=True,
    )
    api_listen: str = _option("127.0.0.1:8080", "address of the admin API and the console", _address)
    gateway_listen: str = _option("127.0.0.1:9243", "address that gateways connect to", _address)
    gateway_tls: str = _option(
        "auto", "auto (self-made certificate), off (behind a proxy that ends TLS), or a certificate file", _text
    )
    gateway_tls_key: str = _option("", "private key file that belongs to the certificate file", _text)
    admin_token: str = _option(
        "", "bearer token of the default organization; made and printed once when empty", _text, secret=True
    )
    secret_key: str = _option(
        "",
        "encrypts what is stored of artifacts: 32 bytes in base64; made beside a database on this machine when empty",
        _text,
        secret=True,
    )
    pod_id: str = _option(_default_pod_id, "name of this replica, unique among those that run", _text)
    migrate: str = _option(
        "auto", "auto (only an empty database), always, or never", _choice("auto", "always", "never")
    )
    notifications: bool = _option(
        default=True, meaning="on: the database wakes other pods; off: polling alone does", parse=_switch
    )
    poll_interval: timedelta = _option(
        timedelta(milliseconds=500), "longest time between two looks at the log", _positive
    )
    retention: timedelta = _option(
        timedelta(days=7), "confirmed events, and their ids, are kept this long", parse_duration
    )
    retention_limit: timedelta = _option(
        timedelta(days=30), "unconfirmed events are kept this long; then gateways resynchronize", _positive
    )
    retention_events: int = _option(1_000_000, "longest log of one gateway, in events", _count)
    drain_time: timedelta = _option(
        timedelta(seconds=20),
        "longest orderly shutdown; gateways leave over half of it, ports stay open for a quarter of it",
        _positive,
    )
    max_connections: int = _option(10_000, "gateway connections to this pod", _count)
    max_connections_per_gateway: int = _option(10, "connections of one gateway to this pod", _count)
    max_connections_per_address: int = _option(5_000, "gateway connections from one address to this pod", _count)
    max_api_connections: int = _option(1_000, "connections to the admin API of this pod", _count)
    connect_rate: int = _option(6_000, "connection attempts per minute from one address, good or bad", _count)
    trusted_proxies: Networks = _option(
        (), "proxies whose X-Forwarded-For and X-Forwarded-Proto are believed", _networks
    )
    oidc_issuer: str = _option("", "issuer whose JWTs are accepted by the admin API", _text)
    oidc_audience: str = _option("", "audience that those JWTs must carry", _text)
    oidc_organization_claim: str = _option("organization", "claim of those JWTs that names the organization", _text)
    oidc_role_claim: str = _option(
        "", "claim of those JWTs that holds admin or viewer, alone or in a list; empty: all are admins", _text
    )
    log_format: str = _option("text", "text for people, json for machines", _choice("text", "json"))

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
            return str(value)


def _show_duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds and seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds * 1000:.15g}ms"


def _parse(name: str, text: str, metadata: Mapping[str, Any]) -> object:
    try:
        return metadata["parse"](text)
    except ValueError as problem:
        shown = "(hidden)" if metadata["secret"] else text
        raise SettingInvalid(variable(name), shown, str(problem)) from None


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    """A misspelt variable would silently do nothing."""
    known = {variable(option.name) for option in fields(Settings)} | {"GATECAST_URL", "GATECAST_TOKEN"}
    for name in environment:
        if name.startswith(PREFIX) and name not in known and not _SERVICE_LINK.fullmatch(name):
            raise SettingInvalid(name, "(hidden)", "be one of the settings that `gatecast settings` lists")
