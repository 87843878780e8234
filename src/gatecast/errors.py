"""Every error that Gatecast raises, as one tree.

::

    GatecastError
    ├── InvalidValue            a value breaks a rule: names the field, the value, the limit
    │   ├── UnsupportedBody     a request's body is of another media type than JSON, or encoded
    │   └── PayloadTooLarge     an event's data is larger than 1 MiB once encoded
    ├── UnknownGateway          the gateway is not registered, or was deleted
    ├── PositionPending         the event waits in the outbox: it has no offset yet
    ├── EventNotForwarded       the event is in neither the outbox nor the log
    ├── PositionLost            a position cannot be resumed: resynchronize
    ├── SubscriptionClosed      the hub ended this subscription
    ├── Overloaded              a bounded queue is full: try again later
    ├── EventUndeliverable      an event cannot be read or sent: its log waits until it is repaired or skipped
    ├── StorageError
    │   ├── StorageUnavailable  the database cannot be reached now: nothing is known to be stored
    │   │   ├── LogHeld         another transaction holds the log: nothing was stored
    │   │   └── RepeatUncertain it is unknown whether an event was published before: nothing was stored
    │   ├── StatementFailed     the database refused this one statement: nothing of it was stored
    │   │   └── ValueRefused    the database cannot hold one of the values
    │   ├── SchemaMissing       the database lacks the schema, or its newest part
    │   ├── SchemaTooNew        a newer release migrated the database
    │   ├── DatabaseUnsuitable  the database or its role cannot be used as it is: says what to change
    │   └── TransactionUnusable the object given as `transaction` cannot carry a publish
    ├── HubClosed               the hub was closed, or never opened
    ├── InvariantBroken         something that must always hold does not: the pod ends
    ├── SettingInvalid          a setting cannot be used: names the setting, its value, and what is allowed
    ├── ProtocolViolation       the peer broke the gateway protocol
    ├── ServerUnavailable       a server did not answer, or answered "not now", at every attempt
    └── ControlPlaneError
        ├── NotFound            no such resource in the caller's organization
        ├── Conflict            the change contradicts what is stored
        │   └── LimitReached    a counted limit is used up
        ├── SecretKeyMissing    data cannot be encrypted: the key is not set
        ├── StoredByNewerRelease a newer release stored what this one does not know
        ├── StaleWrite          the resource changed since the caller read it
        ├── Unauthenticated     no valid credential
        ├── TooManyAttempts     too many bad credentials came from one address
        ├── IssuerUnavailable   the issuer of a token cannot be asked for its keys
        └── Forbidden           the credential does not allow this

Data is in fields, so that callers decide by type and field; the text is for people. Errors can be pickled and copied,
as pools of processes do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from gatecast.hiding import HIDDEN, redacted

if TYPE_CHECKING:
    from uuid import UUID

    from gatecast.events import Position

_SHOWN_VALUE_LENGTH = 80

#: Number of characters of a value that are searched for secrets; the rest is not shown.
_SEARCHED_LENGTH = 20_000


def shorten(value: object) -> str:
    """A value's `repr`, at most 80 characters long and without secrets: safe to put into a message."""
    try:
        text = repr(value[:_SEARCHED_LENGTH] if isinstance(value, str | bytes) else value)
    except (ValueError, RecursionError):
        # A number with more digits than Python prints, or a value nested too deep.
        text = f"({type(value).__name__}: too large to show)"
    text = redacted(text[:_SEARCHED_LENGTH])
    return text if len(text) <= _SHOWN_VALUE_LENGTH else f"{text[: _SHOWN_VALUE_LENGTH - 1]}…"


def _got(value: object) -> str:
    return "" if value == HIDDEN else f"; got {shorten(value)}"


class GatecastError(Exception):
    """The base of every error raised by this package."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), *self.args), vars(self)


def _remade(kind: type[GatecastError], *arguments: object) -> GatecastError:
    """Without `__init__`: the pickled state follows and holds what it would need."""
    return kind.__new__(kind, *arguments)


@dataclass(eq=False, repr=False)
class InvalidValue(GatecastError, ValueError):
    """A value breaks a rule."""

    #: The field at fault, as the caller spells it.
    field: str
    #: The refused value.
    value: object
    #: What is allowed, as a phrase that continues "must …".
    rule: str
    #: The other mistakes in the same object.
    also: tuple[InvalidValue, ...] = dataclasses.field(default=(), init=False)

    def __str__(self) -> str:
        return "; ".join([f"{self.field} must {self.rule}{_got(self.value)}", *map(str, self.also)])


class Mistakes:
    """Collects every mistake in an object, so that one error reports them all."""

    def __init__(self) -> None:
        self._found: list[InvalidValue] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note an InvalidValue that the block raises, and continue."""
        try:
            yield
        except InvalidValue as mistake:
            self.note(mistake)

    def note(self, mistake: InvalidValue) -> None:
        """Add one mistake."""
        self._found.append(mistake)

    def raise_any(self) -> None:
        """Raise the first one, which names the others.

        Raises:
            InvalidValue: there was a mistake.
        """
        if self._found:
            first, *others = self._found
            first.also = tuple(others)
            raise first


class UnsupportedBody(InvalidValue):
    """The body of a request has an unsupported form; `field` is the header that names it."""


class PayloadTooLarge(InvalidValue):
    """An event's data is larger than the limit once it is encoded as JSON."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__("data", size, f"be at most {limit:,} bytes of JSON")
        #: Size of the encoded data, in bytes.
        self.size = size
        #: The limit, in bytes.
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"data must be at most {self.limit:,} bytes of JSON; it is {self.size:,} bytes. "
            "Store large content elsewhere and send a reference to it"
        )


@dataclass(eq=False, repr=False)
class UnknownGateway(GatecastError, LookupError):
    """The gateway is not registered, or was deleted; nothing was stored."""

    #: The unknown id.
    gateway_id: str

    def __str__(self) -> str:
        return f"gateway {shorten(self.gateway_id)} is not registered; register it before publishing to it"


@dataclass(eq=False, repr=False)
class PositionPending(GatecastError):
    """The event waits in the outbox, so its offset is not known yet."""

    #: The gateway whose log will hold the event.
    gateway_id: str
    #: The event's id.
    event_id: UUID

    def __str__(self) -> str:
        return (
            f"event {self.event_id} waits in the outbox and has no offset yet; "
            "after the commit: position = await hub.outbox.wait_until_forwarded(position)"
        )


@dataclass(eq=False, repr=False)
class EventNotForwarded(GatecastError, LookupError):
    """The event is in neither the outbox nor its gateway's log, so that waiting for it would never end."""

    #: The gateway that it was published to.
    gateway_id: str
    #: The event's id.
    event_id: UUID

    def __str__(self) -> str:
        return (
            f"event {self.event_id} is in neither the outbox nor the log of gateway {shorten(self.gateway_id)}: its "
            "transaction has not committed, an operator has left it out, its gateway was deleted, or retention has "
            "removed it"
        )


@dataclass(eq=False, repr=False)
class PositionLost(GatecastError):
    """A position cannot be resumed; the consumer must read the desired state again (promise P6)."""

    #: `retention`, `epoch`, `ahead` or `parked`.
    reason: str
    _: KW_ONLY
    #: Where delivery continues once the consumer has resynchronized.
    resume_from: Position

    def __str__(self) -> str:
        return f"the position cannot be resumed ({self.reason}); resynchronize, then continue from {self.resume_from}"


@dataclass(eq=False, repr=False)
class EventUndeliverable(GatecastError):
    """An event of the log cannot be read or sent; no later event is delivered until you decide.

    Acknowledge `position` to leave the event out, or repair its row and subscribe again.
    """

    #: Why the event cannot be delivered.
    problem: str
    _: KW_ONLY
    #: The event's id.
    event_id: UUID
    #: Where it is in the log.
    position: Position

    def __str__(self) -> str:
        return f"event {self.event_id} at offset {self.position.offset} cannot be delivered: {self.problem}"


@dataclass(eq=False, repr=False)
class SubscriptionClosed(GatecastError):
    """The hub ended the subscription."""

    #: One of the names in `gatecast.protocol.close_codes`.
    reason: str

    def __str__(self) -> str:
        return f"the subscription was closed: {self.reason}"


@dataclass(eq=False, repr=False)
class Overloaded(GatecastError):
    """A bounded queue is full."""

    #: What is full.
    what: str
    #: How many entries it holds.
    limit: int

    def __str__(self) -> str:
        return f"{self.what} is full ({self.limit:,}); try again later"


class StorageError(GatecastError):
    """The database refused or failed to do something."""


@dataclass(eq=False, repr=False)
class StorageUnavailable(StorageError):
    """The database cannot be reached now.

    A publish that raises this error may have been committed: the connection may have broken before the answer
    arrived. Repeat it with the same event id, which is stored once (scenario S16).
    """

    #: The driver's message, without secrets.
    reason: str

    def __post_init__(self) -> None:
        self.reason = redacted(self.reason)
        self.args = (self.reason,)

    def __str__(self) -> str:
        return f"the database is not available: {self.reason}"


@dataclass(eq=False, repr=False)
class StatementFailed(StorageError):
    """The database refused one statement because of its content; nothing of it was stored."""

    #: The kind of error, and its SQLSTATE if there is one; never a value, which may be a secret.
    reason: str

    def __str__(self) -> str:
        return f"the database refused a statement: {self.reason}"


class ValueRefused(StatementFailed):
    """The database cannot hold a value, perhaps because of its encoding; nothing was stored."""

    def __str__(self) -> str:
        return f"the database cannot hold one of the values: {self.reason}"


class LogHeld(StorageUnavailable):
    """Another transaction holds the log that a publish writes to, and did not end in time; nothing was stored."""

    def __init__(self, held: str) -> None:
        super().__init__(held)
        #: What the other transaction holds.
        self.held = held

    def __str__(self) -> str:
        return (
            f"another transaction holds {self.held}, and did not end in time; nothing was stored: "
            "commit it or roll it back, and publish again with the same event id"
        )


class RepeatUncertain(StorageUnavailable):
    """It is unknown now whether an event was published before; nothing was stored."""

    def __init__(self, event_id: UUID) -> None:
        super().__init__(str(event_id))
        #: The event's id.
        self.event_id = event_id

    def __str__(self) -> str:
        return (
            f"it is unknown whether the log has event {self.event_id}, because it is away; nothing was stored: repeat "
            "it with the same id, or without an id if it is new"
        )


class SchemaMissing(StorageError):
    """The database lacks Gatecast's schema, or the newest part of it."""

    def __str__(self) -> str:
        return "the database schema is missing or older than this release; run `gatecast migrate`"


@dataclass(eq=False, repr=False)
class SchemaTooNew(StorageError):
    """The database was migrated by a newer release."""

    #: Number of the newest migration in the database.
    found: int
    #: Number of the newest migration that this release knows.
    supported: int

    def __str__(self) -> str:
        return (
            f"the database schema is at version {self.found}, this release knows versions up to {self.supported}; "
            "upgrade Gatecast on this machine"
        )


@dataclass(eq=False, repr=False)
class DatabaseUnsuitable(StorageError):
    """The database, or the role that connects to it, cannot be used as it is."""

    #: What is wrong.
    problem: str
    #: How to fix it.
    remedy: str

    def __str__(self) -> str:
        return f"the database cannot be used as it is: {self.problem}; {self.remedy}"


@dataclass(eq=False, repr=False)
class TransactionUnusable(StorageError):
    """The object given as `transaction` cannot carry a publish."""

    #: What is wrong with it.
    problem: str

    def __str__(self) -> str:
        return f"the transaction cannot be used: {self.problem}"


class HubClosed(GatecastError):
    """The hub is closed."""

    def __str__(self) -> str:
        return "the hub is closed; use it inside `async with EventHub.open(…) as hub`"


@dataclass(eq=False, repr=False)
class InvariantBroken(GatecastError):
    """Something that must always hold does not, so this pod can no longer be trusted and ends."""

    #: What should hold but does not.
    problem: str

    def __str__(self) -> str:
        return f"a broken invariant: {self.problem}"


@dataclass(eq=False, repr=False)
class SettingInvalid(GatecastError, ValueError):
    """A setting cannot be used."""

    #: The environment variable.
    name: str
    #: The refused value; "(hidden)" where it may hold a secret.
    value: object
    #: What is allowed, as a phrase that continues "must …".
    rule: str

    def __str__(self) -> str:
        return f"{self.name} must {self.rule}{_got(self.value)}"


@dataclass(eq=False, repr=False)
class ProtocolViolation(GatecastError):
    """The peer sent something that the gateway protocol does not allow."""

    #: What is wrong, without the peer's content.
    problem: str

    def __str__(self) -> str:
        return f"the peer broke the protocol: {self.problem}"


@dataclass(eq=False, repr=False)
class ServerUnavailable(GatecastError):
    """A server did not answer, or answered "not now", at every attempt."""

    #: The result of the last attempt.
    reason: str
    _: KW_ONLY
    #: The event that may or may not have been stored; publish it again with this id, which stores it once.
    event_id: UUID

    def __str__(self) -> str:
        return f"the server is not available: {self.reason}; repeat the publish with event id {self.event_id}"


class ControlPlaneError(GatecastError):
    """A request to the control plane cannot be carried out; nothing was changed."""


@dataclass(eq=False, repr=False)
class NotFound(ControlPlaneError, LookupError):
    """No such resource in the caller's organization."""

    #: Kind of the resource, as people call it.
    kind: str
    #: The id that was asked for.
    identifier: str

    def __str__(self) -> str:
        return f"there is no {self.kind} {shorten(self.identifier)}"


@dataclass(eq=False, repr=False)
class Conflict(ControlPlaneError):
    """The change contradicts what is stored."""

    #: What is in conflict, and what to do.
    problem: str
    _: KW_ONLY
    #: The field at fault, when there is one.
    field: str | None = None

    def __str__(self) -> str:
        return self.problem


class LimitReached(Conflict):
    """A counted limit is used up."""


@dataclass(eq=False, repr=False)
class StaleWrite(ControlPlaneError):
    """The resource changed since the caller read it."""

    #: Kind of the resource, as people call it.
    kind: str
    #: The entity tag that the resource has now.
    current: str

    def __str__(self) -> str:
        return f"the {self.kind} was changed by someone else (now {self.current}); read it again and repeat the change"


class SecretKeyMissing(ControlPlaneError):
    """Data cannot be encrypted or decrypted, because this pod lacks the key."""

    def __str__(self) -> str:
        return (
            "this pod lacks the key that stored secrets are encrypted with; set GATECAST_SECRET_KEY on every pod "
            "to the same 32 random bytes in base64, like the output of `openssl rand -base64 32`"
        )


@dataclass(eq=False, repr=False)
class StoredByNewerRelease(ControlPlaneError):
    """A newer release, whose pods run beside this one, has stored something that this release does not know."""

    #: What cannot be read; never a value that may be secret.
    what: str

    def __str__(self) -> str:
        return f"{self.what} was stored by a newer release and cannot be read by this one; update every pod"


class Unauthenticated(ControlPlaneError):
    """The request carries no valid credential."""

    def __str__(self) -> str:
        return "the credential is missing or not valid"


@dataclass(eq=False, repr=False)
class TooManyAttempts(ControlPlaneError):
    """Too many bad credentials came from one address; this credential was not checked."""

    #: The limit per minute.
    limit: int

    def __str__(self) -> str:
        return f"more than {self.limit:,} bad credentials a minute came from this address; try again in a minute"


class IssuerUnavailable(ControlPlaneError):
    """The issuer of a token cannot be asked for its keys now, so the token cannot be checked."""

    def __str__(self) -> str:
        return "the issuer of the token cannot be asked for its keys now; try again"


@dataclass(eq=False, repr=False)
class Forbidden(ControlPlaneError):
    """The credential is valid but does not allow this."""

    #: What is not allowed.
    problem: str

    def __str__(self) -> str:
        return self.problem
