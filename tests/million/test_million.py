"""At a million accounts every statement reads about as much as at ten.

`TEST_ACCOUNTS` says how many there are: 50,000 unless it does, which takes two minutes.
"""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from flask import Flask

from runtime.database.base import db
from runtime.services import purge
from tests.agent.completions_server import CompletionsServer, Pause, Request, finish, stream, text
from tests.conftest import PASSWORD, Outbox
from tests.faults.conftest import SECRET_KEY, flask
from tests.grounds import InProcess
from tests.million import rows
from tests.million.plans import Explaining, Plan, read
from tests.million.walk import STEPS, Walk
from tests.quick import quick_hash

pytestmark = pytest.mark.slow

# More than any statement needs, and a fraction of the smallest table.
MOST_ROWS = 15_000
MOST_BUFFERS = 30_000
# What is in the statements of a purge, of operators' lists, and of an erasure alone.
OPERATORS = (
    'SELECT "some"."id"',
    'listed_at" FROM "users"',
    "TRUE FROM",
    "SKIP LOCKED",
    "DELETE FROM",
    "USING ~<~",
)


@pytest.fixture(scope="module", params=["analyzed", "restored"])
def postgres(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explaining]:
    """A cluster with all rows, that tells its plans; one of them knows nothing of the rows yet."""
    with Explaining(tmp_path_factory.mktemp("million")) as server:
        flask("db", "upgrade", DATABASE_URL=server.url)
        rows.make(server.url, quick_hash(PASSWORD))
        server.is_analyzed = request.param == "analyzed"
        if server.is_analyzed:
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        server.explain()
        yield server


@pytest.fixture(scope="module")
def model() -> Iterator[CompletionsServer]:
    """A model that answers one user slower than a lease is renewed."""

    def reply(request: Request):
        pause = 4 if "Take your time." in str(request.body) else 0
        return stream(text("It "), Pause(pause), text("is."), finish())

    with CompletionsServer(reply) as server:
        yield server


@pytest.fixture(scope="module")
def app(postgres: Explaining, model: CompletionsServer, tmp_path_factory) -> Iterator[Flask]:
    ground = InProcess(tmp_path_factory.mktemp("ground"))
    app = ground.serve(
        {
            "DATABASE_URL": postgres.url,
            "SECRET_KEY": SECRET_KEY,
            "INSTANCE_PATH": str(tmp_path_factory.mktemp("instance")),
            "OPENAI_BASE_URL": model.url,
            "AGENT_MODEL": "test",
            "AGENT_DAILY_TOKENS": "1000000",
            "METRICS_TOKEN": "a-token",
        }
    )
    app.extensions["ground"] = ground
    yield app
    ground.clear()
    db.close_all()


@pytest.fixture(scope="module")
def walk(app: Flask) -> Walk:
    """Everybody's day, over."""
    outbox = Outbox(Path(app.config["INSTANCE_PATH"]) / "outbox", app.extensions["ground"])
    walk = Walk(app, outbox)
    for step in STEPS:
        step(walk)
    outbox.mails()
    return walk


@pytest.fixture(scope="module")
def plans(walk: Walk, postgres: Explaining) -> list[Plan]:
    """Of all statements of that day."""
    return read(postgres.folder / "log")


def told(plan: Plan) -> str:
    return f"{plan.rows_read} rows, {plan.buffers} pages, {plan.ms} ms: {plan.sql[:300]}"


def test_every_route_and_command_was_asked(walk: Walk):
    assert (walk.not_asked, walk.not_given) == (set(), set())


def test_a_purge_deletes_all_that_has_run_out(walk: Walk):
    """Rows may run out between the count and the purge."""
    assert all(count > rows.ACCOUNTS / 4 for count in walk.run_out.values())
    fewer = {table: n for table, n in walk.run_out.items() if walk.purged[table] < n}
    assert not fewer
    assert all(walk.left[table] < n / 100 for table, n in walk.run_out.items())


def test_no_statement_reads_more_than_it_needs(plans: list[Plan], postgres: Explaining):
    """Until a restored database is analyzed, that goes for requests, not for commands."""
    own = [plan for plan in plans if not plan.sql.startswith("SELECT count(*) FROM")]
    assert len({plan.sql for plan in own}) > 150
    if not postgres.is_analyzed:
        own = [plan for plan in own if not any(each in plan.sql for each in OPERATORS)]
    too_much = [plan for plan in own if plan.rows_read > MOST_ROWS or plan.buffers > MOST_BUFFERS]

    assert not too_much, "\n".join({plan.sql: told(plan) for plan in too_much}.values())


def test_the_next_purge_passes_what_the_last_one_has_deleted(app: Flask, plans: list[Plan]):
    """Without a vacuum between them."""
    with app.app_context():
        purge.purge_if_due()

        assert not purge.is_left(purge.PURGES)
