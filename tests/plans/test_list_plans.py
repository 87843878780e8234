"""Lists read what a page shows, and the indexes that say what is on it, however much the control plane holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta

import asyncpg
import pytest

from gatecast.controlplane.deployments.artifact_search import (
    IN_FLIGHT,
    ArtifactFilter,
    ArtifactSearch,
    ArtifactSort,
    DeploymentFilter,
)
from gatecast.controlplane.deployments.placements import DeploymentState
from gatecast.storage.contract import EventSearch, Storage
from gatecast.testing.postgres_server import PostgresServer
from gatecast.testing.processes.postgres_reads import TableReads, reads_of

#: Often enough that prepared statements change to their generic plans.
_OFTEN = 8
_GATEWAYS, _ARTIFACTS, _ON_EACH, _EVENTS = 10_000, 1_000, 50, 60_000

NewDatabase = Callable[..., AbstractContextManager[str]]

_FILL = f"""
INSERT INTO gatecast_gateways (id, organization, name, display_name, description, vhost, type, connection_policy,
                               properties, version, created_at, updated_at)
    SELECT 'gateway-' || n, 'default', 'edge ' || n, '', '', '', 'regular', 'all', '{{}}', 1, now(), now()
    FROM generate_series(0, {_GATEWAYS - 1}) n;
INSERT INTO gatecast.gateway_streams (gateway_id, registered_in)
    SELECT id, current FROM gatecast_gateways, gatecast.epoch;
INSERT INTO gatecast_artifacts (id, organization, kind, handle, name, artifact_version, content_id, version, created_at,
                                updated_at)
    SELECT 'artifact-' || n, CASE WHEN n % 2 = 0 THEN 'default' ELSE 'other' END, 'RestApi', 'api-' || n, 'API ' || n,
           'v1.0', 'content-' || n, 1, now(), now() FROM generate_series(1, {_ARTIFACTS}) n;
INSERT INTO gatecast_contents (id, artifact_id, name, artifact_version, document, credentials, content)
    SELECT content_id, id, name, 'v1.0', '', '', '' FROM gatecast_artifacts;
INSERT INTO gatecast_deployments (id, artifact_id, gateway_id, revision, content_id, state, reason, performed_at,
                                  created_at, updated_at)
    SELECT 'deployment-' || n || '-' || o, 'artifact-' || n, 'gateway-' || (n * {_ON_EACH} + o) % {_GATEWAYS}, o,
           'content-' || n,
           CASE WHEN n % 100 = 0 AND o = 1 THEN 'FAILED' WHEN o = 2 THEN 'SUPERSEDED' ELSE 'DEPLOYED' END, '', 1, now(),
           now()
    FROM generate_series(1, {_ARTIFACTS}) n, generate_series(1, {_ON_EACH}) o;
INSERT INTO gatecast_placements (artifact_id, gateway_id, kind, desired, deployment_id, performed_at, event_id, held)
    SELECT artifact_id, gateway_id, 'RestApi', 'DEPLOYED', id, 1, '', '' FROM gatecast_deployments;
INSERT INTO gatecast.events (log_id, "offset", event_id, type, action, entity_type, entity_id, payload, size,
                             originated_at)
    SELECT log_id, o, gen_random_uuid(), 'api.updated', 'UPDATE', 'Api', 'api-' || o, '{{}}', 2, now()
    FROM gatecast.gateway_streams, generate_series(1, {_EVENTS}) o WHERE gateway_id = 'gateway-1';
UPDATE gatecast.gateway_streams SET head = {_EVENTS} WHERE gateway_id = 'gateway-1';
"""


@pytest.fixture(scope="module")
def filled_template(postgres: PostgresServer, postgres_template: str) -> str:
    """Many gateways, artifacts and events, right after a bulk load; nobody else may connect to it."""
    name = "lists_template"
    asyncio.run(postgres.execute(f'CREATE DATABASE "{name}" TEMPLATE "{postgres_template}"'))
    asyncio.run(_execute(postgres.url(name), _FILL))
    return name


@pytest.fixture(scope="module", params=["fresh", "analyzed"])
def filled_url(
    request: pytest.FixtureRequest, new_postgres_database: NewDatabase, filled_template: str
) -> Iterator[str]:
    """Many gateways, artifacts and events: right after a bulk load, and with statistics as in daily life."""
    with new_postgres_database(filled_template, f"lists_{request.param}") as url:
        if request.param == "analyzed":
            asyncio.run(_execute(url, "VACUUM ANALYZE"))
        yield url


async def _execute(url: str, statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


async def _reads(url: str, statement: str, **wanted: object) -> dict[str, TableReads]:
    async def work(storage: Storage) -> None:
        search = ArtifactSearch(storage.database)
        for _ in range(_OFTEN):
            match statement:
                case "artifacts":
                    found = await search.artifacts("default", **wanted, limit=50)  # type: ignore[arg-type]
                    assert 0 < len(found.items) <= 50
                case "deployments":
                    assert await search.deployments("default", DeploymentFilter(**wanted), limit=50)  # type: ignore[arg-type]
                case "search":
                    asked = EventSearch(gateway_id="gateway-1", max_events=50, max_bytes=1_000_000, **wanted)  # type: ignore[arg-type]
                    await storage.survey.search(asked, confirmed=0)

    return await reads_of(url, work)


@pytest.mark.parametrize("sort", list(ArtifactSort))
async def test_a_page_of_artifacts_counts_the_states_of_its_own(filled_url: str, sort: ArtifactSort) -> None:
    """The artifacts of the organization are looked at, and the states of 50 of them; no deployment is read in full."""
    reads = await _reads(filled_url, "artifacts", wanted=ArtifactFilter(), sort=sort)
    # Without statistics the states may be counted over all; within a minute autovacuum makes them.
    if "analyzed" in filled_url:
        assert reads["gatecast_deployments"].scans == 0
        assert reads["gatecast_deployments"].rows <= 50 * _ON_EACH * 2 * _OFTEN
    assert reads["gatecast_placements"].rows == 0
    assert reads["gatecast_artifacts"].rows <= 2 * _ARTIFACTS * _OFTEN


async def test_artifacts_in_flight_are_found_by_the_index_of_states(filled_url: str) -> None:
    """Five looks into the index for each artifact at most, and the states of those that are found."""
    reads = await _reads(filled_url, "artifacts", wanted=ArtifactFilter(states=IN_FLIGHT))
    if "analyzed" in filled_url:
        assert reads["gatecast_deployments"].scans == 0
        assert reads["gatecast_deployments"].rows <= (_ARTIFACTS + 10 * _ON_EACH) * _OFTEN


async def test_a_page_of_deployments_reads_about_a_page(filled_url: str) -> None:
    """Of one artifact all of its own, of one state those that are in it."""
    reads = await _reads(filled_url, "deployments", artifact_id="artifact-42")
    assert reads["gatecast_deployments"].scans == 0
    assert reads["gatecast_deployments"].rows <= 3 * _ON_EACH * _OFTEN
    reads = await _reads(filled_url, "deployments", states=[DeploymentState.FAILED])
    if "analyzed" in filled_url:
        assert reads["gatecast_deployments"].scans == 0
        assert reads["gatecast_deployments"].rows <= 3 * _ARTIFACTS * _OFTEN


async def test_what_changed_lately_is_found_without_reading_what_did_not(filled_url: str) -> None:
    """Deployments by the index of their times; of the artifacts those of the organization are counted."""

    async def work(storage: Storage) -> None:
        search = ArtifactSearch(storage.database)
        for _ in range(_OFTEN):
            found = await search.recent_deployments("default", window=timedelta(hours=-1), limit=5_000)
            assert (found.items, found.more, found.artifacts) == ([], False, (_ARTIFACTS // 2, _ARTIFACTS // 2))

    reads = await reads_of(filled_url, work)
    # Without statistics a third of all may be taken for new; within a minute autovacuum makes them.
    if "analyzed" in filled_url:
        assert reads["gatecast_deployments"].scans == 0
        assert reads["gatecast_deployments"].rows <= 10 * _OFTEN
    assert reads["gatecast_placements"].rows <= 20 * _OFTEN
    assert reads["gatecast_artifacts"].rows <= 2 * _ARTIFACTS * _OFTEN


@pytest.mark.parametrize("entity_id", ["", "api-7", "nothing-like-this"])
async def test_a_search_looks_at_ten_thousand_events_at_most(filled_url: str, entity_id: str) -> None:
    reads = await _reads(filled_url, "search", entity_id=entity_id)
    assert reads["events"].scans == 0
    assert reads["events"].rows <= (200 if not entity_id else 21_000) * _OFTEN


async def test_an_event_is_found_by_time_without_reading_the_log(filled_url: str) -> None:
    async def work(storage: Storage) -> None:
        asked = EventSearch(gateway_id="gateway-1", max_events=1, max_bytes=1)
        [event] = (await storage.survey.search(asked, confirmed=0)).events
        for _ in range(_OFTEN):
            asked = EventSearch(gateway_id="gateway-1", since=event.recorded_at, max_events=1, max_bytes=1)
            await storage.survey.search(asked, confirmed=0)

    reads = await reads_of(filled_url, work)
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 200 * _OFTEN


async def test_ten_thousand_gateways_are_summarized_by_their_indexes(filled_url: str) -> None:
    ids = [f"gateway-{number}" for number in range(_GATEWAYS)]
    reads = await reads_of(filled_url, lambda storage: storage.survey.summaries(ids))
    assert reads["events"].scans == 0
    assert reads["events"].rows <= 10
    assert reads["gateway_streams"].rows <= 2 * _GATEWAYS


async def test_all_gateways_are_counted_in_a_few_rows_that_read_no_log(filled_url: str) -> None:
    async def work(storage: Storage) -> None:
        counts = await storage.survey.counts(slow_after=10.0, except_for="gatecast-probe:")
        assert len(counts) <= 8
        assert sum(each.gateways for each in counts) >= _GATEWAYS

    reads = await reads_of(filled_url, work)
    assert reads["events"].scans == 0
    assert reads["gateway_streams"].rows <= 2 * _GATEWAYS
