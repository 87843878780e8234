"""`gatecast reseal`: replace the key that encrypts stored artifacts."""

from __future__ import annotations

import asyncio

from gatecast.cli.databases import open_tables
from gatecast.cli.options import with_settings
from gatecast.cli.output import JsonFlag, print_json, progress, screen
from gatecast.controlplane.encryption import encryption_for, local_key_file
from gatecast.controlplane.key_rotation import reseal as reseal_all
from gatecast.settings import Settings


@with_settings("database", "outbox", "pooler", "secret_key")
def reseal(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Rotate the secret key: encrypt stored data with the first key, so that you can remove older keys.

    First put the new key before the old one on every pod. You may repeat this, and run it while pods run.
    """
    with progress("encrypting"):
        count = asyncio.run(_reseal(settings))
    if as_json:
        print_json({"resealed": count})
    elif count:
        screen.print(f"encrypted {count:,} values with the first key; you can remove the others")
    else:
        screen.print("everything is already encrypted with the first key; you can remove the others")


async def _reseal(settings: Settings) -> int:
    async with open_tables(settings) as opened:
        # Only now: it creates a missing key for a database on this machine.
        encryption = encryption_for(settings.secret_key, local_key_file(settings.tables))
        return await reseal_all(opened.storage.database, encryption)
