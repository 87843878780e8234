"""Runs `async def` tests, each in its own event loop and with a time limit; gives them migrated databases."""

from __future__ import annotations

import asyncio
import atexit
import gc
import inspect
import math
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from gatecast.testing.processes.programs import etcd_program, pgbouncer_program, postgres_programs

if TYPE_CHECKING:
    # The process that hands tests out to others runs none, and imports none of it: a fixture imports what it uses.
    from gatecast.testing.postgres_server import PostgresServer
    from gatecast.testing.processes.pod_template import PodTemplate
    from tests.database_copies import NewDatabase

# How long one example takes says how loaded the machine is.
settings.register_profile("untimed", deadline=None)
#: `make unit`: a few examples of each kind at once, all of them in `make test`.
settings.register_profile("quick", deadline=None, max_examples=15)
settings.load_profile("untimed")

#: No asynchronous test may take longer; in seconds.
TEST_TIME_LIMIT = 240.0

#: What the tests write goes here if there is room for it: no test needs a disk, and a database costs a quarter of it.
_MEMORY = Path("/dev/shm")  # noqa: S108 - files in it have names of their own
_ROOM = 4 << 30

#: Whole database servers, and databases with everything that the control plane stores.
_SLOW_FIXTURES = {"postgres", "database_url", "pod_template"}

#: Files of half a minute and more, and folders with such files.
_LONGEST_FIRST = (
    "acceptance/test_desired_state_faults.py",
    "acceptance/test_control_plane.py",
    "acceptance/test_connect_storm.py",
    "acceptance/test_verify.py",
    "browser",
    "acceptance/test_move_log.py",
    "acceptance/test_image.py",
    "acceptance/test_promotion.py",
    "contract/outbox/test_move_log_to_stream.py",
    "contract/test_storage_postgres.py",
    "contract/test_every_control_plane_statement.py",
    "unit/cli/bench",
    "unit/server/admin_api/test_hostile_input.py",
    "acceptance",
    "simulation",
    "contract",
    "plans",
)


def pytest_configure(config: pytest.Config) -> None:
    """Make temporary files in memory, unless TMPDIR says where."""
    if os.environ.get("GATECAST_TEST_POSTGRES") and config.getoption("numprocesses", None):
        raise pytest.UsageError("GATECAST_TEST_POSTGRES names one server, and each process needs its own: WORKERS=0")
    if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM:
        # For other processes, and for this one, which has looked already.
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)
    signal.signal(signal.SIGTERM, _interrupt)
    # What is imported and collected stays: looking through it for garbage, again and again, is a quarter of that time.
    gc.disable()
    # At the very end it is no use to look through everything that is dropped anyway.
    atexit.register(gc.freeze)


def pytest_collection_finish() -> None:
    """Look for garbage from now on, but not among what was imported and collected, and not after every request."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def _interrupt(*_: object) -> None:
    """End as at Ctrl-C: what a test started is ended, too."""
    raise KeyboardInterrupt


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that workers end at the same time; and mark what is done in no time."""
    turns = {path: _turn(path) for path in {item.path for item in items}}
    items.sort(key=lambda item: turns[item.path])
    for item in items:
        if _is_slow(item):
            item.add_marker("slow")


def _is_slow(item: pytest.Item) -> bool:
    """Whether a test asks for what takes long to start, or is the one of several that does."""
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    on_server = any(each in ("postgres", "postgresql") for each in parameters if isinstance(each, str))
    return on_server or not _SLOW_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


def _turn(path: Path) -> int:
    place = path.relative_to(Path(__file__).parent).as_posix()
    turns = (turn for turn, long in enumerate(_LONGEST_FIRST) if place.startswith(long))
    return next(turns, len(_LONGEST_FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test to its end, in a loop of its own, or in the one that its fixtures keep."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    # A test that is marked with a longer limit, or with 0 for none, has that one.
    marked = pyfuncitem.get_closest_marker("timeout")
    limit = max(TEST_TIME_LIMIT, marked.args[0] or math.inf) if marked else TEST_TIME_LIMIT
    kept = pyfuncitem.funcargs.get("long_runner")
    run = kept.run if isinstance(kept, asyncio.Runner) else asyncio.run
    run(_within_limit(limit, pyfuncitem.obj, arguments))
    return True


async def _within_limit(limit: float, test: Callable[..., Awaitable[None]], arguments: dict[str, object]) -> None:
    async with asyncio.timeout(None if math.isinf(limit) else limit):
        await test(**arguments)


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[PostgresServer]:
    """One PostgreSQL for every test that does not kill it. It is not asked to survive a power cut."""
    from gatecast.testing.processes.given_server import server_for_tests  # noqa: PLC0415 - see above

    assert pytestconfig.option.markexpr != "not slow", "mark this test as slow: it starts a server"
    with server_for_tests() as server:
        yield server


@pytest.fixture(scope="session")
def pod_template() -> PodTemplate | Sequence[str]:
    """What starts pods as copies of one process: the `command` of `Pods`."""
    from gatecast.testing.processes.pod_template import shared_template  # noqa: PLC0415 - see above

    return shared_template()


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """A migrated, empty database to make copies of; nobody else may connect to it."""
    import psycopg  # noqa: PLC0415 - see above

    name = "migrated_template"
    asyncio.run(postgres.create_database(name))
    asyncio.run(_migrate(postgres.url(name)))
    # The first to connect writes down what PostgreSQL must know of the tables; the copies have that file, too.
    psycopg.connect(postgres.url(name)).close()
    return name


@pytest.fixture(scope="session")
def new_postgres_database(postgres: PostgresServer) -> Iterator[NewDatabase]:
    """Makes a copy of a template, of this name or any, and tells its URL; it is gone at the end of the block."""
    from tests.database_copies import copies_on  # noqa: PLC0415 - see above

    with copies_on(postgres) as new_database:
        yield new_database


@pytest.fixture
def postgres_url(new_postgres_database: NewDatabase, postgres_template: str) -> Iterator[str]:
    """A migrated PostgreSQL database of the test's own."""
    with new_postgres_database(postgres_template) as url:
        yield url


@pytest.fixture
def empty_postgres_url(new_postgres_database: NewDatabase) -> Iterator[str]:
    """A PostgreSQL database of the test's own, without any schema of ours."""
    with new_postgres_database("template1") as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty file to make copies of."""
    file = tmp_path_factory.mktemp("template") / "gatecast.db"
    asyncio.run(_migrate(f"sqlite:///{file}"))
    return file


async def _migrate(url: str) -> None:
    from gatecast.controlplane.migrations import MIGRATIONS  # noqa: PLC0415 - see above
    from gatecast.storage.connect import open_storage  # noqa: PLC0415 - see above

    async with open_storage(url, send_hints=False, extra_migrations=MIGRATIONS) as opened:
        await opened.storage.database.migrate()


@pytest.fixture
def sqlite_url(tmp_path: Path, sqlite_template: Path) -> str:
    """A migrated SQLite file of the test's own."""
    file = tmp_path / "gatecast.db"
    shutil.copyfile(sqlite_template, file)
    return f"sqlite:///{file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of the test's own, of each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


def pytest_report_header() -> str | None:
    """What is left out, because this system lacks it."""
    found = {
        "postgresql": bool(postgres_programs()),
        "pgbouncer": pgbouncer_program() is not None,
        "etcd-server": etcd_program() is not None,
    }
    lacking = " ".join(name for name, there in found.items() if not there)
    return f"LEFT OUT: tests that need more of the system; `apt-get install {lacking}` brings it" if lacking else None
