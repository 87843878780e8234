"""The subjects of one stream: every kind of document has its own, and each subject holds one message, the newest."""

from __future__ import annotations

import base64
import re
from uuid import UUID

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


class Subjects:
    """Names what is stored in the stream `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: The history: its epoch, and the stream that it was recorded in.
        self.history = f"{name}.history"
        #: Every head.
        self.heads = f"{name}.head.*"
        #: Every pod.
        self.pods = f"{name}.pod.*"
        #: How much of each log has been copied, while one is being moved into the stream.
        self.copies = f"{name}.moving.*"
        #: Every log of a deleted gateway.
        self.forgotten_logs = f"{name}.forgotten.*.*"

    def head(self, gateway_id: str) -> str:
        """The end of a gateway's log; names the log."""
        return f"{self.name}.head.{token(gateway_id)}"

    def low_water_mark(self, gateway_id: str) -> str:
        """Up to where retention has removed events."""
        return f"{self.name}.low.{token(gateway_id)}"

    def state(self, gateway_id: str) -> str:
        """The connections and positions of a gateway."""
        return f"{self.name}.state.{token(gateway_id)}"

    def event(self, gateway_id: str, log_id: int, offset: int | str) -> str:
        """One event; `*` means all of the log."""
        return f"{self.name}.event.{token(gateway_id)}.{log_id}.{offset}"

    def event_id(self, gateway_id: str, log_id: int, event_id: UUID | str) -> str:
        """The offset of the event with this id; `*` means all of the log."""
        return f"{self.name}.id.{token(gateway_id)}.{log_id}.{event_id}"

    def applied(self, gateway_id: str, log_id: int, offset: int | str) -> str:
        """The outcomes of one event that was only ever applied; `*` means all of the log."""
        return f"{self.name}.applied.{token(gateway_id)}.{log_id}.{offset}"

    def special(self, gateway_id: str, log_id: int, offset: int | str) -> str:
        """The outcomes of one event that was not simply applied; `*` means all of the log."""
        return f"{self.name}.special.{token(gateway_id)}.{log_id}.{offset}"

    def forgotten(self, gateway_id: str, log_id: int) -> str:
        """The log of a deleted gateway, until its events are removed."""
        return f"{self.name}.forgotten.{token(gateway_id)}.{log_id}"

    def copied(self, gateway_id: str) -> str:
        """How much of the gateway's log has been copied, while it is being moved into the stream."""
        return f"{self.name}.moving.{token(gateway_id)}"

    def claim(self, owner: str) -> str:
        """The newest claim of an owner that registers gateways under claims."""
        return f"{self.name}.claim.{token(owner)}"

    def pod(self, pod_id: str) -> str:
        """A pod and its lease."""
        return f"{self.name}.pod.{token(pod_id)}"

    def seat(self, pod_id: str, token_id: str | None, gateway_id: str) -> str:
        """Notes that the gateway may have a connection to this pod, with this token."""
        return f"{self.name}.seat.{token(pod_id)}.{token(token_id or '')}.{token(gateway_id)}"

    def seats_of_pod(self, pod_id: str) -> str:
        """Every seat at a pod."""
        return f"{self.name}.seat.{token(pod_id)}.*.*"

    def seats_of_token(self, token_id: str) -> str:
        """Every seat that was taken with a token."""
        return f"{self.name}.seat.*.{token(token_id)}.*"

    def call(self, pod_id: str, gateway_id: str) -> str:
        """Notes that the pod may have to disconnect a connection of the gateway."""
        return f"{self.name}.call.{token(pod_id)}.{token(gateway_id)}"

    def calls(self, pod_id: str) -> str:
        """Every such note for a pod."""
        return f"{self.name}.call.{token(pod_id)}.*"


def hints_of_logs(name: str) -> str:
    """Where the server says which gateway's head it has stored; ends in the gateway's token."""
    return f"{name}-hints.log"


def hints_of_pods(name: str) -> str:
    """Where pods send hints to each other."""
    return f"{name}-hints.pods"


def token(text: str) -> str:
    """The text as one token of a subject: as it is, or encoded where that would not be one."""
    if _PLAIN.fullmatch(text):
        return text
    return "=" + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def text_of(subject_token: str) -> str:
    """The text that became this token.

    Raises:
        ValueError: no text becomes this token.
    """
    if not subject_token.startswith("="):
        return subject_token
    encoded = subject_token[1:]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


def last_token(subject: str) -> str:
    """The last token of a subject."""
    return subject.rpartition(".")[2]
