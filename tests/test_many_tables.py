"""A database with two thousand tables: nothing takes time by the square of their number, and no step looks through all of them for nothing."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from prefect.utilities.collections import visit_collection

from tasks.drill_steps import Drill
from tasks.restored_copy import RestoredCopy
from tests.fix_nightly import Night, server_settings
from tests.fix_postgres import PostgresServer, end_server, make_server

TABLES = 2000
MAKE = """DO $$ BEGIN FOR n IN {first}..{first} + 99 LOOP
    EXECUTE format('CREATE TABLE many_%s (id bigserial PRIMARY KEY, name text NOT NULL, parent bigint, CHECK (id > 0))', n);
    EXECUTE format('INSERT INTO many_%s (name) SELECT md5(g::text) FROM generate_series(1, 20) AS g', n);
    EXECUTE format('CREATE INDEX ON many_%s (name)', n);
    IF n %% 100 > 0 THEN EXECUTE format('ALTER TABLE many_%s ADD FOREIGN KEY (parent) REFERENCES many_%s', n, n - 1); END IF;
    EXECUTE format('COMMENT ON TABLE many_%s IS ''c''', n);
END LOOP; END $$"""


def test_prefect_does_not_look_through_the_manifest_that_a_drills_steps_are_given() -> None:
    # It does so with each value of a dataclass, a record or a list, at each step: with two thousand tables it took most of a drill's time.
    seen: list[Any] = []
    manifest = cast("Any", ["a table"])
    drill = Drill("local", "app", manifest, "sha256", "run")
    copy = RestoredCopy(manifest, manifest, manifest, manifest)
    visit_collection({"drill": drill, "copy": copy}, visit_fn=seen.append, return_data=False)
    assert "a table" not in seen
    assert drill in seen
    assert copy in seen


@pytest.fixture
def roomy() -> Iterator[PostgresServer]:
    """A server with locks for many tables, as the check before a backup asks for."""
    server = make_server(16, max_locks_per_transaction="256")
    yield server
    end_server(server)


@pytest.mark.services
@pytest.mark.xdist_group("prefect")
@pytest.mark.timeout(900)
def test_two_thousand_tables_are_backed_up_proven_and_restored(
    night: Night, roomy: PostgresServer, postgres_18: PostgresServer
) -> None:
    roomy.execute("postgres", "CREATE DATABASE many TEMPLATE template0")
    roomy.execute("many", *(MAKE.replace("{first}", str(first)).replace("%%", "%") for first in range(0, TABLES, 100)))
    night.settings["databases"] = {"first": roomy.database("many").model_dump(exclude_defaults=True)}
    night.settings["servers"] = {"other": server_settings(postgres_18)}
    state = night.run()
    assert state.is_completed(), state.message
    state = night.drill()
    assert state.is_completed(), state.message
    half = [f"public.many_{number}" for number in range(0, TABLES, 2)]
    try:
        for tables, compared in (([], TABLES), (half, TABLES // 2)):
            state = night.restore(backup="newest-proven", target="copy_of_many", tables=tables)
            assert state.is_completed(), state.message
            facts = next(step.facts for step in night.report.steps if step.name == "restore and verify")
            assert facts["tables_compared"] == compared
            postgres_18.execute("postgres", "DROP DATABASE copy_of_many WITH (FORCE)")
    finally:
        postgres_18.execute("postgres", "DROP DATABASE IF EXISTS copy_of_many WITH (FORCE)")
