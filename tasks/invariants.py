"""What the environment's own rules say of a restored copy: SQL with an expected value, and a command that tries it out."""

import json
import shutil
from collections.abc import Sequence
from urllib.parse import quote

import psycopg

from core.checks import Check
from core.environment_database import Database
from core.environment_restore import Invariant
from core.errors import NightshiftError, TemporaryError
from core.redaction import MASK, redact
from tasks.children import Child
from tasks.postgres import Connection, describe, libpq_environment, translate
from tasks.restored_session import connect_to_copy

INVARIANT_SECONDS = 300
_SHOWN_CHARACTERS = 200
# Of what a smoke command said: how it ended stands at the beginning, why mostly at the end.
_SMOKE_CHARACTERS, _SMOKE_HEAD = 1000, 200
_NEXT_STEP = "Compare the copy with the source, then correct the data's backup or the invariant."


def check_invariants(database: Database, invariants: Sequence[Invariant]) -> tuple[Check, ...]:
    """Given a copy's login and the invariants of its database, ask each and return how it stands, in order.

    Each is asked by itself, read-only, for five minutes at most, with the settings (search_path, DateStyle) that any session on the copy has. A query that fails, or
    gives anything but one row of one column, fails its check. Raise TemporaryError when the server is lost.
    """
    if not invariants:
        return ()
    on = describe(database)
    with connect_to_copy(
        database, application_name="nightshift invariants", statement_timeout_seconds=INVARIANT_SECONDS
    ) as connection:
        return tuple(_check(connection, invariant, on) for invariant in invariants)


def _check(connection: Connection, invariant: Invariant, on: str) -> Check:
    name = invariant.name
    try:
        rows = _ask(connection, invariant.sql)
    except psycopg.Error as error:
        meaning = translate(error, f"ask the invariant {name}", on)
        # A statement's time-out is the query's own fault.
        if isinstance(meaning, TemporaryError) and not isinstance(error, psycopg.errors.QueryCanceled):
            raise meaning from error
        return Check(name=name, state="failed", found=f"its query failed: {meaning.found}", next_step=_NEXT_STEP)
    if len(rows) != 1 or len(rows[0]) != 1:
        columns = len(rows[0]) if rows else 0
        many = "more than one row" if len(rows) > 1 else f"{len(rows)} rows of {columns} columns"
        found = f"its query gave {many}, not one row of one column"
        return Check(name=name, state="failed", found=found, next_step="Correct the invariant's SQL.")
    value = rows[0][0]
    if value == invariant.expected:
        return Check(name=name, state="passed", found=f"{_short(value)}, as expected")
    found = f"{_short(value)}, {_short(invariant.expected)} was expected"
    return Check(name=name, state="failed", found=found, next_step=_NEXT_STEP)


def _ask(connection: Connection, query: str) -> list[tuple[str, ...]]:
    """The first two rows of a query as psql prints them (NULL: empty)."""
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION READ ONLY")
        cursor.execute("SET LOCAL search_path TO DEFAULT")
        cursor.execute('SET LOCAL "DateStyle" TO DEFAULT')
        # By a cursor, so that a query without a WHERE does not bring a table here; binary means the extended protocol, which takes one statement and no more.
        cursor.execute(b"DECLARE nightshift_invariant NO SCROLL CURSOR FOR " + query.encode(), binary=True)
        cursor.execute("FETCH 2 FROM nightshift_invariant", binary=False)
        result = cursor.pgresult
        assert result is not None  # noqa: S101 - for the type checker: a FETCH has a result
        values = [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]
    return [tuple((value or b"").decode(errors="replace") for value in row) for row in values]


def _told(failure: str, password: str) -> str:
    """What a command said, for evidence that many read: on one line, without the password that it was given (however short), not longer than a message."""
    for form in dict.fromkeys((password, quote(password, safe=""), json.dumps(password)[1:-1])):
        failure = failure.replace(form, MASK) if form else failure
    plain = "".join(sign if sign.isprintable() else " " for sign in redact(failure))
    flat = " ".join(plain.split())
    return (
        flat
        if len(flat) <= _SMOKE_CHARACTERS
        else f"{flat[:_SMOKE_HEAD]}…{flat[_SMOKE_HEAD - _SMOKE_CHARACTERS + 1 :]}"
    )


def _short(value: str) -> str:
    return repr(value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "…")


def run_smoke_command(command: Sequence[str], database: Database, seconds: int) -> Check:
    """Given a program with its arguments and a copy's login, run it with PGHOST … of the copy in its environment and nothing else; it must exit 0.

    After so many seconds it is killed with all that it started. Raise ConfigurationError when the login's password cannot be resolved.
    """
    name = f"smoke command {command[0]}"
    program = shutil.which(command[0])
    if program is None:
        return Check(
            name=name, state="failed", found="there is no such program here", next_step="Name it with its whole path."
        )
    environment = {
        variable: value
        for variable, value in libpq_environment(database, application_name="nightshift smoke").items()
        if variable.startswith("PG")
    }
    try:
        with Child([program, *command[1:]], environment=environment, workers=True) as child:
            child.wait(seconds)
            failure = child.failure()
    except NightshiftError as error:
        failure = error.found
    if failure is None:
        return Check(name=name, state="passed", found="it ended with exit code 0")
    return Check(
        name=name,
        state="failed",
        found=_told(failure, environment.get("PGPASSWORD", "")),
        next_step="Run it against a restored copy by hand.",
    )
