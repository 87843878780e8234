"""With ten thousand gateways a page takes about as many statements and bytes as with a few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from gatecast.controlplane.catalog.artifact_kinds import MCP_PROXY
from gatecast.controlplane.documents import MODELS
from gatecast.server.admin_api import AdminContext

_MANY = 10_000

#: Bytes of the largest page: a hundred gateways to choose from, or fifty rows.
_MOST_BYTES = 150_000

_GATEWAYS = f"""
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {_MANY})
INSERT INTO gatecast_gateways (id, organization, name, display_name, description, vhost, type, connection_policy,
                               properties, version, created_at, updated_at)
SELECT 'gateway-' || n, 'default', 'edge ' || n, '', '', '', 'regular', 'all', '{{}}', 1, now(), now() FROM numbers
"""

_LOGS = {
    "postgresql": "INSERT INTO gatecast.gateway_streams (gateway_id, registered_in) "
    "SELECT id, current FROM gatecast_gateways, gatecast.epoch",
    "sqlite": "INSERT INTO gatecast_gateway_streams (gateway_id, log_id, changed_seq, registered_in) "
    "SELECT g.id, g.rowid, g.rowid, current FROM gatecast_gateways AS g, gatecast_epoch",
}


async def _fill(context: AdminContext) -> None:
    [kind] = [name for name in _LOGS if context.settings.database.startswith(name)]
    async with context.hub.storage.database.transaction() as transaction:
        await transaction.execute(_GATEWAYS)
        await transaction.execute(_LOGS[kind])


class _Statements:
    """Counts the statements that are asked of a database outside of transactions."""

    def __init__(self, context: AdminContext, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        database = type(context.hub.storage.database)
        fetch = database.fetch

        async def counted(itself: Any, *arguments: Any) -> Any:  # noqa: ANN401 - as it is
            self.count += 1
            return await fetch(itself, *arguments)

        monkeypatch.setattr(database, "fetch", counted)


async def _page(browser: httpx.AsyncClient, statements: _Statements, path: str) -> tuple[int, int]:
    before = statements.count
    answer = await browser.get(path)
    assert answer.status_code == 200, path
    return len(answer.content), statements.count - before


async def test_pages_are_bounded_in_statements_and_bytes(
    open_console: Callable[..., Any], log_in: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        await _fill(context)
        statements = _Statements(context, monkeypatch)
        # Each gateway that is listed as in need of attention is explained by itself, and there are at most twenty.
        for path, most in (("/", 200), ("/gateways", 15), ("/llm-providers/new", 15), ("/rollouts", 15)):
            size, count = await _page(browser, statements, path)
            assert size <= _MOST_BYTES, path
            assert count <= most, path
        shown = await browser.get("/gateways?sort=last-seen&q=edge%201")
        assert "of 1,112 that match" in shown.text
        form = await browser.get("/llm-providers/new?gateway_q=9999")
        assert "edge 9999" in form.text
        assert "9,999 more" in form.text


async def test_an_artifact_of_many_gateways_is_deployed_to_one_by_its_name(
    open_console: Callable[..., Any], log_in: Callable[..., Any]
) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        await _fill(context)
        body = {"name": "Tools", "version": "v1.0", "upstream": {"url": "https://mcp.example.test/mcp"}}
        document = MODELS[MCP_PROXY.kind].model_validate(body)
        made = (await context.control_plane.artifacts.create("default", MCP_PROXY, document)).artifact
        shown = await browser.get(f"/mcp-proxies/{made.id}")
        assert len(shown.content) <= _MOST_BYTES
        await browser.post(f"/mcp-proxies/{made.id}/deploy", data={"gateway": "edge 7777"})
        shown = await browser.get(f"/mcp-proxies/{made.id}")
        assert "edge 7777" in shown.text
        assert "1 pending" in shown.text
