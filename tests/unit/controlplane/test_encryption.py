"""What is sealed, and which keys open it."""

from __future__ import annotations

import asyncio
import base64
import re
import stat
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from gatecast import Action, Event, EventHub, Settings
from gatecast.controlplane.access.gateways import GatewayFields, Gateways
from gatecast.controlplane.catalog.artifact_kinds import LLM_PROVIDER
from gatecast.controlplane.control_plane import ControlPlane, open_control_plane
from gatecast.controlplane.documents import MODELS
from gatecast.controlplane.encryption import Encryption, encryption_for
from gatecast.controlplane.key_rotation import reseal
from gatecast.controlplane.migrations import MIGRATIONS
from gatecast.errors import SecretKeyMissing, SettingInvalid

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]

_OLD, _NEW = bytes(range(32)), bytes(range(32, 64))

_PROVIDER = {
    "name": "Demo Provider",
    "version": "v1.0",
    "template": "openai",
    "upstream": {
        "url": "https://llm.example.test/v1",
        "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
    },
}


def _setting(*keys: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in keys)


def test_what_is_sealed_opens_in_its_place_only() -> None:
    encryption = Encryption([_OLD])
    sealed = encryption.encrypt("a secret", place="secret:one")
    assert b"a secret" not in sealed
    assert encryption.open(sealed, place="secret:one") == "a secret"
    with pytest.raises(SecretKeyMissing):
        encryption.open(sealed, place="secret:two")


def test_the_same_text_is_sealed_differently_each_time() -> None:
    encryption = Encryption([_OLD])
    assert encryption.encrypt("a secret", place="here") != encryption.encrypt("a secret", place="here")


def test_the_first_key_seals_and_every_key_opens() -> None:
    both, new = encryption_for(_setting(_NEW, _OLD), None), Encryption([_NEW])
    assert both.open(Encryption([_OLD]).encrypt("before", place="here"), place="here") == "before"
    assert new.open(both.encrypt("after", place="here"), place="here") == "after"


@pytest.mark.parametrize("damage", [b"", b"abc", bytes(40)])
def test_what_is_damaged_does_not_open(damage: bytes) -> None:
    with pytest.raises(SecretKeyMissing):
        Encryption([_OLD]).open(damage, place="here")


def test_a_sealed_text_that_was_cut_does_not_open() -> None:
    encryption = Encryption([_OLD])
    sealed = encryption.encrypt("a secret", place="here")
    for length in range(len(sealed)):
        with pytest.raises(SecretKeyMissing):
            encryption.open(sealed[:length], place="here")


def test_without_a_key_nothing_is_sealed() -> None:
    encryption = encryption_for("", None)
    assert not encryption.has_key
    with pytest.raises(SecretKeyMissing):
        encryption.encrypt("a secret", place="here")


@pytest.mark.parametrize("text", ["short", "###", _setting(_OLD)[:-4], _setting(_OLD) + ",", "é" * 44])
def test_a_key_of_another_shape_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SettingInvalid, match="GATECAST_SECRET_KEY") as refused:
        encryption_for(text, None)
    assert text not in str(refused.value)


def test_the_key_beside_a_database_is_made_once_and_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "gatecast.db.key"
    sealed = encryption_for("", file).encrypt("a secret", place="here")
    assert encryption_for("", file).open(sealed, place="here") == "a secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == [file.name]


async def test_pods_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    file = tmp_path / "gatecast.db.key"
    encryptions = await asyncio.gather(*(asyncio.to_thread(encryption_for, "", file) for _ in range(16)))
    sealed = [encryption.encrypt("a secret", place="here") for encryption in encryptions]
    assert {encryption_for("", file).open(each, place="here") for each in sealed} == {"a secret"}


async def test_a_pod_with_another_key_does_not_start(tmp_path: Path) -> None:
    settings = Settings(database=f"sqlite:///{tmp_path / 'gatecast.db'}", migrate="always", secret_key=_setting(_OLD))
    async with EventHub.open(settings=settings, migrations=MIGRATIONS) as hub:
        opened = await open_control_plane(hub, settings, None)
        document = MODELS[LLM_PROVIDER.kind].model_validate(_PROVIDER)
        made = (await opened.artifacts.create("default", LLM_PROVIDER, document)).artifact
        other = replace(settings, secret_key=_setting(_NEW))
        with pytest.raises(SettingInvalid, match="every pod needs the same"):
            await open_control_plane(hub, other, None)
        both = replace(settings, secret_key=_setting(_NEW, _OLD))
        reopened = await open_control_plane(hub, both, None)
        found = await reopened.artifacts.get("default", LLM_PROVIDER, made.id)
        assert found.document == made.document


async def test_after_resealing_the_old_key_is_not_needed(open_hub: OpenHub) -> None:
    """In every table that holds something sealed; what another key sealed is never thrown away."""
    async with open_hub() as hub:
        database = hub.storage.database
        gateway = (await Gateways(hub).create("default", GatewayFields(name="edge"))).gateway.id
        old = ControlPlane.on(hub, Encryption([_OLD]))
        document = MODELS[LLM_PROVIDER.kind].model_validate({**_PROVIDER, "openapi": {"openapi": "3.1.0"}})
        made = (await old.artifacts.create("default", LLM_PROVIDER, document, gateways=[gateway])).artifact
        await old.imports.store("default", gateway, [{"dpid": "1", "status": "deployed", "configuration": {}}])
        plan = {"planId": "plan-1", "planName": "Gold", "status": "ACTIVE"}
        await old.subscriptions.publish(
            Event(
                gateway_id=gateway,
                type="subscriptionPlan.created",
                action=Action.CREATE,
                entity_type="subscriptionPlan",
                entity_id="plan-1",
                data=plan,
            )
        )
        with pytest.raises(SecretKeyMissing):
            await reseal(database, Encryption([_NEW]))
        assert await reseal(database, Encryption([_NEW, _OLD])) == 6
        assert await reseal(database, Encryption([_NEW, _OLD])) == 0
        new = ControlPlane.on(hub, Encryption([_NEW]))
        assert (await new.artifacts.get("default", LLM_PROVIDER, made.id)).document == made.document
        assert (await new.files.content(gateway, LLM_PROVIDER, made.id)).text
        [secret] = await new.files.secrets(gateway, with_values=True)
        assert secret.value == "Bearer a-credential"
        [record] = await new.subscriptions.plans(gateway)
        assert record.fields == plan
        assert _sealed_columns() == {
            "gatecast_contents.document",
            "gatecast_secrets.value",
            "gatecast_contents.content",
            "gatecast_imported_artifacts.configuration",
            "gatecast_subscription_records.body",
            "gatecast_openapi.document",
        }


def _sealed_columns() -> set[str]:
    """Every column of the control plane's tables that holds sealed values."""
    migrations = Path(str(resources.files("gatecast.controlplane.migrations"))).glob("*.sql")
    found: set[str] = set()
    for text in (path.read_text("utf-8") for path in migrations):
        for table, body in re.findall(r"CREATE TABLE (\w+) \((.*?)^\);", text, re.DOTALL | re.MULTILINE):
            found |= {f"{table}.{column}" for column in re.findall(r"(\w+)\s+bytea", body)}
    return found
