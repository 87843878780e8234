"""Everything that the control plane keeps for gateways to run, opened on one hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from gatecast.controlplane.catalog.artifact_store import ArtifactStore, content_place, sealed_samples
from gatecast.controlplane.catalog.gateway_artifacts import GatewayOwnedArtifacts
from gatecast.controlplane.catalog.templates import Templates
from gatecast.controlplane.deployments.api_keys import ApiKeys
from gatecast.controlplane.deployments.artifact_search import ArtifactSearch
from gatecast.controlplane.deployments.artifacts import Artifacts
from gatecast.controlplane.encryption import Encryption, encryption_for
from gatecast.controlplane.gateway_sync.acknowledgements import Acknowledgements
from gatecast.controlplane.gateway_sync.downloads import GatewayFiles
from gatecast.controlplane.gateway_sync.kept_events import KeptEvents
from gatecast.controlplane.gateway_sync.reconciliation import DesiredState
from gatecast.controlplane.gateway_sync.subscriptions import Subscriptions
from gatecast.controlplane.gateway_sync.synchronizations import Synchronizations
from gatecast.controlplane.transactions.foreign_events import ForeignEvents
from gatecast.errors import SecretKeyMissing, SettingInvalid
from gatecast.hub import EventHub
from gatecast.settings import Settings, variable
from gatecast.telemetry import get_logger

_logger = get_logger("control-plane")


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The resources that operators manage, and the parts of them that gateways get."""

    artifacts: Artifacts
    search: ArtifactSearch
    keys: ApiKeys
    templates: Templates
    imports: GatewayOwnedArtifacts
    subscriptions: Subscriptions
    files: GatewayFiles
    desired_state: DesiredState
    foreign_events: ForeignEvents
    kept_events: KeptEvents
    acknowledgements: Acknowledgements
    synchronizations: Synchronizations

    @classmethod
    def on(cls, hub: EventHub, encryption: Encryption) -> Self:
        """The resources in the hub's database."""
        store = ArtifactStore(encryption)
        artifacts, desired_state = Artifacts(hub, store), DesiredState(hub)
        return cls(
            artifacts=artifacts,
            search=ArtifactSearch(hub.database),
            keys=ApiKeys(hub, store, artifacts),
            templates=Templates(hub),
            imports=GatewayOwnedArtifacts(hub, encryption),
            subscriptions=Subscriptions(hub, encryption),
            files=GatewayFiles(hub, encryption),
            desired_state=desired_state,
            foreign_events=ForeignEvents(hub),
            kept_events=KeptEvents(hub),
            acknowledgements=Acknowledgements(hub, desired_state),
            synchronizations=Synchronizations(hub.database),
        )


async def open_control_plane(hub: EventHub, settings: Settings, key_file: Path | None) -> ControlPlane:
    """The resources of this installation, with its own key.

    Raises:
        SettingInvalid: the key differs from the one that encrypted the stored data.
    """
    encryption = encryption_for(settings.secret_key, key_file)
    for row in await sealed_samples(hub.database):
        try:
            encryption.open(row["content"], place=content_place(row["id"]))
        except SecretKeyMissing:
            rule = "be the key that the stored documents were encrypted with; every pod needs the same one"
            raise SettingInvalid(variable("secret_key"), "(hidden)", rule) from None
    if not encryption.has_key:
        _logger.warning(
            "no-secret-key", effect="providers, proxies and APIs cannot be stored", setting=variable("secret_key")
        )
    control_plane = ControlPlane.on(hub, encryption)
    if encryption.has_key:
        await control_plane.artifacts.complete_routes()
    return control_plane
