"""What changes among the deployments of organizations, seen once for everybody who follows them at this pod."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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

#: Most changes that one look brings; of more than that in one window the oldest are not told.
MOST_CHANGES = 5_000

#: Organizations of which it is known what was seen last.
_KEPT = 100

#: What is shown of a deployment.
Visible: TypeAlias = tuple[str, str, bool, datetime]


def visible(listed: ListedDeployment) -> Visible:
    """What is another whenever somebody should be told."""
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
    #: Another number whenever a deployment or an artifact has changed.
    fingerprint: int


class DeploymentLooks:
    """Looks at the deployments of organizations."""

    def __init__(self, search: ArtifactSearch, *, clock: Callable[[], float] | None = None) -> None:
        self._search = search
        self._looks = SharedLooks(self._look, name="deployments", clock=clock)
        #: Of each organization what was seen last, and how often that was something else than before.
        self._seen: OrderedDict[str, tuple[RecentDeployments, int]] = OrderedDict()

    async def look(self, organization: str) -> SeenDeployments:
        """What changed within the last minute, as it was less than a second ago.

        Raises:
            StorageUnavailable: the database is away.
        """
        return await self._looks.of(organization)

    async def _look(self, organization: str) -> SeenDeployments:
        recent = await self._search.recent_deployments(organization, window=WINDOW, limit=MOST_CHANGES)
        before, number = self._seen.pop(organization, (None, 0))
        if before is None or _has_news(before, recent):
            number += 1
        self._seen[organization] = recent, number
        if len(self._seen) > _KEPT:
            self._seen.popitem(last=False)
        return SeenDeployments(
            items={each.deployment.id: each for each in recent.items},
            deleted=recent.deleted,
            more=recent.more,
            fingerprint=number,
        )


def _has_news(before: RecentDeployments, now: RecentDeployments) -> bool:
    """Whether something has changed; what has only become older has not."""
    known = {each.deployment.id: visible(each) for each in before.items}
    return before.artifacts != now.artifacts or any(
        known.get(each.deployment.id) != visible(each) for each in now.items
    )
