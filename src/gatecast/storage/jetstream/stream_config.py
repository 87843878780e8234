"""How the stream must be set up, so that the promises hold on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatecast.errors import DatabaseUnsuitable
from gatecast.storage.jetstream.subjects import hints_of_logs

#: No event makes a larger message, in bytes: its data have at most 1 MiB.
LARGEST_MESSAGE = 2_000_000


def wanted(name: str, replicas: int) -> dict[str, Any]:
    """The configuration of the stream with this name."""
    return {
        "name": name,
        "description": "Gatecast: event logs, positions and connections. Do not edit.",
        "subjects": [f"{name}.>"],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        # Every subject is one document.
        "max_msgs_per_subject": 1,
        "allow_atomic": True,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "republish": {
            "src": f"{name}.head.*",
            "dest": f"{hints_of_logs(name)}.{{{{wildcard(1)}}}}",
            "headers_only": True,
        },
    }


#: Settings of a stream that make it lose messages, or Gatecast fail, and the values that do not.
_HARMLESS: Mapping[str, tuple[object, ...]] = {
    "storage": ("file",),
    "retention": ("limits",),
    "max_msgs": (-1, None),
    "max_bytes": (-1, None),
    "max_age": (0, None),
    "max_msgs_per_subject": (1,),
    "allow_atomic": (True,),
    "allow_direct": (True,),
    "allow_msg_ttl": (True,),
    "persist_mode": ("default", "", None),
    "no_ack": (False, None),
    "sealed": (False, None),
    "deny_purge": (False, None),
    "mirror": (None,),
}


def check(config: Mapping[str, Any], name: str, replicas: int) -> None:
    """Refuse a stream that is set up otherwise than the promises need.

    Raises:
        DatabaseUnsuitable: says which setting, and what to do.
    """
    expected = wanted(name, replicas)
    harmful = [setting for setting, values in _HARMLESS.items() if config.get(setting) not in values]
    harmful += [setting for setting in ("subjects", "republish") if config.get(setting) != expected[setting]]
    if harmful:
        shown = ", ".join(f"{setting} is {config.get(setting)!r}" for setting in harmful)
        raise DatabaseUnsuitable(
            f"the stream {name} was not made by Gatecast, or was edited: {shown}",
            "name another stream at the end of the URL, or restore these settings",
        )
    if (copies := config.get("num_replicas", 1)) < replicas:
        raise few_copies(name, f"keeps {copies}", replicas)


def check_max_payload(most: int) -> None:
    """Return if every event fits into a message; the server takes messages of up to `most` bytes.

    Raises:
        DatabaseUnsuitable: an event might be accepted by an outbox, and then block its gateway.
    """
    if most < LARGEST_MESSAGE:
        raise DatabaseUnsuitable(
            f"the server's max_payload is {most:,} bytes, and a message with an event has up to {LARGEST_MESSAGE:,}",
            "set max_payload: 2MB on every server of NATS, and let them read their configuration again",
        )


def few_copies(name: str, found: str, replicas: int) -> DatabaseUnsuitable:
    """The error for a stream with fewer copies than the URL asks for."""
    return DatabaseUnsuitable(
        f"the stream {name} {found} of the {replicas} copies that promise P1 needs",
        f"run {replicas} servers as a cluster and edit the stream's replicas, or accept in the URL that one server "
        f"keeps the only copy: ?replicas=1 (then set sync_interval: always on that server)",
    )
