"""A real browser before real pods: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import BrowserContext, Page, async_playwright

from gatecast.testing.operator import Operator
from gatecast.testing.pods import RunningPod
from gatecast.testing.processes.deployment import Deployment, address_of
from gatecast.testing.tcp_proxy import TcpProxy

ADMIN_TOKEN = "an-admin-token-for-tests"

_SECRET_KEY = "c2VjcmV0LWtleS1mb3ItdGVzdHMtb25seS0zMi1ieXQ="

#: It talks to loopback and to nobody else.
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
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
    """Two pods, somebody who operates them, and a way to them that can be turned to the other pod."""

    deployment: Deployment
    pods: list[RunningPod]
    operator: Operator
    balancer: TcpProxy
    context: BrowserContext
    #: What the browser complained of, and whom else it asked.
    complaints: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the console is."""
        return f"http://{self.balancer.address}"

    async def open(self, path: str = "/", *, logged_in: bool = True, token: str = ADMIN_TOKEN) -> Page:
        """A page of the console in a tab of its own."""
        page = await self.context.new_page()
        page.on("console", lambda message: self._complain(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._watch(request.url))
        if logged_in:
            await page.goto(f"{self.url}/login")
            if urlsplit(page.url).path == "/login":
                await page.fill("#token", token)
                await page.click("button.primary")
        await page.goto(f"{self.url}{path}")
        return page

    def _complain(self, kind: str, text: str) -> None:
        # A refused form, a session that ended and a database that is away are answers, and the browser says so; so does
        # whoever follows a stream when its pod dies.
        answers = [f"status of {status}" for status in (401, 403, 404, 409, 422, 503)]
        if kind == "error" and not any(each in text for each in (*answers, *_OF_A_POD_THAT_IS_AWAY)):
            self.complaints.append(text)

    def _watch(self, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != self.balancer.address:
            self.complaints.append(f"asked {url}")


OpenStage = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture(autouse=True)
def prepared(pod_template: object) -> None:
    """No test's time limit includes the imports of its pods."""


@pytest.fixture
def open_stage(tmp_path: Path) -> OpenStage:
    """Starts pods and a browser; afterwards nobody may have complained."""

    @asynccontextmanager
    async def opened(database: str = "", pods: int = 1, **options: Any) -> AsyncIterator[Stage]:  # noqa: ANN401 - of the browser's context
        async with AsyncExitStack() as stack:
            url = database or f"sqlite:///{tmp_path / 'gatecast.db'}"
            deployment = await stack.enter_async_context(Deployment(url, secret_key=_SECRET_KEY))
            running = await deployment.start(*[f"pod-{number + 1}" for number in range(pods)])
            balancer = await stack.enter_async_context(TcpProxy(address_of(running[0].api)))
            playwright = await stack.enter_async_context(async_playwright())
            browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGUMENTS)
            stack.push_async_callback(browser.close)
            context = await browser.new_context(**{"viewport": {"width": 1600, "height": 1000}, **options})
            context.set_default_timeout(30_000)
            place = Stage(deployment, running, await deployment.operator(running[0]), balancer, context)
            yield place
            assert place.complaints == []

    return opened
