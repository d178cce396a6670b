"""amcheck: whether every b-tree of a copy is in order and holds each row of its table (manual, appendix F, "amcheck")."""

from collections.abc import Iterable, Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from core.errors import TemporaryError
from core.restored_comparison import ComparisonFinding, Kind, Severity
from tasks.postgres import Connection, translate

# Internal error, data_corrupted, index_corrupted.
_DAMAGE = "XX"
_EXTENSION: LiteralString = """
    SELECT (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'),
           EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')
"""
_INDEXES: LiteralString = """
    SELECT c.oid, n.nspname || '.' || c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_am AS a ON a.oid = c.relam
    WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND i.indisready
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%s) ORDER BY 2
"""


def check_indexes(connection: Connection, exclude: Sequence[str], on: str) -> tuple[ComparisonFinding, ...]:
    """Given a superuser's session on a scratch copy and the schemas left aside, check every b-tree against its table; return what is damaged, or why none was checked.

    Where the copy has no amcheck it is made for the check alone, in a transaction that is rolled back. Raise TemporaryError when the server is lost.
    """
    row = connection.execute(_EXTENSION).fetchone()
    installed_in, available = row or (None, False)
    if installed_in is None and not available:
        return (_finding("indexes", "note", "b-trees were not checked: the server has no amcheck"),)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET LOCAL transaction_read_only = off")
            if installed_in is None:
                # Only functions, so that even pg_catalog takes them; and it is there in every database.
                connection.execute("CREATE EXTENSION amcheck SCHEMA pg_catalog")
            indexes = connection.execute(_INDEXES, (list(exclude),)).fetchall()
            return tuple(_check(connection, installed_in or "pg_catalog", indexes, on))
    except psycopg.Error as error:
        meaning = translate(error, "check b-trees with amcheck", on)
        if isinstance(meaning, TemporaryError):
            raise meaning from error
        return (_finding("indexes", "note", f"b-trees were not checked: {meaning.found}"),)


def _check(
    connection: Connection, schema_name: str, indexes: Iterable[tuple[int, str]], on: str
) -> Iterable[ComparisonFinding]:
    query = sql.SQL("SELECT {}(%s::oid::regclass, true)").format(sql.Identifier(schema_name, "bt_index_check"))
    number = 0
    for oid, name in indexes:
        number += 1
        try:
            with connection.transaction():
                connection.execute(query, (oid,))
        except psycopg.Error as error:
            meaning = translate(error, f"check index {name}", on)
            if isinstance(meaning, TemporaryError):
                raise meaning from error
            if isinstance(error, psycopg.errors.InsufficientPrivilege):
                yield _finding("indexes", "note", f"b-trees were not checked: {meaning.found}")
                return
            # Only its own class of SQLSTATE says that pages are not right; a function of the index' expression may fail in many ways.
            if (error.sqlstate or "").startswith(_DAMAGE):
                yield _finding("b-trees", "mismatch", f"index {name} is damaged: {meaning.found}")
            else:
                yield _finding("not looked at", "environment", f"index {name} could not be checked: {meaning.found}")
    yield _finding("indexes", "note", f"amcheck looked at {number} b-trees and every row of their tables")


def _finding(kind: Kind, severity: Severity, text: str) -> ComparisonFinding:
    return ComparisonFinding(kind=kind, severity=severity, text=text)
