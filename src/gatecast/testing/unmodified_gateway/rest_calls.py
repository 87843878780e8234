"""The REST calls of the gateway, one method per kind of answer (gateway-protocol.md 3)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

from gatecast.testing.unmodified_gateway.connection import Dialer
from gatecast.testing.unmodified_gateway.messages import Fields, Unparsable
from gatecast.testing.unmodified_gateway.packages import documents_by_deployment, first_document
from gatecast.testing.unmodified_gateway.steps import Schedule, natural_order

_HTTP_OK = 200


class CallFailed(Exception):
    """A call did not succeed."""

    def __init__(self, path: str, status: int | None, problem: str = "") -> None:
        super().__init__(path, status, problem)
        #: The path below the base.
        self.path = path
        #: The HTTP status, or None when there was no usable answer.
        self.status = status
        #: More about it.
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.status or 'no answer'} {self.problem}".rstrip()


class RestCalls:
    """Calls below the base URL that discovery ended with. Nothing here retries."""

    def __init__(
        self, session: aiohttp.ClientSession, dialer: Dialer, token: str, *, step: Schedule = natural_order
    ) -> None:
        self._session = session
        self._step = step
        self._dialer = dialer
        self._headers = {"api-key": token, "Accept": "application/json", "Accept-Encoding": "gzip"}

    async def get(self, path: str, **query: str) -> object:
        """The decoded JSON of a 200."""
        return await self._json("GET", path, params=query)

    async def post(self, path: str, body: Mapping[str, Any]) -> object:
        """The decoded JSON of a 200."""
        return await self._json("POST", path, json=body)

    async def document(self, path: str, artifact_id: str) -> str:
        """Text of an artifact's YAML; Rejected when the ZIP cannot be used."""
        headers = {"Accept": "application/zip"}
        return first_document(await self._read("GET", f"/{path}/{artifact_id}", headers=headers))

    async def documents(self, deployment_ids: Sequence[str]) -> dict[str, str]:
        """Texts of many deployments, by id; Rejected when the tar.gz cannot be used."""
        headers = {"Accept": "application/x-tar+gzip"}
        body = {"deploymentIds": list(deployment_ids)}
        return documents_by_deployment(await self._read("POST", "/deployments/fetch-batch", headers=headers, json=body))

    async def push_manifest(self, gateway_id: str, manifest: Mapping[str, Any]) -> None:
        """Announce release and policies."""
        await self._read("POST", f"/gateways/{gateway_id}/manifest", accepted=(200, 204), json=manifest)

    async def push_import(self, package: bytes, total: int) -> dict[str, str]:
        """Announce what was made on the gateway itself; the control plane's id for each local one that it took."""
        form = aiohttp.FormData()
        form.add_field("artifacts", package, filename="artifacts.zip", content_type="application/octet-stream")
        form.add_field("total", str(total))
        answer = await self._json("POST", "/artifacts/import-gateway-artifacts", accepted=(200, 201), data=form)
        try:
            return _taken_ids(answer)
        except Unparsable as problem:
            raise CallFailed("/artifacts/import-gateway-artifacts", None, f"unusable answer: {problem}") from problem

    async def _json(self, method: str, path: str, **arguments: Any) -> object:  # noqa: ANN401 - aiohttp's own
        body = await self._read(method, path, **arguments)
        try:
            decoded: object = json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise CallFailed(path, None, "the answer is not JSON") from problem
        return decoded

    async def _read(
        self,
        method: str,
        path: str,
        *,
        accepted: tuple[int, ...] = (_HTTP_OK,),
        headers: Mapping[str, str] | None = None,
        **arguments: Any,  # noqa: ANN401 - aiohttp's own
    ) -> bytes:
        await self._step(f"{method} {path}")
        try:
            async with self._session.request(
                method,
                self._dialer.rest_base + path,
                headers=self._headers | dict(headers or {}),
                allow_redirects=False,
                **arguments,
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            raise CallFailed(path, None, repr(problem)) from problem
        await self._step(f"answered {method} {path}")
        if answer.status not in accepted:
            raise CallFailed(path, answer.status)
        return body


def _taken_ids(answer: object) -> dict[str, str]:
    """What the gateway reads of the answer to an import; raises Unparsable when a field has the wrong type."""
    fields = Fields(answer)
    for name in ("total", "success", "failed"):
        fields.integer(name)
    taken = {local_id: (each.text("id"), each.text("error")) for local_id, each in fields.mapping("artifacts").items()}
    return {local_id: artifact_id for local_id, (artifact_id, error) in taken.items() if not error}
