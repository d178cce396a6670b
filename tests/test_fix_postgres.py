"""The fixtures themselves: servers of three majors answer, databases come fresh and go."""

from collections.abc import Callable

import psycopg
import pytest

from tests.fix_postgres import PostgresServer


def test_a_server_of_each_major_answers(any_postgres: PostgresServer, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(any_postgres, "CREATE TABLE t (a int)")
    with any_postgres.connect(name) as connection:
        row = connection.execute(
            "SELECT current_setting('server_version_num')::int / 10000, to_regclass('t')"
        ).fetchone()
    assert row == (any_postgres.major, "t")


def test_a_server_wants_the_right_password(postgres_18: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        postgres_18.connect(password="wrong")
