"""What must be published so that a gateway reaches the desired state: desired minus observed, as a pure function.

A placement carries both: what the gateway should do with an artifact, and what *this incarnation of the gateway's
database* is known to have of it. Every occurrence (a lost position, a list that was read, an acknowledgement, a missing
one, a mistake of ours) only changes what is known; `difference` alone decides what is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from gatecast.controlplane.catalog.api_key import MAX_ACTIVE_KEYS, ApiKey
from gatecast.controlplane.catalog.artifact_kinds import ARTIFACT_KINDS
from gatecast.controlplane.deployments.placements import (
    UNKNOWN,
    WAITING,
    DeploymentState,
    Desired,
    Known,
    Placement,
    Revision,
)
from gatecast.controlplane.documents import Kind

#: How often an event is published again when its acknowledgement does not count; after that it counts.
MAX_TRIES = 3

_RANK = {artifact_kind.kind: rank for rank, artifact_kind in enumerate(ARTIFACT_KINDS)}


class Doubt(StrEnum):
    """Why the last event of a placement must be published again."""

    #: It is the first event of a new revision; its instant is given already.
    NEW = "new"
    #: The operator changed what is wanted.
    CHANGED = "changed"
    #: The gateway's position was lost.
    LOST = "lost"
    #: The gateway handled it, and no acknowledgement came.
    UNANSWERED = "unanswered"
    #: The gateway fetched it at its start, and does not report the result.
    FETCHED = "fetched"
    #: It failed while the gateway read its lists.
    UNSETTLED = "failed while synchronizing"
    #: Replicas of the gateway contradicted each other.
    MIXED = "mixed"
    #: The gateway has another deployment than it acknowledged.
    MISMATCH = "mismatch"
    #: This control plane did not give the gateway what it asked for.
    OUR_FAILURE = "not served"


# --- what is published ------------------------------------------------------------------------------------------------


class KeyVerb(StrEnum):
    """The change of a key in an event."""

    CREATED = "created"
    UPDATED = "updated"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class KeyStep:
    """One event of a key."""

    verb: KeyVerb
    key: ApiKey


@dataclass(frozen=True, slots=True)
class Step:
    """The events of one placement: of the artifact, if `says`, and then of its keys."""

    #: As it is known once they are published.
    placement: Placement
    says: bool
    keys: Sequence[KeyStep]


def difference(placements: Iterable[Placement], keys: Mapping[str, Sequence[ApiKey]]) -> list[Step]:
    """What to publish, in the order that a gateway needs; `keys` holds those of each artifact, also revoked ones."""
    return [
        step
        for placement in sorted(placements, key=_turn)
        if (step := _step(placement, keys.get(placement.artifact_id, ()))) is not None
    ]


def _step(placement: Placement, keys: Sequence[ApiKey]) -> Step | None:
    told = key_steps(placement, keys)
    if not placement.doubt and not told:
        return None
    through = max((key.updated_at for key in keys), default=0)
    return Step(
        replace(placement, keys_through=max(placement.keys_through, through)), bool(placement.doubt), tuple(told)
    )


def key_steps(placement: Placement, keys: Sequence[ApiKey]) -> list[KeyStep]:
    """The events for an artifact's keys; ended keys first, because that makes room.

    Keys that the gateway cannot have, because they ended before they were published to it, have no event.
    """
    through = placement.keys_through
    if placement.desired is Desired.DELETED or (through == UNKNOWN and not _deploys(placement)):
        return []
    active = [key for key in keys if key.revoked_at is None]
    names = {key.name for key in active}
    ended = {key.name: key for key in sorted(keys, key=lambda each: each.updated_at) if key.name not in names}
    steps = [
        KeyStep(KeyVerb.REVOKED, key)
        for key in ended.values()
        if key.updated_at > through and (through == UNKNOWN or key.created_at <= through)
    ]
    full = len(active) >= MAX_ACTIVE_KEYS
    for key in active:
        if key.updated_at > through:
            steps += [KeyStep(verb, key) for verb in _verbs(placement, key, full=full)]
    return steps


def _deploys(placement: Placement) -> bool:
    """Whether keys are of any use: those of an artifact that does not run follow when it does."""
    return placement.desired is Desired.DEPLOYED or bool(placement.doubt)


def _verbs(placement: Placement, key: ApiKey, *, full: bool) -> Sequence[KeyVerb]:
    """How a gateway takes an active key, whatever it has of it.

    It drops an expired one and keeps older values, until it is told that the key has ended. With ten keys it takes no
    created one, not even in place of its own; an updated one it takes as a new one, too, but under an id of its own,
    which it has until it reads its next list.
    """
    if key.has_ended:
        return (KeyVerb.REVOKED,)
    if placement.keys_through != UNKNOWN:
        return (KeyVerb.UPDATED,) if key.created_at <= placement.keys_through else (KeyVerb.CREATED,)
    if placement.kind is Kind.MCP:
        # These it never reads in lists, so that its id of them does not matter.
        return (KeyVerb.UPDATED,)
    return (KeyVerb.CREATED, KeyVerb.UPDATED) if full else (KeyVerb.CREATED,)


def _turn(placement: Placement) -> tuple[int, int, str, str]:
    """Sort key: ends first, which frees names; providers start before their proxies and end after them."""
    rank, place = _RANK[placement.kind], (placement.artifact_id, placement.gateway_id)
    match placement.desired:
        case Desired.DELETED:
            return 0, -rank, *place
        case Desired.UNDEPLOYED:
            return 1, -rank, *place
        case Desired.DEPLOYED:
            return 2, rank, *place


# --- what is learned --------------------------------------------------------------------------------------------------


def deployed_again(last: Revision | None, changed: Placement) -> Placement:
    """A placement that is to run, with its newest revision yet to be published.

    The keys follow unless the gateway has acknowledged that revision. It drops keys of artifacts that it lacks, and it
    may lack one that failed or is not acknowledged yet. It may lose keys of MCP proxies at any time.
    """
    if last is None:
        return replace(changed, keys_through=0, tries=0)
    has_it = last.runs and last.state is DeploymentState.DEPLOYED and bool(last.placement.held)
    keeps_keys = has_it and changed.kind is not Kind.MCP
    return replace(changed, tries=0, keys_through=last.placement.keys_through if keeps_keys else UNKNOWN)


def after_loss(known: Iterable[Known]) -> list[Placement]:
    """The gateway's position was lost: it is not known what the gateway has."""
    return [_unknown(each.placement) for each in known]


def _unknown(placement: Placement) -> Placement:
    return replace(placement, doubt=Doubt.LOST, held="", keys_through=UNKNOWN, tries=0)


def after_new_database(known: Iterable[Known]) -> list[Placement]:
    """The gateway has shown that its database is new: it has only what was published since.

    An unanswered placement still has its event to come, or is checked when that was handled.
    """
    return [_in_new_database(each) for each in known]


def _in_new_database(each: Known) -> Placement:
    if each.placement.desired is not Desired.DEPLOYED:
        return replace(each.placement, held="")
    if each.state in WAITING:
        return _without_keys(
            each.placement if _is_fetched(each.placement) else replace(each.placement, fetched=UNKNOWN)
        )
    return _unknown(each.placement)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a gateway's reading of its lists reveals."""

    placements: Sequence[Placement]
    #: True when the gateway had nothing, and has fetched everything.
    delivered: bool
    #: True when the gateway may have a new database: it fetched something, or its process has started and nothing runs
    #: there that it could have fetched. What it fetched may wait for an answer already: a database that is lost twice
    #: had no time to give one.
    new_life: bool


def after_lists(known: Sequence[Known], *, complete: bool, anew: bool, since: datetime) -> Learned:
    """The gateway has read its lists; `complete`: it got its secrets and the list of deployments in one go.

    It does not acknowledge what it fetches. If it fetched everything, its database was empty, and now has what was
    listed: nothing refused earlier could be in the way. Otherwise the fetched ones are in doubt: they are republished,
    and the answer decides. `anew`: its database is new, so it has nothing else. `since` is when the reading began:
    failures from then on happened beside it.
    """
    running = [each for each in known if each.placement.desired is Desired.DEPLOYED]
    again = [each for each in running if _is_fetched(each.placement) and each.state is DeploymentState.DEPLOYED]
    delivered = complete and bool(again) and not any(each.placement.fetched == 0 for each in running)
    moved = any(each.placement.kind is Kind.LLM_PROVIDER and each.placement.fetched == UNKNOWN for each in running)
    if anew and not delivered:
        return Learned(after_new_database(known), delivered=False, new_life=True)
    placements = [_after_list(each, delivered=delivered, moved=moved, since=since) for each in known]
    fetched = any(_is_fetched(each.placement) for each in running)
    return Learned(placements, delivered, fetched or (complete and not running))


def _is_fetched(placement: Placement) -> bool:
    return placement.fetched == placement.performed_at


def _after_list(each: Known, *, delivered: bool, moved: bool, since: datetime) -> Placement:
    before = each.placement
    placement = replace(before, fetched=UNKNOWN)
    if before.desired is not Desired.DEPLOYED:
        # It may have lost what does not run without anybody's notice.
        return replace(placement, held="") if delivered else placement
    if _is_fetched(before):
        trusted = delivered and not (moved and before.kind is Kind.LLM_PROXY)
        if each.state is DeploymentState.FAILED or (each.state is DeploymentState.DEPLOYED and not trusted):
            return replace(_without_keys(placement), doubt=Doubt.FETCHED)
        # Kept for one that still waits: its event comes now, and if that fails, the fetched revision runs nevertheless.
        return _without_keys(placement if each.state is DeploymentState.DEPLOYED else before)
    if each.state is DeploymentState.FAILED and each.since is not None and each.since >= since:
        return _asked_again(placement, Doubt.UNSETTLED)
    return placement


def _without_keys(placement: Placement) -> Placement:
    """Where the gateway has lost an artifact, the keys that it does not ask for by itself."""
    return replace(placement, keys_through=UNKNOWN) if placement.kind is Kind.MCP else placement


def _asked_again(placement: Placement, doubt: Doubt) -> Placement:
    """The placement with its event to be published once more, unless the limit is reached: then the answer counts."""
    if placement.tries >= MAX_TRIES:
        return placement
    # It may lack the artifact, and then it has dropped its keys.
    return replace(placement, doubt=doubt, tries=placement.tries + 1, keys_through=UNKNOWN)


def after_silence(known: Iterable[Known], handled: frozenset[str]) -> list[Placement]:
    """The gateway has handled these events, and their acknowledgements were lost, or the events were stale.

    Or it has lost its database since, and fetched them with its lists. Whether it has taken their keys is not known.
    """
    return [
        replace(each.placement, doubt=Doubt.UNANSWERED, keys_through=UNKNOWN)
        for each in known
        if each.state in WAITING and each.placement.event_id in handled
    ]


def after_late_keys(known: Iterable[Known], since: int) -> list[Placement]:
    """A list of keys that the gateway read may be older than what changed since: a key it made is removed again."""
    return [
        replace(each.placement, keys_through=min(each.placement.keys_through, since))
        for each in known
        if each.placement.kind is not Kind.MCP
    ]


def after_our_failure(known: Known) -> Placement:
    """The gateway could not be given what it asked for, so its acknowledgement does not count."""
    unsettled = known.state in (DeploymentState.PENDING, DeploymentState.FAILED)
    if known.placement.desired is not Desired.DEPLOYED or not unsettled:
        return known.placement
    return _asked_again(known.placement, Doubt.OUR_FAILURE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A gateway's acknowledgement of the last event of a placement."""

    #: True for a deploy, False for an undeploy.
    deployed: bool
    succeeded: bool
    #: Empty if the event named none.
    deployment_id: str
    error_code: str


#: A gateway's error code for an undeploy of another deployment than it has.
_MISMATCH = "DEPLOYMENT_ID_MISMATCH"


def after_answer(known: Known, answer: Answer) -> Known | None:
    """What is known after an answer to the last event; None: the answer was not awaited and changes nothing.

    Replicas of a gateway share its database, and one may fail to store what another has stored. So when one event has
    both answers, it is published again; if they still differ, the failure counts.
    """
    placement = known.placement
    waiting, done = (
        (DeploymentState.PENDING, DeploymentState.DEPLOYED)
        if answer.deployed
        else (DeploymentState.UNDEPLOYING, DeploymentState.UNDEPLOYED)
    )
    if placement.doubt or known.state not in (waiting, done, DeploymentState.FAILED):
        return None
    if answer.succeeded:
        return _after_success(known, answer, waiting, done)
    if known.state is DeploymentState.FAILED:
        return None
    if known.state is waiting and answer.error_code == _MISMATCH and answer.deployment_id:
        placement = replace(placement, held="", doubt=Doubt.MISMATCH)
    elif known.state is done:
        placement = _asked_again(placement, Doubt.MIXED)
    elif answer.deployed and _is_fetched(placement):
        placement = _asked_again(replace(placement, fetched=UNKNOWN), Doubt.FETCHED)
    return replace(known, placement=placement, state=DeploymentState.FAILED)


def _after_success(known: Known, answer: Answer, waiting: DeploymentState, done: DeploymentState) -> Known | None:
    if known.state is waiting:
        return replace(
            known, placement=replace(known.placement, held=answer.deployment_id, fetched=UNKNOWN), state=done
        )
    if known.state is done or known.placement.tries >= MAX_TRIES:
        return None
    return replace(known, placement=_asked_again(known.placement, Doubt.MIXED))
