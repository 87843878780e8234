"""Tells one stream what becomes of artifacts: each deployment whose state is another, and each that is deleted."""

from __future__ import annotations

import json

from gatecast.controlplane.deployments.artifact_search import DeletedArtifact, ListedDeployment
from gatecast.server.admin_api.context import AdminContext
from gatecast.server.admin_api.deployment_looks import Visible, visible
from gatecast.server.admin_api.lists import listed_deployment

#: Most deployments in one portion.
_PORTION = 200


class DeploymentWatch:
    """The deployments that one stream has sent.

    Only the newest state of each is sent, so a client that reads slowly gets less and holds up nobody. A client that
    returns gets the changes of the last minute again. All streams of a pod share its looks.
    """

    def __init__(self, context: AdminContext, organization: str, *, gateway: str) -> None:
        self._context = context
        self._organization = organization
        self._gateway = gateway
        #: The last seen values of recently changed deployments, and the deployments still to send.
        self._seen: dict[str, Visible] = {}
        self._due: dict[str, ListedDeployment] = {}
        #: The artifacts known to be deleted, and the ones among them still to send.
        self._gone: frozenset[str] = frozenset()
        self._deleted: dict[str, DeletedArtifact] = {}
        #: When the last look began that this stream has seen, and whether there were more changes than that brings.
        self._seen_at: float | None = None
        self._more = False
        #: Whether the stream has yet to say that it leaves out changes.
        self._missed = False

    async def look(self) -> None:
        """Find out what changed."""
        seen = await self._context.deployments.look(self._organization)
        present = {name: each for name, each in seen.items.items() if self._gateway in ("", each.deployment.gateway_id)}
        states = {name: visible(each) for name, each in present.items()}
        self._due |= {name: each for name, each in present.items() if self._seen.get(name) != states[name]}
        self._seen = states
        self._deleted |= {each.id: each for each in seen.deleted if each.id not in self._gone}
        self._gone = frozenset(each.id for each in seen.deleted)
        gap = self._seen_at is not None and not seen.misses_nothing_since(self._seen_at)
        self._missed |= gap or (seen.more and not self._more)
        self._seen_at, self._more = seen.began_at, seen.more

    async def next_portion(self) -> str:
        """The next part to send, as text; empty: there is no more."""
        if self._missed:
            self._missed = False
            return 'event: reload\ndata: {"list": "deployments"}\n\n'
        if names := list(self._due)[:_PORTION]:
            return "".join(_message(self._due.pop(name)) for name in names)
        return "".join(_deletion(self._deleted.pop(name)) for name in list(self._deleted)[:_PORTION])


def _message(listed: ListedDeployment) -> str:
    shown = listed_deployment(listed).model_dump(mode="json", by_alias=True)
    return f"event: deployment\ndata: {json.dumps(shown, ensure_ascii=False)}\n\n"


def _deletion(artifact: DeletedArtifact) -> str:
    shown = {
        "artifactId": artifact.id,
        "kind": artifact.kind,
        "handle": artifact.handle,
        "name": artifact.name,
        "deleted": True,
        "deletedAt": artifact.deleted_at.isoformat(),
    }
    return f"event: artifact\ndata: {json.dumps(shown, ensure_ascii=False)}\n\n"
