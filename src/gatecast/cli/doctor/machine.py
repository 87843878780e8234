"""The doctor's checks of this machine: descriptors, certificate, listeners."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from cryptography import x509

from gatecast.cli.doctor.findings import Finding, ok, problem, warning
from gatecast.errors import SettingInvalid
from gatecast.hiding import redacted
from gatecast.server.descriptors import budget, raise_limit, sufficient
from gatecast.server.tls import GatewayTls
from gatecast.settings import Settings

#: Days before its expiry at which a certificate gets a warning.
_RENEW_WITHIN = 21

#: Longest wait for an answer, in seconds.
_TIME_LIMIT = 10.0

_NOT_READY = 503


def look_at_machine(settings: Settings) -> list[Finding]:
    """Whether this machine suffices for the settings."""
    return [_descriptors(settings), *_certificate(settings)]


def _descriptors(settings: Settings) -> Finding:
    descriptors = raise_limit()
    gateways = budget(settings, descriptors).gateways
    said = f"{descriptors:,} suffice for {gateways:,} gateways"
    if gateways < settings.max_connections:
        return warning(
            "descriptors",
            f"{said}, and GATECAST_MAX_CONNECTIONS is {settings.max_connections:,}",
            f"raise `ulimit -n` (LimitNOFILE=) to {sufficient(settings):,}, or lower GATECAST_MAX_CONNECTIONS",
        )
    return ok("descriptors", said)


def _certificate(settings: Settings) -> Iterator[Finding]:
    try:
        tls = GatewayTls(settings)
    except SettingInvalid as error:
        yield problem("certificate", str(error), "correct GATECAST_GATEWAY_TLS and GATECAST_GATEWAY_TLS_KEY")
        return
    if tls.renewable:
        yield _expiry("certificate", Path(settings.gateway_tls).read_bytes())
    elif tls.context is None:
        yield ok("certificate", "none: a proxy ends TLS in front of the gateway listener")
    else:
        yield ok("certificate", "each pod makes its own; gateways that verify certificates need one of yours")


def _expiry(check: str, pem: bytes) -> Finding:
    ends = min(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(pem))
    days = (ends - datetime.now(UTC)).days
    if days < 0:
        return problem(check, f"it ended at {ends.isoformat()}", "renew it: gateways that verify it are refused")
    if days < _RENEW_WITHIN:
        return warning(check, f"it ends in {days} days, at {ends.isoformat()}", "renew it; pods load the new file")
    return ok(check, f"valid for {days} more days")


async def look_at_listeners(settings: Settings, api: str, gateways: str) -> list[Finding]:
    """Whether a pod answers on both listeners; by default at the addresses of the settings."""
    scheme = "http" if settings.gateway_tls == "off" else "https"
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    limit = aiohttp.ClientTimeout(total=_TIME_LIMIT)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(timeout=limit, connector=connector) as session:
        return [
            await _api(session, api or f"http://{_reachable(settings.api_listen)}", named=bool(api)),
            await _gateways(
                session, gateways or f"{scheme}://{_reachable(settings.gateway_listen)}", named=bool(gateways)
            ),
        ]


def _reachable(address: str) -> str:
    """The address at which a pod on this machine that listens there is reached."""
    host, _, port = address.rpartition(":")
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]', '::': '[::1]'}.get(host, host) }:{port}"  # noqa: S104 - compared


async def _api(session: aiohttp.ClientSession, url: str, *, named: bool) -> Finding:
    try:
        async with session.get(f"{url.rstrip('/')}/readyz") as reply:
            answer = await reply.json(content_type=None)
        problems = ", ".join(map(str, answer["problems"]))
    except (aiohttp.ClientConnectorError, TimeoutError) as error:
        return _away("api listener", url, error, named=named)
    except (aiohttp.ClientError, ValueError, KeyError, TypeError) as error:
        return problem("api listener", f"{redacted(url)} answers, but not like a pod ({type(error).__name__})", _OTHER)
    if reply.status == _NOT_READY:
        return problem("api listener", f"the pod at {redacted(url)} is not ready: {problems}", "see the pod's log")
    return ok("api listener", f"the pod at {redacted(url)} is ready; wake-ups: {answer.get('wakeups', 'unknown')}")


_OTHER = "something else listens there; correct the address"


async def _gateways(session: aiohttp.ClientSession, url: str, *, named: bool) -> Finding:
    """Send a request without a token, which a pod refuses."""
    try:
        async with session.get(f"{url.rstrip('/')}/api/internal/v1/deployments") as reply:
            status = reply.status
    except (aiohttp.ClientConnectorError, TimeoutError) as error:
        return _away("gateway listener", url, error, named=named)
    except aiohttp.ClientError as error:
        advice = f"{_OTHER}, or speak http or https as GATECAST_GATEWAY_TLS says"
        return problem(
            "gateway listener", f"{redacted(url)} answers, but not like a pod ({type(error).__name__})", advice
        )
    if status != _UNAUTHENTICATED:
        return problem("gateway listener", f"{redacted(url)} answers {status} to a request without a token", _OTHER)
    return ok("gateway listener", f"{redacted(url)} answers")


_UNAUTHENTICATED = 401


def _away(check: str, url: str, error: Exception, *, named: bool) -> Finding:
    reason = "no answer in time" if isinstance(error, TimeoutError | asyncio.TimeoutError) else "nobody listens there"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        reason = "the host is not known"
    said = f"{redacted(url)}: {reason}"
    if named:
        return problem(check, said, "check the address, the firewall, and that the pod runs")
    return warning(check, said, "start a pod here, or name one with --url and --gateway-url")
