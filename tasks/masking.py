"""Masking a restored copy: an operator's SQL file, run on it in one transaction, before anybody may look into it.

The file is run as psql would with ON_ERROR_STOP and --single-transaction, by the login's role and with the database's own search_path. Row security is off: where
it would hide rows, which would then stay as they are, the statement fails instead.

One message to the server carries one statement (the extended query protocol refuses more), so the first word of each tells all that it does to the transaction.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import pq

from core.environment_database import Database
from core.errors import ConfigurationError, PermanentError
from core.manifest import Record, Sha256, Size
from core.sql_script import ScriptError, Statement, fit_statements
from tasks.postgres import Connection, describe, translated
from tasks.restored_session import connect_to_copy

_NEXT_STEP = "Nothing was committed. Correct the file and restore again; the server's log has the details, which may hold the data itself and are left out here."


class MaskOutcome(Record):
    """A masking that was committed. `sql_sha256` is the file's; `rows` the rows that its INSERT, UPDATE, DELETE and MERGE statements touched, added up."""

    sql_sha256: Sha256
    statements: Size
    rows: Size
    mask_ms: Size
    analyze_ms: Size


def read_masking(sql_file: Path | str) -> str:
    """Given a file, or SQL text itself, return the text. Raise ConfigurationError when the file cannot be read or is not UTF-8."""
    if isinstance(sql_file, str):
        return sql_file
    try:
        return sql_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        found = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            "read the masking file", str(sql_file), found or "unreadable", "Name a readable file of SQL."
        ) from error


def check_masking(script: str, on: str) -> tuple[Statement, ...]:
    """Given the text of a masking file and what messages call it, return its statements: for asking before hours of restoring. Raise ConfigurationError when it holds
    none, or what cannot be run in one transaction of ours, naming the line."""
    try:
        statements = fit_statements(script)
    except ScriptError as error:
        raise ConfigurationError(
            "use the masking file", on, str(error), "Nothing was run. Correct the file."
        ) from error
    if not statements:
        raise ConfigurationError(
            "use the masking file", on, "there is no statement in it", "Name a file that masks something."
        )
    return statements


def mask_copy(
    database: Database,
    sql_file: Path | str,
    *,
    statement_timeout_seconds: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> MaskOutcome:
    """Given the login of a restored copy and a file of SQL (or the SQL itself, as str), run it in one transaction, then ANALYZE. VACUUM is not done: a large table's old
    rows stay on disk, invisible, until autovacuum comes by.

    Raise ConfigurationError before anything is run when the file is not fit for it, PermanentError naming the line when a statement fails; then nothing was committed.
    In either case the caller drops the copy.
    """
    script = read_masking(sql_file)
    on = "the SQL given" if isinstance(sql_file, str) else str(sql_file)
    statements = check_masking(script, on)
    begun = clock()
    with connect_to_copy(
        database, application_name="nightshift masking", statement_timeout_seconds=statement_timeout_seconds
    ) as connection:
        rows = _run(connection, statements, f"{on} on {describe(database)}")
        masked = clock()
    # A session of its own: the file may have left another role or settings in the one that ran it.
    with (
        connect_to_copy(database, application_name="nightshift masking") as connection,
        translated("analyze the masked copy", describe(database)),
    ):
        connection.execute("ANALYZE")
    return MaskOutcome(
        sql_sha256=hashlib.sha256(script.encode()).hexdigest(),
        statements=len(statements),
        rows=rows,
        mask_ms=round((masked - begun) * 1000),
        analyze_ms=round((clock() - masked) * 1000),
    )


def _run(connection: Connection, statements: tuple[Statement, ...], on: str) -> int:
    with translated("begin the masking", on):
        # The session's own search_path is pg_catalog alone; the file is written for the database's.
        connection.execute("RESET search_path")
        connection.execute("RESET DateStyle")
        connection.execute("BEGIN")
        transaction = _transaction_id(connection)
    rows, line = 0, 1
    try:
        for statement in statements:
            line = statement.line
            # bytes, so that a % is one; binary, since only the extended protocol has results of that format.
            cursor = connection.execute(statement.text.encode(), binary=True)
            rows += cursor.rowcount if _writes(cursor.statusmessage) else 0
            _check_transaction(connection, transaction, statement, on)
        line = statements[-1].line
        # Constraints that are deferred fail here.
        connection.execute("COMMIT")
    except psycopg.Error as error:
        raise _failed(error, on, statement, line) from error
    return rows


def _writes(status: str | None) -> bool:
    return (status or "").split(" ")[0] in {"INSERT", "UPDATE", "DELETE", "MERGE"}


def _transaction_id(connection: Connection) -> str:
    row = connection.execute("SELECT pg_catalog.pg_current_xact_id()::text").fetchone()
    return row[0] if row else ""


def _check_transaction(connection: Connection, transaction: str, statement: Statement, on: str) -> None:
    """No statement that passed core.sql_script can end the transaction; should a server know one more, the copy is not taken for masked."""
    if (
        connection.info.transaction_status == pq.TransactionStatus.INTRANS
        and _transaction_id(connection) == transaction
    ):
        return
    raise PermanentError(
        "mask the copy",
        on,
        f"line {statement.line}: the statement ended the transaction, so a part of the file may be committed",
        "Take it out of the file; drop the copy.",
    )


def _failed(error: psycopg.Error, on: str, statement: Statement, line: int) -> PermanentError:
    """The message alone: its detail quotes rows, which are what is to be masked."""
    if error.diag.statement_position:
        line = statement.line + statement.text.count("\n", 0, int(error.diag.statement_position) - 1)
    message = error.diag.message_primary or str(error)
    return PermanentError("mask the copy", on, f"line {line}: {message}", _NEXT_STEP)
