"""What a restored copy's catalogues say, for the comparison with the manifest. All queries assume PINNED_SETTINGS and one snapshot."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import LiteralString

from psycopg import sql
from psycopg.rows import dict_row

from core.inventory import ExpectedEntry
from core.manifest import Collation, Extension, Manifest, Role
from core.manifest import Sequence as SequenceState
from core.restored_comparison import CopiedTable, Name
from core.restored_definitions import Definitions, InvalidIndex
from tasks.expected_objects import read_expected
from tasks.expected_tags import read_expected_tags
from tasks.inventory import batches
from tasks.object_facts import read_object_facts
from tasks.postgres import Connection
from tasks.schema_fingerprint import schema_lines

_BATCH = 200
# What every server has and pg_settings does not list (GUC_NO_SHOW_ALL in src/backend/utils/misc/guc_tables.c).
_UNLISTED_PARAMETERS = frozenset({"role", "session_authorization"})
_OWN: LiteralString = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%(exclude)s)"

_TABLES: LiteralString = """
    SELECT n.nspname AS schema_name, c.relname AS name, pg_get_userbyid(c.relowner) AS owner,
           CASE c.relpersistence WHEN 'u' THEN 'unlogged' ELSE 'permanent' END AS persistence,
           coalesce((SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, a.atttypmod)) ORDER BY a.attnum) FROM pg_attribute AS a
                     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'), '[]') AS columns,
           EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') AS of_extension
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND """


def read_tables(connection: Connection, exclude: Sequence[str]) -> tuple[CopiedTable, ...]:
    """Given a session and the schemas left aside, return the copy's plain tables. Raise psycopg.Error."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_TABLES + _OWN, {"exclude": list(exclude)}).fetchall()
    return tuple(CopiedTable(**{**row, "columns": [tuple(column) for column in row["columns"]]}) for row in rows)


# Of a partitioned table its partitions too; its sequences are those that it or a default of its draws from.
_CHOSEN: LiteralString = """
    WITH RECURSIVE wanted (oid) AS (
        SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'S') AND (n.nspname || '.' || c.relname = ANY (%(patterns)s) OR n.nspname || '.*' = ANY (%(patterns)s))
        UNION SELECT i.inhrelid FROM pg_inherits AS i JOIN wanted ON wanted.oid = i.inhparent JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relispartition),
    drawn (oid) AS (
        SELECT d.objid FROM pg_depend AS d JOIN wanted ON wanted.oid = d.refobjid
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
        UNION SELECT d.refobjid FROM pg_attrdef AS a JOIN wanted ON wanted.oid = a.adrelid
        JOIN pg_depend AS d ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid AND d.refclassid = 'pg_class'::regclass)
    SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid IN (SELECT oid FROM wanted) OR (c.relkind = 'S' AND c.oid IN (SELECT oid FROM drawn))
"""


def read_chosen(connection: Connection, patterns: Sequence[str]) -> frozenset[Name]:
    """Given a session and what a restore was asked for ("schema.table", "schema.*"), return the tables, their partitions and sequences. Raise psycopg.Error."""
    return frozenset(
        (schema_name, name) for schema_name, name in connection.execute(_CHOSEN, {"patterns": list(patterns)})
    )


def read_parameters(connection: Connection, names: Iterable[str]) -> frozenset[str]:
    """Given a session and parameters' names, return those that the server has. Raise psycopg.Error."""
    rows = connection.execute(
        "SELECT name FROM pg_settings WHERE lower(name) = ANY (%s)", ([n.lower() for n in names],)
    )
    known = {row[0].lower() for row in rows} | _UNLISTED_PARAMETERS
    return frozenset(name for name in names if name.lower() in known)


_SEQUENCES: LiteralString = """
    SELECT n.nspname, c.relname, s.seqincrement, has_sequence_privilege(c.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_sequence AS s ON s.seqrelid = c.oid
    JOIN unnest(%(schemas)s::text[], %(names)s::text[]) AS wanted (schema_name, name) ON wanted.schema_name = n.nspname AND wanted.name = c.relname
    ORDER BY 1, 2
"""


def read_sequences(
    connection: Connection, wanted: Iterable[SequenceState]
) -> tuple[dict[Name, SequenceState], tuple[str, ...]]:
    """Given a session and the sequences to look at, return the states of those that are there, by name, and the names that the role may not read.

    The latter get the state of the sequence that was wanted: that they are there is all that can be said. Raise psycopg.Error.
    """
    by_name = {(sequence.schema_name, sequence.name): sequence for sequence in wanted}
    found = connection.execute(
        _SEQUENCES, {"schemas": [name[0] for name in by_name], "names": [name[1] for name in by_name]}
    ).fetchall()
    states: dict[Name, SequenceState] = {}
    unread = [(schema_name, name) for schema_name, name, _increment, readable in found if not readable]
    for batch in batches([row for row in found if row[3]], _BATCH):
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {number}::int, last_value, is_called FROM {sequence}").format(
                number=sql.Literal(number), sequence=sql.Identifier(row[0], row[1])
            )
            for number, row in enumerate(batch)
        )
        for number, last_value, is_called in connection.execute(query):
            schema_name, name, increment, _readable = batch[number]
            states[schema_name, name] = SequenceState(
                schema_name=schema_name, name=name, last_value=last_value, is_called=is_called, increment=increment
            )
    states |= {name: by_name[name] for name in unread}
    return states, tuple(".".join(name) for name in unread)


def read_roles(connection: Connection, names: Iterable[str]) -> dict[str, Role]:
    """Given a session and roles' names, return those of the server. Raise psycopg.Error."""
    rows = connection.execute(
        "SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname = ANY (%s)", (list(names),)
    )
    return {name: Role(name=name, login=login, superuser=superuser) for name, login, superuser in rows}


def read_extensions(connection: Connection) -> dict[str, Extension]:
    """Given a session, return the copy's extensions by name. Raise psycopg.Error."""
    rows = connection.execute(
        "SELECT e.extname, e.extversion, n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace"
    )
    return {name: Extension(name=name, version=version, schema_name=schema) for name, version, schema in rows}


_COLLATIONS: LiteralString = """
    SELECT n.nspname AS schema_name, k.collname AS name, k.collisdeterministic AS deterministic, k.collversion AS version,
           CASE k.collprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'default' END AS provider
    FROM pg_collation AS k JOIN pg_namespace AS n ON n.oid = k.collnamespace
    WHERE k.collencoding IN (-1, (SELECT d.encoding FROM pg_database AS d WHERE d.datname = current_database()))
"""


def read_collations(connection: Connection) -> dict[Name, Collation]:
    """Given a session, return the collations of the copy's encoding by (schema, name). Raise psycopg.Error."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return {(row["schema_name"], row["name"]): Collation(**row) for row in cursor.execute(_COLLATIONS)}


# Every partition has an index of its own attached to this one, and each of those is valid.
_INVALID_INDEXES: LiteralString = """
    SELECT n.nspname || '.' || c.relname AS name, t.relkind = 'p' AS partitioned,
           EXISTS (SELECT FROM pg_inherits AS p WHERE p.inhparent = t.oid) AND NOT EXISTS (
               SELECT FROM pg_inherits AS p JOIN pg_class AS leaf ON leaf.oid = p.inhrelid
               WHERE p.inhparent = t.oid AND leaf.relkind IN ('r', 'p') AND NOT EXISTS (
                   SELECT FROM pg_index AS li JOIN pg_inherits AS a ON a.inhrelid = li.indexrelid
                   WHERE li.indrelid = leaf.oid AND a.inhparent = c.oid AND li.indisvalid)) AS complete
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relpersistence <> 't' AND """


def read_definitions(connection: Connection, manifest: Manifest, exclude: Sequence[str]) -> Definitions:
    """Given a session, the manifest and the schemas left aside, return how the copy's definitions stand. Raise psycopg.Error.

    Extensions enter the fingerprint as they were recorded: what differs in them is told by itself and may be the server's doing.
    """
    parameters = {"exclude": list(exclude)}
    with connection.cursor(row_factory=dict_row) as cursor:
        indexes = cursor.execute(_INVALID_INDEXES + _OWN + " ORDER BY 1", parameters).fetchall()
    entries = read_expected(connection, exclude, ())
    lines = [line for line in schema_lines(connection, exclude) if not line.startswith('["extension", ')]
    lines += [
        f"{json.dumps(['extension', extension.name, extension.version], ensure_ascii=False)} "
        for extension in manifest.extensions
    ]
    return Definitions(
        server_version_number=connection.info.server_version,
        fingerprint=hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest(),
        objects=_count_objects(connection, manifest, exclude, entries),
        invalid_indexes=tuple(InvalidIndex(**row) for row in indexes),
        facts=read_object_facts(
            connection,
            exclude,
            entries,
            large_objects=_count_large_objects(connection),
            dumped_from=manifest.server.version_number,
        ),
    )


def _count_large_objects(connection: Connection) -> int:
    row = connection.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
    return row[0] if row else 0


def _count_objects(
    connection: Connection, manifest: Manifest, exclude: Sequence[str], entries: Sequence[ExpectedEntry]
) -> int:
    """How many objects a dump of the copy would have to list, counted as the backup did (core.coverage)."""
    in_recovery = manifest.server.in_recovery
    objects = len(entries) + len(manifest.tables)
    objects += len(read_expected_tags(connection, exclude, in_recovery=in_recovery))
    objects += sum(not role.name.startswith("pg_") for role in manifest.roles)
    # read_expected tells subscriptions to superusers alone, as pg_dump does.
    row = connection.execute(
        "SELECT count(*) FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid"
        " WHERE d.datname = current_database() AND NOT (SELECT u.rolsuper FROM pg_roles AS u WHERE u.rolname = current_user)"
    ).fetchone()
    return objects + (row[0] if row else 0)
