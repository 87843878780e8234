"""Desired minus observed, over every state of a small space; no database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from gatecast.controlplane.catalog.api_key import MAX_ACTIVE_KEYS, ApiKey
from gatecast.controlplane.deployments.placements import (
    UNKNOWN,
    WAITING,
    DeploymentState,
    Desired,
    Known,
    Placement,
    Revision,
)
from gatecast.controlplane.deployments.reconcile import (
    MAX_TRIES,
    Answer,
    Doubt,
    KeyVerb,
    after_answer,
    after_late_keys,
    after_lists,
    after_loss,
    after_new_database,
    after_our_failure,
    after_silence,
    deployed_again,
    difference,
)
from gatecast.controlplane.documents import Kind

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def placement(**fields: object) -> Placement:
    """An API that a gateway runs and has acknowledged."""
    values: dict[str, object] = {
        "artifact_id": "a",
        "gateway_id": "edge",
        "kind": Kind.REST_API,
        "desired": Desired.DEPLOYED,
        "deployment_id": "d1",
        "performed_at": 100,
        "event_id": "e1",
        "held": "d1",
    }
    return Placement(**values | fields)  # type: ignore[arg-type]


def known(state: DeploymentState | None = DeploymentState.DEPLOYED, **fields: object) -> Known:
    """The same with what was said of it."""
    return Known(placement=placement(**fields), state=state, since=_BEGAN - timedelta(hours=1))


def key(name: str = "k", *, created: int = 10, updated: int = 10, revoked: bool = False, ended: int = 0) -> ApiKey:
    """A key."""
    return ApiKey(
        id=f"{name}-{created}",
        artifact_id="a",
        name=name,
        mask="***",
        sha256=f"{name}-{updated}",
        expires_at=ended or None,
        created_at=created,
        updated_at=updated,
        revoked_at=updated if revoked else None,
        ended_at=ended,
    )


# --- what is published ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("desired", list(Desired))
def test_nothing_is_published_where_nothing_is_in_doubt(desired: Desired) -> None:
    assert difference([placement(desired=desired)], {}) == []


@pytest.mark.parametrize(("desired", "doubt"), list(product(Desired, Doubt)))
def test_whatever_is_in_doubt_is_published(desired: Desired, doubt: Doubt) -> None:
    [step] = difference([placement(desired=desired, doubt=doubt)], {})
    assert step.says


def test_what_ends_comes_first_and_providers_stand_around_their_proxies() -> None:
    every = [
        placement(artifact_id=f"{kind}-{desired}", kind=kind, desired=desired, doubt=Doubt.LOST)
        for desired in Desired
        for kind in (Kind.LLM_PROVIDER, Kind.LLM_PROXY)
    ]
    assert [step.placement.artifact_id for step in difference(every, {})] == [
        f"{Kind.LLM_PROXY}-DELETED",
        f"{Kind.LLM_PROVIDER}-DELETED",
        f"{Kind.LLM_PROXY}-UNDEPLOYED",
        f"{Kind.LLM_PROVIDER}-UNDEPLOYED",
        f"{Kind.LLM_PROVIDER}-DEPLOYED",
        f"{Kind.LLM_PROXY}-DEPLOYED",
    ]


def _said(keys: list[ApiKey], **fields: object) -> list[tuple[str, str]]:
    steps = difference([placement(**fields)], {"a": keys})
    return [(each.verb, each.key.name) for step in steps for each in step.keys]


def test_changes_of_keys_are_published_once() -> None:
    """Whatever the change, and whatever is known: what is published is known, and is not published again."""
    states = [key(), key(updated=20), key(updated=20, revoked=True), key(created=20, updated=20)]
    for through, keys, desired in product((UNKNOWN, 0, 10, 20, 30), product(states, repeat=2), Desired):
        named = [replace(each, name=f"k{number}") for number, each in enumerate(keys)]
        before = placement(keys_through=through, desired=desired, doubt=Doubt.LOST)
        [step] = difference([before], {"a": named})
        after = replace(step.placement, doubt="")
        assert difference([after], {"a": named}) == []
        newer = [each for each in named if each.updated_at > through and each.revoked_at is None]
        told = {each.key.name for each in step.keys if each.verb is not KeyVerb.REVOKED}
        assert told == ({each.name for each in newer} if desired is not Desired.DELETED else set())


@pytest.mark.parametrize(
    ("changed", "through", "said"),
    [
        (key(created=20, updated=20), 10, [("created", "k")]),
        (key(updated=20), 10, [("updated", "k")]),
        (key(updated=20, revoked=True), 10, [("revoked", "k")]),
        (key(updated=20, revoked=True), UNKNOWN, [("revoked", "k")]),
        # It ended before the gateway was told of it.
        (key(created=15, updated=20, revoked=True), 10, []),
        # Its time is over; that it was changed after an earlier end means that it has another one.
        (key(updated=20, ended=20), 10, [("revoked", "k")]),
        (key(updated=20, ended=15), 10, [("updated", "k")]),
        (key(updated=20), UNKNOWN, [("created", "k")]),
    ],
)
def test_what_is_said_of_a_key(changed: ApiKey, through: int, said: list[tuple[str, str]]) -> None:
    assert _said([changed], keys_through=through) == said


def test_what_ended_comes_before_what_began_and_a_name_that_is_used_again_did_not_end() -> None:
    keys = [key("back", revoked=True), key("ended", revoked=True), key("back", created=30, updated=30)]
    assert _said(keys, keys_through=UNKNOWN) == [("revoked", "ended"), ("created", "back")]


def test_where_a_gateway_may_have_ten_keys_each_is_told_in_both_ways() -> None:
    """It takes no created key then, not even in place of its own; an updated one has no id."""
    keys = [key(f"k{number}") for number in range(MAX_ACTIVE_KEYS)]
    assert _said(keys, keys_through=UNKNOWN) == [(verb, each.name) for each in keys for verb in ("created", "updated")]


def _revision(state: DeploymentState, **fields: object) -> Revision:
    return Revision(placement=placement(**fields), number=1, content_id="c", state=state)


def test_keys_follow_unless_the_gateway_has_said_that_it_runs_the_last_revision() -> None:
    """It drops the keys of what it does not have: one that failed or was not answered, or runs no more."""
    for state, desired, held, kind in product(DeploymentState, Desired, ("", "d0", "d1"), (Kind.REST_API, Kind.MCP)):
        last = _revision(state, desired=desired, held=held, kind=kind, keys_through=7)
        again = deployed_again(last, replace(last.placement, desired=Desired.DEPLOYED, doubt=Doubt.NEW))
        has_it = state is DeploymentState.DEPLOYED and desired is Desired.DEPLOYED and held
        assert again.keys_through == (7 if has_it and kind is not Kind.MCP else UNKNOWN)
    assert deployed_again(None, placement(doubt=Doubt.NEW)).keys_through == 0


# --- what is learned --------------------------------------------------------------------------------------------------


def test_after_a_loss_nothing_is_known() -> None:
    for state, desired in product(DeploymentState, Desired):
        [after] = after_loss([known(state, desired=desired, keys_through=9, tries=2)])
        assert (after.doubt, after.held, after.keys_through, after.tries) == (Doubt.LOST, "", UNKNOWN, 0)


_FETCHED, _LISTED = 100, 0


def _read(*each: Known, complete: bool = True) -> tuple[list[str], bool]:
    learned = after_lists(each, complete=complete, anew=False, since=_BEGAN)
    for before, after in zip(each, learned.placements, strict=True):
        waits = before.state is DeploymentState.PENDING and before.placement.fetched == _FETCHED
        assert after.fetched == (_FETCHED if waits else UNKNOWN)
    return [after.doubt for after in learned.placements], learned.new_life


def test_where_everything_was_fetched_the_list_has_delivered_it() -> None:
    assert _read(known(fetched=_FETCHED), known(fetched=_FETCHED, artifact_id="b")) == (["", ""], True)


def test_where_something_was_not_fetched_the_rest_is_doubted() -> None:
    """It was there before, and may stand in the way: a name, a provider."""
    assert _read(known(fetched=_FETCHED), known(fetched=_LISTED, artifact_id="b")) == ([Doubt.FETCHED, ""], True)
    assert _read(known(fetched=_FETCHED), complete=False) == ([Doubt.FETCHED], True)


def test_a_new_database_has_nothing_but_what_was_fetched() -> None:
    """Where some of it was not, nothing is trusted: a proxy may have come without its provider."""
    fetched, listed = known(fetched=_FETCHED), known(fetched=_LISTED, artifact_id="b", keys_through=9, tries=2)
    for read, complete, delivered in [
        ((fetched,), True, True),
        ((fetched, listed), True, False),
        ((fetched,), False, False),
        ((listed,), True, False),
    ]:
        learned = after_lists(read, complete=complete, anew=True, since=_BEGAN)
        assert (learned.delivered, learned.new_life) == (delivered, True)
        assert {each.doubt for each in learned.placements} == {"" if delivered else Doubt.LOST}


def test_of_a_new_database_nothing_is_known_but_what_has_its_event_to_come() -> None:
    for state in DeploymentState:
        [after] = after_new_database([known(state, held="d1", keys_through=9, fetched=_LISTED)])
        waits = state in (DeploymentState.PENDING, DeploymentState.UNDEPLOYING)
        assert (after.doubt, after.keys_through) == (("", 9) if waits else (Doubt.LOST, UNKNOWN))
    for desired in (Desired.UNDEPLOYED, Desired.DELETED):
        [after] = after_new_database([known(DeploymentState.UNDEPLOYED, desired=desired, held="d1")])
        assert (after.doubt, after.held) == ("", "")
    [proxy] = after_new_database([known(DeploymentState.PENDING, kind=Kind.MCP, keys_through=9)])
    assert (proxy.doubt, proxy.keys_through) == ("", UNKNOWN)


def test_whatever_is_asked_again_brings_its_keys() -> None:
    """The gateway may lack the artifact, or have lost it and fetched it without them: it has dropped its keys then."""
    for kind, state in product((Kind.MCP, Kind.REST_API), DeploymentState):
        before = known(state, kind=kind, keys_through=9, fetched=_FETCHED)
        found = [
            *after_silence([before], frozenset({before.placement.event_id})),
            after_our_failure(before),
            *after_lists([replace(before, since=_BEGAN)], complete=False, anew=False, since=_BEGAN).placements,
        ]
        found += [after.placement for each in (_answer(), _answer(error="x")) if (after := after_answer(before, each))]
        asked = [each for each in found if each.tries or each.doubt == Doubt.UNANSWERED]
        assert {each.keys_through for each in asked} <= {UNKNOWN}
        assert bool(asked) is (state in {*WAITING, DeploymentState.FAILED, DeploymentState.DEPLOYED})


def test_keys_that_are_in_no_list_follow_also_where_the_artifacts_event_still_waits() -> None:
    """Their own events were handled before the database was lost."""
    waiting = known(DeploymentState.PENDING, kind=Kind.MCP, keys_through=9, fetched=_FETCHED)
    [after] = after_lists([waiting], complete=True, anew=False, since=_BEGAN).placements
    assert (after.doubt, after.fetched, after.keys_through) == ("", _FETCHED, UNKNOWN)


def test_a_database_that_is_lost_twice_begins_two_new_lives() -> None:
    """It had no time to answer in between."""
    assert _read(known(DeploymentState.PENDING, fetched=_FETCHED))[1]
    assert not _read(known(DeploymentState.PENDING, fetched=_LISTED))[1]


def test_where_nothing_runs_that_could_be_fetched_a_new_life_may_have_begun() -> None:
    assert _read() == ([], True)
    assert _read(complete=False) == ([], False)
    assert _read(known(fetched=_LISTED)) == ([""], False)


def test_what_failed_before_is_doubted_where_it_is_fetched_and_what_waits_has_its_event() -> None:
    failed, waiting = known(DeploymentState.FAILED, fetched=_FETCHED), known(DeploymentState.PENDING, fetched=_FETCHED)
    assert _read(failed, waiting, known(fetched=_FETCHED)) == ([Doubt.FETCHED, "", ""], True)
    assert _read(waiting) == ([""], True)


def test_what_fails_although_a_list_has_delivered_it_is_asked_again() -> None:
    """It runs as the list left it, whatever its event came to; a success is a success, and nothing is kept in mind."""
    waiting = known(DeploymentState.PENDING, fetched=_FETCHED)
    failed = after_answer(waiting, _answer(error="no reason"))
    assert failed is not None
    assert (failed.placement.doubt, failed.placement.tries, failed.placement.fetched) == (Doubt.FETCHED, 1, UNKNOWN)
    succeeded = after_answer(waiting, _answer())
    assert succeeded is not None
    assert (succeeded.placement.doubt, succeeded.placement.fetched) == ("", UNKNOWN)


def test_what_has_changed_since_it_was_listed_has_its_event_and_proxies_of_moved_providers_are_doubted() -> None:
    provider = known(DeploymentState.PENDING, kind=Kind.LLM_PROVIDER, fetched=UNKNOWN)
    proxy, api = known(kind=Kind.LLM_PROXY, fetched=_FETCHED), known(fetched=_FETCHED)
    assert _read(provider, proxy, api) == (["", Doubt.FETCHED, ""], True)


def test_a_new_life_of_the_database_knows_nothing_of_what_does_not_run_nor_of_keys_that_are_in_no_list() -> None:
    stopped = known(DeploymentState.UNDEPLOYED, desired=Desired.UNDEPLOYED)
    proxy = known(kind=Kind.MCP, fetched=_FETCHED, keys_through=9)
    learned = after_lists([stopped, proxy], complete=True, anew=False, since=_BEGAN)
    assert [each.held for each in learned.placements] == ["", "d1"]
    assert learned.placements[1].keys_through == UNKNOWN


def test_what_failed_beside_the_lists_is_asked_again_a_few_times() -> None:
    failed = replace(known(DeploymentState.FAILED), since=_BEGAN)
    for _ in range(MAX_TRIES):
        [after] = after_lists([failed], complete=True, anew=False, since=_BEGAN).placements
        assert after.doubt == Doubt.UNSETTLED
        failed = replace(failed, placement=replace(after, doubt=""))
    assert _read(failed) == ([""], False)
    assert _read(known(DeploymentState.FAILED)) == ([""], False)


def test_silence_is_an_answer_only_where_one_is_awaited() -> None:
    for state in DeploymentState:
        silent = after_silence([known(state)], frozenset({"e1"}))
        assert bool(silent) is (state in (DeploymentState.PENDING, DeploymentState.UNDEPLOYING))
        assert after_silence([known(state)], frozenset({"e2"})) == []


def test_late_keys_are_those_of_lists() -> None:
    [after] = after_late_keys([known(keys_through=9), known(kind=Kind.MCP, keys_through=9)], 5)
    assert after.keys_through == 5


def test_our_failure_leaves_no_answer() -> None:
    for state, desired in product(DeploymentState, Desired):
        after = after_our_failure(known(state, desired=desired))
        unsettled = state in (DeploymentState.PENDING, DeploymentState.FAILED) and desired is Desired.DEPLOYED
        assert bool(after.doubt) is unsettled
    assert not after_our_failure(known(DeploymentState.FAILED, tries=MAX_TRIES)).doubt


def _answer(*, deployed: bool = True, error: str = "", named: str = "d1") -> Answer:
    return Answer(deployed=deployed, succeeded=not error, deployment_id=named, error_code=error)


_STATES = {
    # State, and what a success and a failure of a deploy make of it.
    DeploymentState.PENDING: (DeploymentState.DEPLOYED, DeploymentState.FAILED),
    DeploymentState.DEPLOYED: (None, DeploymentState.FAILED),
    DeploymentState.FAILED: (DeploymentState.FAILED, None),
    DeploymentState.UNDEPLOYING: (None, None),
    DeploymentState.UNDEPLOYED: (None, None),
    DeploymentState.SUPERSEDED: (None, None),
}


@pytest.mark.parametrize(("state", "expected"), list(_STATES.items()))
def test_what_an_answer_makes_of_each_state(
    state: DeploymentState, expected: tuple[DeploymentState | None, DeploymentState | None]
) -> None:
    for answer, after in zip((_answer(), _answer(error="NO")), expected, strict=True):
        found = after_answer(known(state, held=""), answer)
        assert (found and found.state) == after
        if found is not None:
            # Both were said of one event: asked again.
            assert bool(found.placement.doubt) is (state is not DeploymentState.PENDING)
            assert found.placement.held == ("d1" if after is DeploymentState.DEPLOYED else "")


def test_what_is_in_doubt_takes_no_answer() -> None:
    for state, error in product(DeploymentState, ("", "NO")):
        assert after_answer(known(state, doubt=Doubt.LOST), _answer(error=error)) is None


def test_asked_often_enough_the_failure_counts() -> None:
    failed = after_answer(known(tries=MAX_TRIES), _answer(error="NO"))
    assert failed is not None
    assert (failed.state, failed.placement.doubt) == (DeploymentState.FAILED, "")
    assert after_answer(failed, _answer()) is None


def test_a_gateway_that_has_another_deployment_is_asked_without_a_name() -> None:
    stopping = known(DeploymentState.UNDEPLOYING, desired=Desired.UNDEPLOYED)
    found = after_answer(stopping, _answer(deployed=False, error="DEPLOYMENT_ID_MISMATCH"))
    assert found is not None
    assert (found.placement.doubt, found.placement.held) == (Doubt.MISMATCH, "")
    unnamed = after_answer(stopping, _answer(deployed=False, error="DEPLOYMENT_ID_MISMATCH", named=""))
    assert unnamed is not None
    assert (unnamed.state, unnamed.placement.doubt) == (DeploymentState.FAILED, "")
