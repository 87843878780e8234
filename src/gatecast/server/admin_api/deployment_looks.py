"""Recent changes of deployments, read once for all followers at this pod."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from gatecast.controlplane.deployments.artifact_search import (
    ArtifactSearch,
    DeletedArtifact,
    ListedDeployment,
    RecentDeployments,
)
from gatecast.server.admin_api.shared_looks import SharedLooks

#: A change is looked for until it is this old. Longer than the transactions that change deployments take, because a
#: change bears the time at which its transaction began.
WINDOW = timedelta(seconds=60)

#: After a gap of this many seconds, a change may be too old for the next look: a transaction may have taken the other
#: half of the window.
LONGEST_GAP = WINDOW.total_seconds() / 2

#: Most changes in one look; if a window has more, the oldest are left out.
MOST_CHANGES = 5_000

#: Most organizations whose last look is remembered.
_KEPT = 100

#: The visible values of a deployment.
Visible: TypeAlias = tuple[str, str, bool, datetime]


def visible(listed: ListedDeployment) -> Visible:
    """The values whose change is reported."""
    deployment = listed.deployment
    return deployment.state.value, deployment.reason, listed.runs, deployment.updated_at


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDeployments:
    """The deployments that changed lately."""

    items: Mapping[str, ListedDeployment]
    #: The artifacts that were deleted lately.
    deleted: Sequence[DeletedArtifact]
    #: Whether more have changed than one look brings.
    more: bool
    #: Another number whenever a deployment or an artifact has changed, or may have changed unseen.
    fingerprint: int
    #: When the look began, and when it had ended, in seconds of the pod's clock.
    began_at: float
    ended_at: float

    def misses_nothing_since(self, earlier_began_at: float) -> bool:
        """Whether everything that has changed since another look is in one of the two."""
        return self.began_at <= earlier_began_at or self.ended_at - earlier_began_at < LONGEST_GAP


class DeploymentLooks:
    """Looks at the deployments of organizations."""

    def __init__(self, search: ArtifactSearch, *, clock: Callable[[], float] | None = None) -> None:
        self._search = search
        self._clock = clock or asyncio.get_running_loop().time
        self._looks = SharedLooks(self._look, name="deployments", clock=clock)
        #: The last look at each organization.
        self._seen: OrderedDict[str, tuple[RecentDeployments, SeenDeployments]] = OrderedDict()

    async def look(self, organization: str) -> SeenDeployments:
        """The changes of the last minute, as of one second ago, or five if the database is slow.

        Raises:
            StorageUnavailable: the database is away.
        """
        return await self._looks.of(organization)

    async def _look(self, organization: str) -> SeenDeployments:
        began_at = self._clock()
        recent = await self._search.recent_deployments(organization, window=WINDOW, limit=MOST_CHANGES)
        seen = SeenDeployments(
            items={each.deployment.id: each for each in recent.items},
            deleted=recent.deleted,
            more=recent.more,
            fingerprint=1,
            began_at=began_at,
            ended_at=self._clock(),
        )
        if (last := self._seen.pop(organization, None)) is not None:
            before, earlier = last
            news = _has_news(before, recent) or not seen.misses_nothing_since(earlier.began_at)
            seen = replace(seen, fingerprint=earlier.fingerprint + news)
        self._seen[organization] = recent, seen
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return seen


def _has_news(before: RecentDeployments, now: RecentDeployments) -> bool:
    """Whether something has changed; what has only become older has not."""
    known = {each.deployment.id: visible(each) for each in before.items}
    return before.artifacts != now.artifacts or any(
        known.get(each.deployment.id) != visible(each) for each in now.items
    )
