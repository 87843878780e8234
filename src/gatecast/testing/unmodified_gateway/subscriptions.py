"""Subscriptions, their plans, and applications, kept simply (gateway-protocol.md 2.6, 2.7, 2.8, 3.8)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from gatecast.testing.unmodified_gateway.api_keys import Dropped
from gatecast.testing.unmodified_gateway.messages import Fields

_SUBSCRIPTION_STATES = ("ACTIVE", "INACTIVE", "REVOKED")
_PLAN_STATES = ("ACTIVE", "INACTIVE")

#: Only listings have them.
_LISTED_TIMES = ("createdAt", "updatedAt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One subscription plan."""

    #: Unique per gateway.
    name: str
    #: ACTIVE or INACTIVE.
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One subscription of an API."""

    #: The API's artifact id.
    api_id: str
    #: Hex SHA-256 of the token; unique per API.
    token_sha256: str
    #: The plan it follows; empty for none.
    plan_id: str
    #: ACTIVE, INACTIVE or REVOKED.
    status: str


class Subscriptions:
    """Plans and subscriptions by id, and the API keys of applications."""

    def __init__(self) -> None:
        #: Plans by id.
        self.plans: dict[str, Plan] = {}
        #: Subscriptions by id.
        self.stored: dict[str, Subscription] = {}
        #: Ids of the mapped API keys, by application uuid.
        self.applications: dict[str, frozenset[str]] = {}

    def lose(self) -> None:
        """Forget everything."""
        self.plans.clear()
        self.stored.clear()
        self.applications.clear()

    def save_plan(self, plan_id: str, plan: Plan) -> None:
        """Store a plan; raises Dropped where the database's constraints refuse it."""
        _demand(bool(plan_id) and plan.status in _PLAN_STATES, "the plan has no id or a wrong status")
        taken = any(other.name == plan.name for other_id, other in self.plans.items() if other_id != plan_id)
        _demand(bool(plan.name) and not taken, "the plan's name is missing or taken")
        self.plans[plan_id] = plan

    def update_plan(self, plan_id: str, payload: Fields) -> None:
        """Change a known plan; an empty name or status keeps the old one."""
        present, plan = self.plans.get(plan_id), plan_from(payload)
        if present is not None:
            self.save_plan(plan_id, Plan(name=plan.name or present.name, status=plan.status or present.status))

    def delete_plan(self, plan_id: str) -> None:
        """Remove a plan that no subscription follows."""
        _demand(all(each.plan_id != plan_id for each in self.stored.values()), "the plan is in use")
        self.plans.pop(plan_id, None)

    def save(self, subscription_id: str, subscription: Subscription) -> None:
        """Store a subscription; raises Dropped where the database's constraints refuse it."""
        _demand(bool(subscription_id and subscription.api_id), "the subscription has no id or no API")
        _demand(subscription.status in _SUBSCRIPTION_STATES, "the subscription has a wrong status")
        _demand(not subscription.plan_id or subscription.plan_id in self.plans, "the plan does not exist")
        place = (subscription.api_id, subscription.token_sha256)
        taken = any(
            (other.api_id, other.token_sha256) == place
            for other_id, other in self.stored.items()
            if other_id != subscription_id
        )
        _demand(not taken, "the token is taken")
        self.stored[subscription_id] = subscription

    def update(self, subscription_id: str, payload: Fields) -> None:
        """Change a known subscription: an absent plan becomes none."""
        present = self.stored.get(subscription_id)
        if present is None:
            return
        token = payload.text("subscriptionToken")
        changed = replace(
            present,
            token_sha256=_hash(token) if token else present.token_sha256,
            plan_id=payload.text("subscriptionPlanId"),
            status=payload.text("status"),
        )
        self.save(subscription_id, changed)

    def delete(self, subscription_id: str) -> None:
        """Remove a subscription."""
        self.stored.pop(subscription_id, None)

    def drop_api(self, api_id: str, *, keep: Collection[str] = ()) -> None:
        """Remove the subscriptions of an API, except those to keep."""
        self.stored = {
            subscription_id: each
            for subscription_id, each in self.stored.items()
            if each.api_id != api_id or subscription_id in keep
        }

    def map_application(self, payload: Fields, *, known_keys: Collection[str]) -> None:
        """Replace an application's keys; raises Dropped when one of its four names is missing."""
        names = ("applicationId", "applicationUuid", "applicationName", "applicationType")
        _demand(all(payload.text(name) for name in names), "the application is not named")
        keys = {mapping.text("apiKeyUuid") for mapping in payload.items("mappings")}
        self.applications[payload.text("applicationUuid")] = frozenset(keys & set(known_keys))


def plan_from(payload: Fields) -> Plan:
    """The plan that an event or a listing describes; raises Unparsable when a field has the wrong type."""
    _read(payload, texts=("billingPlan", "throttleLimitUnit", "etag"), instants=("expiryTime", *_LISTED_TIMES))
    payload.flag("stopOnQuotaReach")
    payload.integer("throttleLimitCount")
    return Plan(name=payload.text("planName"), status=payload.text("status"))


def subscription_from(payload: Fields, *, api_id: str) -> Subscription:
    """The subscription that an event or a listing describes; raises Unparsable when a field has the wrong type."""
    billing = ("billingCustomerId", "billingSubscriptionId")
    _read(payload, texts=("apiId", "applicationId", "etag", *billing), instants=_LISTED_TIMES)
    return Subscription(
        api_id=api_id,
        token_sha256=_hash(payload.text("subscriptionToken")),
        plan_id=payload.text("subscriptionPlanId"),
        status=payload.text("status"),
    )


def _read(payload: Fields, *, texts: Iterable[str], instants: Iterable[str]) -> None:
    """Read fields of which nothing is kept: a decoder looks at their types all the same."""
    for name in texts:
        payload.text(name)
    for name in instants:
        payload.instant(name)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _demand(holds: bool, problem: str) -> None:  # noqa: FBT001 - it reads like the sentence it is
    if not holds:
        raise Dropped(problem)
