"""Transforms stored artifacts for the runtime, later than they are acknowledged (section 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gatecast.testing.unmodified_gateway.artifact_kinds import API
from gatecast.testing.unmodified_gateway.yaml_values import Rejected, demand, list_of, mapping_of, text_of

if TYPE_CHECKING:
    from gatecast.testing.unmodified_gateway.artifacts import Artifact

#: The gateway's own names for hosts that a REST API leaves out (section 4.5).
_MAIN_HOST, _SANDBOX_HOST, _DEFAULT = "*", "sandbox-*", "_gateway_default_"


class Runtime:
    """What one process serves: built from its database when it starts, told of every change afterwards."""

    def __init__(self, note: Callable[[str], None]) -> None:
        #: By artifact id.
        self.running: dict[str, Artifact] = {}
        self._note = note

    def tell(self, artifact_id: str, artifact: Artifact | None) -> None:
        """Serve what was stored, or stop serving it; what cannot be transformed is silently not served."""
        if artifact is None:
            self.running.pop(artifact_id, None)
            return
        try:
            check_transformable(artifact)
        except Rejected as problem:
            self._note(f"{artifact_id} cannot be transformed: {problem}")
        else:
            self.running[artifact_id] = artifact

    def start(self, stored: Mapping[str, Artifact], *, skip_invalid: bool) -> None:
        """Serve what a database holds.

        Raises:
            Rejected: something cannot be transformed, and that is not to be skipped.
        """
        self.running.clear()
        for artifact_id, artifact in stored.items():
            if not skip_invalid:
                check_transformable(artifact)
            self.tell(artifact_id, artifact)


def check_transformable(artifact: Artifact) -> None:
    """Refuse what a gateway stores and can never serve: the causes that were found.

    Raises:
        Rejected: names the first one.
    """
    spec = mapping_of(artifact.document or {}, "spec")
    upstream = mapping_of(spec, "upstream")
    targets = [mapping_of(upstream, name) for name in ("main", "sandbox")] if artifact.kind == API.kind else [upstream]
    pools = {text_of(each, "name"): list_of(each, "upstreams") for each in list_of(spec, "upstreamDefinitions")}
    for target in targets:
        reference = text_of(target, "ref")
        demand(len(pools.get(reference, ())) <= 1, f"upstream {reference!r} has more than one URL")
    if artifact.kind == API.kind:
        _check_hosts(mapping_of(spec, "vhosts"), has_sandbox=bool(upstream.get("sandbox")))


def _check_hosts(hosts: Mapping[str, Any], *, has_sandbox: bool) -> None:
    main = {_host(each, _MAIN_HOST) for each in text_of(hosts, "main").split(";")}
    sandbox = _host(text_of(hosts, "sandbox"), _SANDBOX_HOST)
    # Without a sandbox upstream only the gateway's own name for it is in the way.
    taken = sandbox in main and (has_sandbox or sandbox == _SANDBOX_HOST)
    demand(not taken, f"main and sandbox share the host {sandbox!r}")


def _host(written: str, default: str) -> str:
    return default if written.strip() in ("", _DEFAULT) else written.strip()
