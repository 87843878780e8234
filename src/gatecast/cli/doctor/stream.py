"""The doctor's checks of the stream, if events are on NATS JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatecast.cli.doctor.findings import Finding, ok, problem, warning
from gatecast.errors import DatabaseUnsuitable, GatecastError, SettingInvalid
from gatecast.settings import Settings
from gatecast.storage.connect import stream_facts

if TYPE_CHECKING:
    from gatecast.storage.jetstream import StreamFacts


async def look_at_stream(settings: Settings) -> list[Finding]:
    """Whether pods can keep events there; nothing if they are in an SQL database."""
    if not settings.is_on_stream:
        return []
    try:
        return [_shown(await stream_facts(settings.database))]
    except SettingInvalid as error:
        return [problem("stream", str(error), "correct GATECAST_DATABASE")]
    except DatabaseUnsuitable as error:
        return [problem("stream", error.problem, error.remedy)]
    except GatecastError as error:
        return [problem("stream", str(error), "check the addresses in GATECAST_DATABASE, and that JetStream is on")]


def _shown(facts: StreamFacts | None) -> Finding:
    if facts is None:
        return warning("stream", "there is none yet", "`gatecast migrate` makes it, or the first pod that starts")
    copies = "1 copy" if facts.copies == 1 else f"{facts.copies} copies"
    said = f"{facts.name}, {copies}, {facts.messages:,} messages"
    if facts.copies == 1:
        advice = "run three servers; with one, set sync_interval: always, and keep its disk"
        return warning("stream", said, advice)
    return ok("stream", f"{said}; it cannot be seen whether the servers have sync_interval: always")
