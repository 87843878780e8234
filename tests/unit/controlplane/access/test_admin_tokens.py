"""Who may administer an organization."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from gatecast.controlplane.access.admin_tokens import DEFAULT_ORGANIZATION, AdminTokens
from gatecast.errors import InvalidValue
from gatecast.hub import EventHub

OpenHub = Callable[[], AbstractAsyncContextManager[EventHub]]


async def test_the_first_start_makes_a_token_and_shows_it_once(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        tokens = AdminTokens(hub.storage)
        made = await tokens.prepare("")
        assert made is not None
        assert await tokens.organization_of(made) == DEFAULT_ORGANIZATION
        assert await AdminTokens(hub.storage).prepare("") is None
        assert await AdminTokens(hub.storage).organization_of(made) == DEFAULT_ORGANIZATION


async def test_pods_that_start_at_once_make_one_token(open_hub: OpenHub) -> None:
    async with open_hub() as one, open_hub() as two:
        made = await asyncio.gather(*(AdminTokens(hub.storage).prepare("") for hub in (one, two, one, two)))
        assert sum(token is not None for token in made) == 1


async def test_a_configured_token_takes_the_place_of_the_first_one(open_hub: OpenHub) -> None:
    """It is stored nowhere, so changing the setting revokes the old one."""
    async with open_hub() as hub:
        made = await AdminTokens(hub.storage).prepare("")
        assert made is not None
        configured = AdminTokens(hub.storage)
        assert await configured.prepare("a-token-from-settings") is None
        assert await configured.organization_of("a-token-from-settings") == DEFAULT_ORGANIZATION
        assert await configured.organization_of(made) is None
        changed = AdminTokens(hub.storage)
        await changed.prepare("another-of-settings")
        assert await changed.organization_of("a-token-from-settings") is None


async def test_a_configured_token_that_can_be_guessed_is_refused(open_hub: OpenHub) -> None:
    """And nobody gets in with it; the error does not repeat it."""
    async with open_hub() as hub:
        tokens = AdminTokens(hub.storage)
        with pytest.raises(InvalidValue, match="at least 16") as refused:
            await tokens.prepare("fifteen-letters")
        assert "fifteen" not in str(refused.value)
        assert await tokens.organization_of("fifteen-letters") is None
        assert await tokens.prepare("sixteen-letters!") is None


async def test_what_is_no_token_administers_nothing(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        tokens = AdminTokens(hub.storage)
        await tokens.prepare("")
        for guess in ("", "gca_", "x" * 5_000, "nul\x00", "\ud800"):
            assert await tokens.organization_of(guess) is None


async def test_s39_the_first_token_is_not_stored(open_hub: OpenHub) -> None:
    async with open_hub() as hub:
        made = await AdminTokens(hub.storage).prepare("")
        rows = await hub.storage.database.fetch("SELECT * FROM gatecast_admin_tokens")
    assert made is not None
    assert not any(made in str(value) for row in rows for value in row.values())
