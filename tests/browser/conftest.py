"""A real browser before real pods: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright, expect

from gatecast.controlplane.access.admin_tokens import AdminTokens, Role
from gatecast.storage.connect import open_storage
from gatecast.testing.operator import Operator
from gatecast.testing.pods import RunningPod
from gatecast.testing.processes.deployment import Deployment, address_of
from gatecast.testing.tcp_proxy import TcpProxy

_SECRET_KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0zMi1ieXQ="

#: Of several switches that leave features out the last one counts, so this repeats what Playwright leaves out.
_OF_PLAYWRIGHT = (
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "LensOverlay"),
    *("HttpsFirstBalancedModeAutoEnable", "MediaRouter", "PaintHolding", "ThirdPartyStoragePartitioning"),
    *("AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled"),
    "PreconnectToSearch",
)

#: Each window would draw suggestions for an address line that nobody sees, in a process of its own: half of its cost.
_SUGGESTIONS = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup")

#: After each page a process would be started for the next one: a fifth of what a page costs.
_PROCESS_IN_ADVANCE = "SpareRendererForSitePerProcess"

_LEFT_OUT = (*_OF_PLAYWRIGHT, *_SUGGESTIONS, _PROCESS_IN_ADVANCE)

#: It talks to loopback and to nobody else.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--disable-features={','.join(_LEFT_OUT)}",
]

#: What the browser and htmx say of requests and streams that break off.
_OF_A_POD_THAT_IS_AWAY = (
    "ERR_",
    "[object Event]",
    "htmx:afterRequest",
    "htmx:sendError",
    "htmx:responseError",
    "htmx:sseError",
)

_CHROMIUM = os.environ.get("GATECAST_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

_organizations = itertools.count(1)

#: What is expected is waited for so long, on a busy machine, too; in milliseconds.
_PATIENCE = 30_000

expect.set_options(timeout=_PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a browser these tests are left out, and say so; on a build machine that is an error."""
    if _CHROMIUM is not None:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            if os.environ.get("CI"):
                raise pytest.UsageError("the browser tests need Chromium: apt-get install chromium")
            item.add_marker(pytest.mark.skip(reason="needs Chromium: apt-get install chromium"))


@dataclass
class Stage:
    """Pods, an operator of one organization, and an address that can be redirected to another pod."""

    database: str
    pods: list[RunningPod]
    operator: Operator
    balancer: TcpProxy
    context: BrowserContext
    organization: str
    #: An admin token of the organization.
    token: str
    #: What the browser complained of, and whom else it asked.
    complaints: list[str] = field(default_factory=list)
    #: Whom else it may ask: host and port.
    allowed: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where the console is."""
        return f"http://{self.balancer.address}"

    async def open(self, path: str = "/", *, logged_in: bool = True, token: str = "") -> Page:
        """A page of the console in a tab of its own."""
        page = await self.context.new_page()
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._watch(request.url))
        if logged_in:
            await page.goto(f"{self.url}/login")
            await self.log_in(page, token or self.token)
        await page.goto(f"{self.url}{path}")
        return page

    async def log_in(self, page: Page, token: str) -> None:
        """Type an admin token on the page that asks for one."""
        await page.fill("#token", token)
        await page.click("button.primary")
        await page.wait_for_url(lambda url: urlsplit(url).path != "/login")

    async def issue(self, organization: str = "", role: Role = Role.ADMIN) -> str:
        """Another token: of this organization, or of a further one."""
        return await _issue(self.database, organization or self.organization, role)

    def _complain(self, kind: str, text: str) -> None:
        # A refused form, a session that ended, a balancer without a pod and a database that is away are answers, and
        # the browser logs them; so does a page that follows a stream when its pod dies.
        statuses = (401, 403, 404, 409, 422, 502, 503)
        answers = [f"{words} {status}" for words in ("status of", "Error Code") for status in statuses]
        if kind == "error" and not any(each in text for each in (*answers, *_OF_A_POD_THAT_IS_AWAY)):
            self.complaints.append(text)

    def _watch(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.netloc not in {self.balancer.address, *self.allowed}:
            self.complaints.append(f"asked {url}")


OpenStage = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture(autouse=True)
def prepared(pod_template: object) -> None:
    """No test's time limit includes the imports of its pods."""


async def _issue(database: str, organization: str, role: Role = Role.ADMIN) -> str:
    async with open_storage(database) as opened:
        _, token = await AdminTokens(opened.storage).issue(organization, role)
    return token


@dataclass(frozen=True)
class _Pods:
    """Pods that run, and their database."""

    database: str
    running: list[RunningPod]


@asynccontextmanager
async def _started(database: str, pods: int, settings: dict[str, str]) -> AsyncIterator[_Pods]:
    async with Deployment(database, secret_key=_SECRET_KEY, **settings) as deployment:
        yield _Pods(database, await deployment.start(*[f"pod-{number + 1}" for number in range(pods)]))


@pytest.fixture(scope="module")
def shared_pod(tmp_path_factory: pytest.TempPathFactory, pod_template: object) -> Iterator[_Pods]:
    """One pod for the tests of a file, each of which has an organization of its own. It lives in a loop of its own."""
    del pod_template
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="shared-pod")
    thread.start()
    started = _started(f"sqlite:///{tmp_path_factory.mktemp('shared') / 'gatecast.db'}", 1, {})
    try:
        yield asyncio.run_coroutine_threadsafe(started.__aenter__(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(started.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Chromium:
    """One browser for all tests of a process, each with a profile of its own in it; begun again if it died."""

    def __init__(self, playwright: Playwright) -> None:
        self._playwright = playwright
        self._browser: Browser | None = None

    @asynccontextmanager
    async def context(self, **options: Any) -> AsyncIterator[BrowserContext]:  # noqa: ANN401 - of the browser's context
        if self._browser is None or not self._browser.is_connected():
            self._browser = await self._playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
        context = await self._browser.new_context(**{"viewport": {"width": 1600, "height": 1000}, **options})
        context.set_default_timeout(_PATIENCE)
        try:
            yield context
        finally:
            await context.close()


@pytest.fixture(scope="session")
def long_runner() -> Iterator[asyncio.Runner]:
    """Keeps the event loop in which the browser is known from test to test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def chromium(long_runner: asyncio.Runner) -> Iterator[_Chromium]:
    """The browser."""
    opened = async_playwright()
    playwright = long_runner.run(opened.__aenter__())
    yield _Chromium(playwright)
    long_runner.run(opened.__aexit__(None, None, None))


@pytest.fixture
def nothing_runs_on(long_runner: asyncio.Runner, chromium: _Chromium) -> Iterator[None]:
    """What a test has begun in the loop that goes on ends with it."""
    del chromium
    before = asyncio.all_tasks(long_runner.get_loop())
    yield
    long_runner.run(_end(before))


async def _end(spared: set[asyncio.Task[Any]]) -> None:
    begun = asyncio.all_tasks() - spared - {asyncio.current_task()}
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)


@pytest.fixture
def open_stage(shared_pod: _Pods, chromium: _Chromium, nothing_runs_on: None, tmp_path: Path) -> OpenStage:
    """Opens the browser before the file's pod, or before pods of the test's own; afterwards nobody may have complained.

    A test that harms its pods, or needs other settings, names their number, a database, or settings.
    """
    del nothing_runs_on

    @asynccontextmanager
    async def opened(
        database: str = "",
        pods: int = 0,
        settings: dict[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - of the browser's context
    ) -> AsyncIterator[Stage]:
        async with AsyncExitStack() as stack:
            own = f"sqlite:///{tmp_path / 'gatecast.db'}"
            found = shared_pod
            if database or pods or settings:
                found = await stack.enter_async_context(_started(database or own, pods or 1, settings or {}))
            organization = f"organization-{next(_organizations)}"
            token = await _issue(found.database, organization)
            balancer = await stack.enter_async_context(TcpProxy(address_of(found.running[0].api)))
            operator = await stack.enter_async_context(Operator(found.running[0].api, token))
            context = await stack.enter_async_context(chromium.context(**options))
            place = Stage(found.database, found.running, operator, balancer, context, organization, token)
            yield place
            assert place.complaints == []

    return opened
