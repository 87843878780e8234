"""Everything that the control plane keeps for gateways to run, opened on one hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatecast.controlplane.catalog.artifact_store import ARTIFACTS, ArtifactStore, content_place
from gatecast.controlplane.catalog.gateway_artifacts import Imports
from gatecast.controlplane.catalog.templates import Templates
from gatecast.controlplane.deployments.api_keys import ApiKeys
from gatecast.controlplane.deployments.artifact_search import ArtifactSearch
from gatecast.controlplane.deployments.artifacts import Artifacts
from gatecast.controlplane.encryption import Sealer, sealer_for
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgements
from gatecast.controlplane.gateway_sync.downloads import GatewayFiles
from gatecast.controlplane.gateway_sync.kept_events import KeptEvents
from gatecast.controlplane.gateway_sync.reconciliation import DesiredState
from gatecast.controlplane.gateway_sync.subscriptions import Subscriptions
from gatecast.controlplane.gateway_sync.synchronizations import Synchronizations
from gatecast.controlplane.transactions.foreign_events import Losses
from gatecast.errors import SecretKeyMissing, SettingInvalid
from gatecast.hub import EventHub
from gatecast.settings import Settings, variable
from gatecast.telemetry import get_logger

_logger = get_logger("resources")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What operators manage, and what gateways are given of it."""

    artifacts: Artifacts
    search: ArtifactSearch
    keys: ApiKeys
    templates: Templates
    imports: Imports
    subscriptions: Subscriptions
    files: GatewayFiles
    desired_state: DesiredState
    losses: Losses
    kept_events: KeptEvents
    acknowledgements: Acknowledgements
    synchronizations: Synchronizations

    @classmethod
    def on(cls, hub: EventHub, sealer: Sealer) -> Self:
        """The resources in the hub's database."""
        store = ArtifactStore(sealer)
        artifacts, desired_state = Artifacts(hub, store), DesiredState(hub)
        return cls(
            artifacts=artifacts,
            search=ArtifactSearch(hub.storage.database),
            keys=ApiKeys(hub, store, artifacts),
            templates=Templates(hub),
            imports=Imports(hub, sealer),
            subscriptions=Subscriptions(hub, sealer),
            files=GatewayFiles(hub, sealer),
            desired_state=desired_state,
            losses=Losses(hub),
            kept_events=KeptEvents(hub),
            acknowledgements=Acknowledgements(hub, desired_state),
            synchronizations=Synchronizations(hub.storage.database),
        )


async def open_resources(hub: EventHub, settings: Settings, key_file: Path | None) -> Resources:
    """The resources of this installation, with its own key.

    Raises:
        SettingInvalid: the key is not the one that what is stored was encrypted with.
    """
    sealer = sealer_for(settings.secret_key, key_file)
    for row in await hub.storage.database.fetch(ARTIFACTS["any_content"]):
        try:
            sealer.open(row["content"], place=content_place(row["id"]))
        except SecretKeyMissing:
            rule = "be the key that the stored documents were encrypted with; every pod needs the same one"
            raise SettingInvalid(variable("secret_key"), "(hidden)", rule) from None
    if not sealer.has_key:
        _logger.warning(
            "no-secret-key", effect="providers, proxies and APIs cannot be stored", setting=variable("secret_key")
        )
    resources = Resources.on(hub, sealer)
    if sealer.has_key:
        await resources.artifacts.complete_routes()
    return resources
