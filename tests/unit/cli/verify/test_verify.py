"""`gatecast verify` says which promise an installation breaks, with exit status 1, and cleans up as well as it can."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import typer
from aiohttp import web

from gatecast.cli.remote import RequestRefused
from gatecast.cli.verify import checks, safety, verify
from gatecast.client import GatewayEvent
from gatecast.server.pod import Pod
from gatecast.settings import Settings
from gatecast.testing.doubles.recording_gateway import RecordingGateway

pytestmark = pytest.mark.slow

TOKEN = "an-admin-token-for-tests"

#: Answers a request in the pod's place: method, path, body; None: the pod answers.
Lie = Callable[[str, str, Any], web.Response | None]


@pytest.fixture(autouse=True)
def wait_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not come soon does not come."""
    monkeypatch.setattr(checks, "_PATIENCE", 5.0)
    monkeypatch.setattr(safety, "_PATIENCE", 3.0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a pod that keeps its promises."""
    return Settings(
        database=f"sqlite:///{tmp_path / 'events.db'}",
        api_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        gateway_tls="off",
        admin_token=TOKEN,
        drain_time=timedelta(seconds=4),
    )


def _honest(_method: str, _path: str, _body: object) -> None:
    return None


@asynccontextmanager
async def _front(api: str, lie: Lie) -> AsyncIterator[str]:
    """The admin API with someone in front who does not always tell the truth."""

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if (lied := lie(request.method, request.path, json.loads(body) if body else None)) is not None:
            return lied
        headers = {"Authorization": request.headers["Authorization"], "Content-Type": "application/json"}
        async with session.request(request.method, request.path_qs, data=BytesIO(body), headers=headers) as reply:
            return web.Response(status=reply.status, body=await reply.read(), content_type="application/json")

    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    async with aiohttp.ClientSession(base_url=api) as session:
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


async def _verify(
    settings: Settings, capsys: pytest.CaptureFixture[str], *lies: Lie
) -> tuple[int, Mapping[str, str], list[str]]:
    """Exit status, the detail of each broken promise, and which gateways are left; each liar has an API of its own."""
    async with Pod.open(settings) as pod, AsyncExitStack() as stack:
        pod.hurried.set()  # when it stops, which nobody watches
        apis = [await stack.enter_async_context(_front(pod.api_url, lie)) for lie in lies or (_honest,)]
        gateways = [pod.gateway_url] * len(apis)
        try:
            await asyncio.to_thread(verify, url=apis, gateways=gateways, token=TOKEN, count=2, events=10, as_json=True)
        except typer.Exit as end:
            status = end.exit_code
        except RequestRefused as refusal:
            return 1, {"": str(refusal)}, await _names(pod)
        left = await _names(pod)
    findings = json.loads(capsys.readouterr().out)["findings"]
    return status, {each["promise"]: each["detail"] for each in findings if not each["held"]}, left


async def _names(pod: Pod) -> list[str]:
    return [each.fields.name for each in await pod.gateways.page("default", after="", limit=100)]


def _recorder(change: Callable[[int], int]) -> type[RecordingGateway]:
    """A gateway that hears each event so many times."""

    class _Dishonest(RecordingGateway):
        async def _record(self, event: GatewayEvent) -> None:
            for _ in range(change(event.position.offset)):
                await super()._record(event)

    return _Dishonest


async def test_an_honest_installation_breaks_no_promise(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert await _verify(settings, capsys, _honest, _honest) == (0, {}, [])


async def test_an_event_that_is_dropped_is_found(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "RecordingGateway", _recorder(lambda offset: int(offset != 7)))
    status, broken, _ = await _verify(settings, capsys)
    assert status == 1
    assert broken == {"P2 P3 P5 ordered, complete, resumed": "8 came after 6: something is missing"}


async def test_events_that_are_repeated_without_need_are_found(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "RecordingGateway", _recorder(lambda _: 2))
    status, broken, _ = await _verify(settings, capsys)
    assert status == 1
    assert "rewinds" in broken["P2 P3 P5 ordered, complete, resumed"]


async def test_a_publish_that_is_refused_in_the_middle_is_a_finding_and_no_crash(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Workers that publish together fail as a group; the report says what each of them was told, once."""
    published = 0

    def refuse(method: str, path: str, _body: object) -> web.Response | None:
        nonlocal published
        published += method == "POST" and path.endswith("/events")
        return web.json_response({"detail": "no more today"}, status=403) if published > 5 else None

    status, broken, _ = await _verify(settings, capsys, refuse)
    assert status == 1
    assert "no more today" in broken["P1 durable: every publish is answered"]


async def test_an_event_id_that_is_stored_twice_is_found(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    offsets = iter((1, 2))

    def answer(_method: str, path: str, body: Any) -> web.Response | None:  # noqa: ANN401 - JSON
        if path.endswith("/events") and body.get("type") == "verify" and "eventId" in body:
            return web.json_response({"offset": next(offsets)}, status=201)
        return None

    status, broken, _ = await _verify(settings, capsys, answer)
    assert (status, broken) == (1, {"P1 a repeated event id is stored once": "stored at 1 and again at 2"})


async def test_a_revocation_that_is_answered_and_not_done_is_found(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def swallow(method: str, path: str, _body: object) -> web.Response | None:
        return web.Response(status=204) if method == "DELETE" and "/tokens/" in path else None

    status, broken, _ = await _verify(settings, capsys, _honest, swallow)
    assert status == 1
    assert broken == {"P9 safe: a revoked token closes its connection": "the connection was not closed within 3 s"}


async def test_an_answer_of_another_shape_is_a_finding(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that is something else altogether does not crash the command."""

    def answer(method: str, path: str, _body: object) -> web.Response | None:
        ours = method == "GET" and path.startswith("/api/v1/gateways/")
        return web.json_response({"state": "fine"}) if ours else None

    status, broken, _ = await _verify(settings, capsys, answer)
    assert status == 1
    assert broken["P4 confirmed: positions reach the heads"] == "KeyError: 'position'"


async def test_what_one_pod_does_not_delete_another_deletes(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(method: str, path: str, _body: object) -> web.Response | None:
        return web.json_response({"detail": "not now"}, status=503) if _deletes_gateway(method, path) else None

    assert await _verify(settings, capsys, refuse, _honest) == (0, {}, [])


async def test_what_nobody_deletes_is_reported_and_the_rest_is_deleted(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    refused: list[str] = []

    def refuse(method: str, path: str, _body: object) -> web.Response | None:
        if not _deletes_gateway(method, path) or (refused and path not in refused):
            return None
        refused.append(path)
        return web.json_response({"detail": "not now"}, status=503)

    status, broken, left = await _verify(settings, capsys, refuse, refuse)
    assert (status, list(broken), len(left)) == (1, ["clean-up: nothing is left behind"], 1)
    assert "(not now)" in broken["clean-up: nothing is left behind"]


async def test_a_gateway_that_was_made_without_an_answer_is_deleted_as_well(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tokens are refused: verification cannot begin, and the gateway it has made by then goes again."""

    def refuse(method: str, path: str, _body: object) -> web.Response | None:
        lies = method == "POST" and path.endswith("/tokens")
        return web.json_response({"detail": "no tokens"}, status=403) if lies else None

    assert await _verify(settings, capsys, refuse) == (1, {"": "no tokens"}, [])


def _deletes_gateway(method: str, path: str) -> bool:
    return method == "DELETE" and "/tokens/" not in path
