"""Whether a restored copy is what was backed up: every table's rows and digest, large objects, sequences, and all that a manifest records around them."""

import functools
from collections.abc import Callable, Sequence

from core import digest_comparison
from core.compared_tables import compared_tables
from core.copy_seal import Seal, properties_without
from core.environment_database import Database
from core.errors import PermanentError
from core.manifest import Manifest
from core.missing_privileges import sequence_remedy
from core.restore_record import Restored
from core.restored_comparison import (
    ComparisonFinding,
    Name,
    Verification,
    compare_large_objects,
    compare_sequences,
    compare_tables,
    expected_tables,
    not_compared,
)
from core.restored_definitions import compare_definitions
from core.restored_objects import compare_objects
from core.restored_surroundings import compare_collations, compare_extensions, compare_properties, compare_roles
from tasks.database_properties import read_properties
from tasks.index_check import check_indexes
from tasks.postgres import Connection, describe, translated
from tasks.restored_catalogue import (
    read_chosen,
    read_collations,
    read_definitions,
    read_extensions,
    read_parameters,
    read_roles,
    read_sequences,
    read_tables,
)
from tasks.restored_digests import CopyDigests, digest_copy
from tasks.restored_session import Opening, open_copy


def _silent(_table: str) -> None:
    """Nobody wants to know."""


def verify_restored(
    database: Database,
    manifest: Manifest,
    restored: Restored,
    *,
    sessions: int = 2,
    on_table: Callable[[str], None] = _silent,
    exclude_schemas: Sequence[str] = (),
    tables: Sequence[str] = (),
    amcheck: bool = False,
    opening: Opening | None = None,
    seal: Seal | None = None,
) -> Verification:
    """Given a restored copy's login, the manifest and what was restored, compare all that was recorded. The copy is only read.

    Args:
        database: the copy's login, under the name that it has now. The role should own what it looks at; what it may not read is told as `not looked at`.
        manifest: one whose signature was verified: its own SQL is run.
        restored: with the copy's oid and system identifier; another database is refused.
        sessions: that count tables side by side.
        on_table: called with each table's name when it begins, from a session's thread.
        exclude_schemas: schemas of the copy's server that are none of the dump's, besides those that the manifest says were left out.
        tables: what a partial restore was asked for ("schema.table", "schema.*"), and only then.
        amcheck: check b-trees too; for scratch copies, as superuser.
        opening: what opens sessions on the copy, at most `sessions` at a time; None: new ones.
        seal: behind which the copy is closed meanwhile: no property of its own.

    Raise PermanentError when the login leads elsewhere or it is not said what a partial restore was asked for, TemporaryError when the server is lost.
    """
    on = describe(database)
    opening = opening or functools.partial(open_copy, database, restored, purpose="verify")
    chosen = _chosen(database, restored, tables, opening)
    expected = expected_tables(manifest, restored, chosen)
    large_objects = None if restored.partial else manifest.large_objects
    counted = digest_copy(database, expected, large_objects, sessions=sessions, on_table=on_table, opening=opening)
    with (
        opening() as connection,
        translated("look at the restored copy", on),
    ):
        exclude = _schemas_left_aside(manifest, exclude_schemas)
        # Errors in here are nobody's to pass over: catalogues can be read by every role.
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            found = _compare_catalogues(connection, manifest, restored, exclude, chosen, seal=seal)
        if amcheck:
            found += check_indexes(connection, exclude, on)
    return Verification(
        tables_compared=sum(table.mode != "off" and table.oid in counted.tables for table in expected),
        rows=sum(rows or 0 for rows, _digest in counted.tables.values()),
        differences=digest_comparison.differences(expected, counted.tables, counted.unread_tables),
        findings=(*_compare_contents(manifest, restored, counted), *not_compared(expected), *found),
        compared=compared_tables(expected),
    )


def _chosen(database: Database, restored: Restored, tables: Sequence[str], opening: Opening) -> frozenset[Name] | None:
    """What was asked for, by name; None for all."""
    if not restored.partial:
        return None
    if not tables:
        raise PermanentError(
            "compare the copy with its manifest",
            describe(database),
            "only some tables were restored, and it is not said which",
            "Give `tables` as the restore got them.",
        )
    with (
        opening() as connection,
        translated("look at the restored copy", describe(database)),
    ):
        return read_chosen(connection, tables)


def _schemas_left_aside(manifest: Manifest, more: Sequence[str]) -> tuple[str, ...]:
    """The schemas that are not the dump's. One that the dump has objects of is its own, whatever an environment says by now."""
    own = {table.schema_name for table in manifest.tables} | {sequence.schema_name for sequence in manifest.sequences}
    own |= {group.schema_name for group in manifest.objects.groups} if manifest.objects else set()
    left_out = {omission.name for omission in manifest.not_in_backup if omission.kind == "schema"}
    return tuple(sorted(left_out | (set(more) - own)))


def _compare_contents(manifest: Manifest, restored: Restored, counted: CopyDigests) -> tuple[ComparisonFinding, ...]:
    findings = [
        ComparisonFinding(kind="not looked at", severity="environment", text=f"{name} could not be read: {why}")
        for name, why in sorted(counted.unread.items())
    ]
    findings += [
        ComparisonFinding(kind="pages", severity="mismatch", text=f"{name} is damaged in the copy: {why}")
        for name, why in sorted(counted.damaged.items())
    ]
    if counted.large_objects is not None:
        findings += compare_large_objects(manifest.large_objects, counted.large_objects)
    if restored.partial:
        text = "only the chosen tables were restored and compared; large objects were not"
        findings.append(ComparisonFinding(kind="tables", severity="note", text=text))
    return tuple(findings)


def _compare_catalogues(
    connection: Connection,
    manifest: Manifest,
    restored: Restored,
    exclude: Sequence[str],
    chosen: frozenset[Name] | None,
    *,
    seal: Seal | None,
) -> tuple[ComparisonFinding, ...]:
    sequences = [one for one in manifest.sequences if chosen is None or (one.schema_name, one.name) in chosen]
    parameters = read_parameters(connection, [setting.name for setting in manifest.properties.settings])
    states, unread = read_sequences(connection, sequences)
    definitions = read_definitions(connection, manifest, exclude)
    return (
        *compare_tables(
            expected_tables(manifest, restored),
            manifest.tables,
            read_tables(connection, exclude),
            in_recovery=manifest.server.in_recovery,
        ),
        *compare_sequences(sequences, states, restored),
        *(
            ComparisonFinding(
                kind="not looked at",
                severity="environment",
                text=f"sequence {name} could not be read: {sequence_remedy(connection.info.user)}",
            )
            for name in unread
        ),
        *compare_properties(
            manifest.properties, properties_without(seal, read_properties(connection)), parameters, restored.notes
        ),
        *compare_roles(
            manifest.roles, read_roles(connection, [role.name for role in manifest.roles]), restored.roles_created
        ),
        *compare_extensions(manifest.extensions, read_extensions(connection), restored),
        *compare_collations(manifest.collations, read_collations(connection)),
        *compare_definitions(manifest, restored, definitions),
        *compare_objects(manifest, restored, definitions.facts),
    )
