"""Pages that search events and manage templates, and what charts are drawn from, on every database."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import httpx
import pytest

from gatecast.controlplane.access.admin_tokens import Role
from gatecast.controlplane.access.gateways import GatewayFields
from gatecast.events import Action, Event
from gatecast.server.admin_api import AdminContext, shared_looks
from gatecast.server.console.pages import gateway

OpenConsole: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, AdminContext]]]
LogIn: TypeAlias = Callable[..., Awaitable[None]]

_UPSTREAM = {
    "url": "https://api.openai.com/v1",
    "auth": {"type": "api-key", "header": "Authorization", "value": "Bearer a-credential"},
}

_TEMPLATE = {"name": "Möglich AI", "endpoint_url": "https://llm.example.test/v1", "header": "X-Key", "value_prefix": ""}


async def _gateway(context: AdminContext, organization: str = "default", name: str = "edge") -> str:
    return (await context.gateways.create(organization, GatewayFields(name=name))).gateway.id


async def _publish(context: AdminContext, gateway_id: str, **fields: Any) -> None:  # noqa: ANN401 - of events
    values = {"type": "api.updated", "action": Action.UPDATE, "entity_type": "Api", "entity_id": "a"} | fields
    await context.hub.publish(Event(gateway_id=gateway_id, **values))


async def test_events_are_searched_by_the_name_of_a_gateway(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        assert "No gateway yet" in (await browser.get("/events")).text
        gateway_id = await _gateway(context)
        await _publish(context, gateway_id)
        await _publish(context, gateway_id, type="api.deployed", entity_id="<b>")
        for named in ("edge", gateway_id):
            found = await browser.get("/events", params={"gateway": named, "type": "api.deployed"})
            assert f'href="/gateways/{gateway_id}/events/2"' in found.text
            assert "/events/1" not in found.text
            assert "&lt;b&gt;" in found.text
            assert 'value="edge"' in found.text
        nothing = await browser.get("/events?gateway=edge&until=2020-01-01T00:00")
        assert "No event matches" in nothing.text
        for wrong in ("gateway=nobody", "gateway=edge&since=yesterday"):
            refused = await browser.get(f"/events?{wrong}")
            assert (refused.status_code, 'role="alert"' in refused.text) == (422, True)


async def test_s31_events_of_another_organization_are_not_found(open_console: OpenConsole, log_in: LogIn) -> None:
    """Neither by its gateway's id nor by its name."""
    async with open_console() as (browser, context):
        await log_in(browser)
        foreign = await _gateway(context, "other", "theirs")
        await _publish(context, foreign)
        for named in (foreign, "theirs"):
            found = await browser.get("/events", params={"gateway": named})
            assert found.status_code == 422
            assert "api.updated" not in found.text


async def test_a_gateway_that_was_deleted_a_moment_ago_does_not_hide_the_others(
    open_console: OpenConsole, log_in: LogIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The overview lists gateways as they were a moment ago."""
    monkeypatch.setattr(shared_looks, "FRESH", float("inf"))
    async with open_console() as (browser, context):
        await log_in(browser)
        deleted, _ = await _gateway(context, name="deleted"), await _gateway(context, name="remaining")
        assert "/gateways/" + deleted in (await browser.get("/")).text
        await context.gateways.delete("default", deleted)
        overview = await browser.get("/")
        assert (overview.status_code, "remaining" in overview.text) == (200, True)


async def test_an_open_page_of_what_was_deleted_loads_again(open_console: OpenConsole, log_in: LogIn) -> None:
    """And then says so, instead of showing its last state for ever."""
    async with open_console() as (browser, context):
        await log_in(browser)
        gateway_id = await _gateway(context)
        page = f"/gateways/{gateway_id}"
        turned = {"HX-Request": "true"}
        assert "HX-Refresh" not in (await browser.get(page, headers=turned)).headers
        await context.gateways.delete("default", gateway_id)
        assert (await browser.get(page, headers=turned)).headers["HX-Refresh"] == "true"
        opened = await browser.get(page)
        assert (opened.status_code, "HX-Refresh" in opened.headers) == (404, False)


@pytest.mark.parametrize("name", ["edge", 'a "quoted" $HOME `id` back\\slash', "بوابة 网关"])
def test_the_settings_of_a_controller_are_toml_as_a_file_and_from_a_shell(name: str) -> None:
    """Whatever the gateway is called; the token comes from the environment."""
    enrolment = gateway.Enrolment(host="pod:9243", token="secret", name=name, self_made_certificate=True)
    script = f"cat <<END\n{enrolment.in_shell}\nEND\n"
    ran = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={"GATEWAY_TOKEN": "secret"})
    for text in (enrolment.file, ran.stdout.decode()):
        assert tomllib.loads(text) == {
            "controller": {
                "controlplane": {
                    "host": "pod:9243",
                    "token": "secret",
                    "insecure_skip_verify": True,
                    "deployment_sync_enabled": True,
                },
                "server": {"gateway_id": name},
            }
        }


async def test_the_audit_log_calls_a_change_the_same_at_both_doors_and_says_what_it_was_about(
    open_console: OpenConsole, log_in: LogIn
) -> None:
    """Also where a form is answered with a redirect to another page."""
    async with open_console() as (browser, context):
        await log_in(browser)
        api = {"Authorization": "Bearer default-admin-token"}
        provider = {"name": "OpenAI", "version": "v1.0", "template": "openai", "upstream": _UPSTREAM}
        ids = [(await browser.post("/api/v1/llm-providers", headers=api, json=provider)).json()["id"]]
        gateway_id = await _gateway(context)
        form = {"name": "Other", "version": "v1.0", "template": "openai", "api_key": "k", "gateways": gateway_id}
        added = await browser.post("/llm-providers/new", data=form)
        ids.append(added.headers["location"].rpartition("/")[2])
        await browser.delete(f"/api/v1/llm-providers/{ids[0]}", headers=api)
        await browser.post(f"/llm-providers/{ids[1]}/delete")
        entity = {"entity_type": "Route", "entity_id": "route-7"}
        await browser.post(f"/gateways/{gateway_id}/parked/skip", data=entity)
        entries = (await browser.get("/api/v1/audit", headers=api)).json()["items"]
        assert [(each["action"], each["target"], each["status"]) for each in entries[::-1]] == [
            ("create_llm_provider", f"/api/v1/llm-providers/{ids[0]}", 201),
            ("create_llm_provider", f"/llm-providers/{ids[1]}", 303),
            ("delete_llm_provider", f"/api/v1/llm-providers/{ids[0]}", 204),
            ("delete_llm_provider", f"/llm-providers/{ids[1]}/delete", 303),
            ("skip_parked", f"/gateways/{gateway_id}/parked/skip?entity_type=Route&entity_id=route-7", 404),
        ]
        shown = (await browser.get("/audit")).text
        assert "Create LLM provider" in shown
        assert f'<a href="/llm-providers/{ids[1]}">' in shown


async def test_an_event_shows_the_trace_of_its_change(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        gateway_id = await _gateway(context)
        await _publish(context, gateway_id)
        await _publish(context, gateway_id, trace_parent=f"00-{'ab' * 16}-{'cd' * 8}-01")
        assert "Copy trace id" not in (await browser.get(f"/gateways/{gateway_id}/events/1")).text
        assert f">{'ab' * 16}<" in (await browser.get(f"/gateways/{gateway_id}/events/2")).text


async def test_a_template_is_added_changed_and_deleted(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        added = await browser.post("/llm-templates/new", data=_TEMPLATE)
        assert added.headers["location"] == "/llm-templates"
        stored = await context.control_plane.templates.get("default", "moglich-ai")
        assert stored.template.auth is not None
        assert stored.template.auth.header == "X-Key"
        shown = await browser.get("/llm-templates/moglich-ai")
        assert "https://llm.example.test/v1" in shown.text
        changed = {**_TEMPLATE, "name": "Other", "version": str(stored.version)}
        assert (await browser.post("/llm-templates/moglich-ai", data=changed)).status_code == 303
        late = await browser.post("/llm-templates/moglich-ai", data={**changed, "name": "Third"})
        assert (late.status_code, 'value="Third"' in late.text) == (409, True)
        listed = await browser.get("/llm-templates")
        assert "Other" in listed.text
        await log_in(browser, "other-token")
        assert "Other" not in (await browser.get("/llm-templates")).text
        assert (await browser.get("/llm-templates/moglich-ai")).status_code == 404
        assert (await browser.post("/llm-templates/moglich-ai/delete")).status_code == 404
        await log_in(browser)
        assert (await browser.post("/llm-templates/moglich-ai/delete")).status_code == 303
        assert "Other" not in (await browser.get("/llm-templates")).text


async def test_every_wrong_field_of_a_template_is_named_and_nothing_typed_is_lost(
    open_console: OpenConsole, log_in: LogIn
) -> None:
    async with open_console() as (browser, _):
        await log_in(browser)
        wrong = {
            "name": "",
            "handle": "Not A Handle",
            "endpoint_url": "nowhere",
            "extractors": "{",
            "description": "mine",
        }
        refused = await browser.post("/llm-templates/new", data=wrong)
        assert refused.status_code == 422
        for field in ("name", "handle", "endpoint_url", "extractors"):
            assert f'id="{field}-error" >' in refused.text, field
        assert 'value="mine"' in refused.text
        taken = await browser.post("/llm-templates/new", data={"name": "Mine", "handle": "openai"})
        assert "is built in" in taken.text


async def test_a_built_in_template_and_a_viewer_change_nothing(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, context):
        await log_in(browser)
        shown = await browser.get("/llm-templates/openai")
        assert "readonly" in shown.text
        assert "Save" not in shown.text
        _, token = await context.admin_tokens.issue("default", Role.VIEWER)
        await log_in(browser, token)
        assert "Add template" not in (await browser.get("/llm-templates")).text
        assert (await browser.post("/llm-templates/new", data=_TEMPLATE)).status_code == 403


async def test_charts_are_drawn_from_what_the_api_tells(open_console: OpenConsole, log_in: LogIn) -> None:
    async with open_console() as (browser, _):
        assert (await browser.get("/console/history")).status_code == 303
        await log_in(browser)
        assert (await browser.get("/console/history")).json() == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("listen", "shown"),
    [
        ("127.0.0.1:9243", "127.0.0.1:9243"),
        ("gateways.example.test:443", "gateways.example.test:443"),
        ("0.0.0.0:9243", "pod.example.test:9243"),
        ("[::]:9243", "pod.example.test:9243"),
    ],
)
def test_settings_for_a_gateway_name_an_address_that_it_can_reach(listen: str, shown: str) -> None:
    """A pod that listens on every address is where the browser has found it."""
    assert gateway._gateway_host(listen, "pod.example.test") == shown
