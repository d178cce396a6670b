"""Comparing a restored copy with its manifest: a faithful copy matches, and whatever differs is named."""

import hashlib
import threading
from collections.abc import Callable

import pytest

from core.digest_sql import PINNED_SETTINGS
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.manifest import DatabaseSetting, Extension, Role
from core.restore_record import Skipped
from core.restored_comparison import Verification
from tasks.postgres import connect, pin_session
from tasks.restore_steps import require_match
from tasks.schema_fingerprint import schema_lines
from tasks.swap_steps import require_unchanged
from tasks.verify_restored import verify_restored
from tests.fix_restored import MARKER, Copy


def verify(copy: Copy, **more: object) -> Verification:
    manifest = more.pop("manifest", copy.manifest)
    restored = more.pop("restored", copy.restored)
    return verify_restored(copy.database, manifest, restored, **more)  # type: ignore[arg-type]


def texts(verification: Verification, severity: str = "mismatch") -> list[str]:
    return [finding.text for finding in verification.findings if finding.severity == severity]


def test_a_faithful_copy_matches(untouched_copy: Copy) -> None:
    seen: list[str] = []
    verification = verify(untouched_copy, on_table=seen.append)
    assert texts(verification) == texts(verification, "environment") == []
    assert verification.differences == ()
    assert verification.matches
    assert verification.tables_compared == len(untouched_copy.manifest.tables) == len(seen) - 1
    assert verification.rows == sum(table.rows or 0 for table in untouched_copy.manifest.tables) > 200
    # The states that the source had too are told, and are no mismatch.
    assert texts(verification, "note") == [
        "index public.event_what_only is not valid, as in the source",
        "constraint public.old.positive is not validated, as in the source",
    ]


# Each leaves the number of rows as it was.
DAMAGED_TABLES = {
    "public.account": ("UPDATE account SET balance = balance + 0.01 WHERE id = 7",),
    "public.payment": ("UPDATE payment SET amount = CASE id WHEN 1 THEN 200 ELSE 100 END WHERE id IN (1, 2)",),
    "public.event_1": (
        "ALTER TABLE event DROP CONSTRAINT event_pkey",
        "ALTER TABLE event_1 REPLICA IDENTITY FULL",
        "DELETE FROM event_1 WHERE id = 1",
        "INSERT INTO event_1 SELECT * FROM event_1 WHERE id = 2",
    ),
    "public.secret": ("DELETE FROM secret WHERE id = 5", "INSERT INTO secret VALUES (6, 'word 5')"),
    "public.changed and its partitions": (
        "ALTER TABLE changed_0 REPLICA IDENTITY FULL",
        "ALTER TABLE changed_1 REPLICA IDENTITY FULL",
        "UPDATE changed SET plan = 'free' WHERE id = 1",
    ),
    "public.cache": ("UPDATE cache SET value = NULL WHERE key = 'key 1'",),
}


def test_rows_that_differ_are_found_though_their_number_is_right(restored_copy: Copy) -> None:
    for statements in DAMAGED_TABLES.values():
        restored_copy.run(*statements)
    verification = verify(restored_copy)
    assert {difference.name for difference in verification.differences} == DAMAGED_TABLES.keys()
    assert all(difference.found_rows == difference.expected_rows for difference in verification.differences)
    assert not verification.matches


def test_a_single_value_is_enough(restored_copy: Copy) -> None:
    restored_copy.run("UPDATE account SET since = since + interval '1 microsecond' WHERE id = 7")
    verification = verify(restored_copy)
    assert [difference.name for difference in verification.differences] == ["public.account"]
    assert texts(verification) == []
    assert not verification.matches


# Each is told by name, whatever else is wrong.
NAMED = {
    "sequence public.payment_id_seq is behind: at 89, the snapshot's at 90": "SELECT setval('payment_id_seq', 89)",
    "sequence public.account_id_seq is behind: at 60 (not yet given), the snapshot's at 60": "SELECT setval('account_id_seq', 60, false)",
    "sequence public.down is behind: at 100, the snapshot's at 99": "SELECT setval('down', 100)",
    "privileges of the database that were not recorded: =T/postgres, pg_monitor=C/postgres": "GRANT CREATE ON DATABASE {name} TO pg_monitor",
    "privileges of the database are missing: =Tc/postgres": "REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    "setting work_mem was not recorded": "ALTER DATABASE {name} SET work_mem = '8MB'",
    "property connection_limit is 7, -1 was recorded": "ALTER DATABASE {name} CONNECTION LIMIT 7",
    "the database's comment is another one": "COMMENT ON DATABASE {name} IS 'another'",
    "table public.old is owned by pg_monitor, not by postgres": "ALTER TABLE old OWNER TO pg_monitor",
    "table public.cache is permanent, not unlogged": "ALTER TABLE cache SET LOGGED",
    "table public.single has other columns: more": "ALTER TABLE single ADD more int",
    "table public.empty is missing": "DROP TABLE empty",
    "table public.more is in the copy and was not in the snapshot": "CREATE TABLE more (id int)",
    "index public.payment_amount is not valid": "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'payment_amount'::regclass",
    "index public.event_1_pkey is not valid": "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'event_1_pkey'::regclass",
    "constraint public.payment.payment_account_id_fkey is not validated": "UPDATE pg_constraint SET convalidated = false WHERE conname = 'payment_account_id_fkey'",
    "large objects: bytes is 60016, 60012 was recorded": "SELECT lo_put(770001, 12, 'more')",
    "the schema's fingerprint is another one": "DROP FUNCTION greet",
}


def test_what_differs_is_a_mismatch_with_its_name(restored_copy: Copy) -> None:
    restored_copy.run(*(statement.format(name=restored_copy.name) for statement in NAMED.values()))
    found = texts(verify(restored_copy))
    missing = [told for told in NAMED if not any(text.startswith(told) for text in found)]
    assert missing == [], found


# Each alone, since it is told by a sum over everything.
SUMMED = {
    "a large object's byte": ("SELECT lo_put(770002, 70, '\\x01')", "large objects: digest is"),
    "two large objects' contents exchanged": (
        "SELECT lo_unlink(770001), lo_unlink(770002), lo_from_bytea(770002, 'first object'), lo_from_bytea(770001, decode(repeat('00ff', 30000), 'hex'))",
        "large objects: digest is",
    ),
    "privileges of a table": ("REVOKE ALL ON account FROM pg_monitor", "the copy has"),
    "a check not validated": (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'payment_amount_check'",
        "the schema's fingerprint",
    ),
    "an index not valid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'payment_amount'::regclass",
        "index public.payment_amount is not valid",
    ),
}


@pytest.mark.parametrize(("statement", "told"), SUMMED.values(), ids=SUMMED.keys())
def test_what_is_told_by_a_sum_is_seen_when_it_alone_differs(restored_copy: Copy, statement: str, told: str) -> None:
    restored_copy.run(statement)
    verification = verify(restored_copy)
    assert not verification.matches
    assert any(told in text for text in texts(verification)), verification.findings


def test_sequences_ahead_and_the_restores_own_marker_are_right(restored_copy: Copy) -> None:
    # Sequences are not transactional: the dump read them after the snapshot.
    restored_copy.run(
        "SELECT setval('payment_id_seq', 91)",
        "SELECT nextval('down')",
        f"COMMENT ON DATABASE {restored_copy.name} IS '{MARKER}'",
    )
    assert verify(restored_copy).matches


def test_what_is_the_servers_own_is_told_apart(untouched_copy: Copy) -> None:
    manifest = untouched_copy.manifest
    recorded = manifest.model_copy(
        update={
            "roles": (
                *manifest.roles,
                Role(name="not here", login=True, superuser=False),
                Role(name="pg_monitor", login=True, superuser=False),
            ),
            "extensions": (Extension(name="plpgsql", version="0.9", schema_name="pg_catalog"),),
            "properties": manifest.properties.model_copy(update={"collation_version": "1.2.3"}),
            "coverage": manifest.coverage.model_copy(update={"expected": manifest.coverage.expected + 1}),
            "schema_fingerprint": manifest.schema_fingerprint,
        }
    )
    verification = verify(untouched_copy, manifest=recorded)
    assert [text.split(":")[0] for text in texts(verification, "environment")] == [
        "the default collation's version is None, 1.2.3 was recorded",
        "role not here is missing on this server",
        "role pg_monitor was on this server before, and is NOLOGIN here",
        "extension plpgsql has version 1.0 here, 0.9 was recorded",
    ]
    made = untouched_copy.restored.model_copy(update={"roles_created": ("pg_monitor",)})
    assert not any(
        "pg_monitor" in text for text in texts(verify(untouched_copy, manifest=recorded, restored=made), "environment")
    )


def test_a_setting_that_the_restoring_role_may_not_make_is_the_servers_doing(untouched_copy: Copy) -> None:
    setting = DatabaseSetting(role="", name="log_min_duration_statement", value="1s")
    properties = untouched_copy.manifest.properties
    manifest = untouched_copy.manifest.model_copy(
        update={"properties": properties.model_copy(update={"settings": (*properties.settings, setting)})}
    )
    assert texts(verify(untouched_copy, manifest=manifest)) == ["setting log_min_duration_statement is missing"]
    note = 'the setting log_min_duration_statement was not made: permission denied to set parameter "log_min_duration_statement"'
    restored = untouched_copy.restored.model_copy(update={"notes": (note,)})
    verification = verify(untouched_copy, manifest=manifest, restored=restored)
    assert verification.matches
    assert texts(verification, "environment") == [note]


def test_another_version_of_an_extension_is_not_another_schema(untouched_copy: Copy) -> None:
    # As it would have been recorded on a server with an older one: the fingerprint holds the version.
    with connect(untouched_copy.database, application_name="test") as connection:
        pin_session(connection, PINNED_SETTINGS)
        lines = schema_lines(connection)
    older = sorted(line.replace('["extension", "plpgsql", "1.0"]', '["extension", "plpgsql", "0.9"]') for line in lines)
    assert older != lines
    manifest = untouched_copy.manifest.model_copy(
        update={
            "extensions": (untouched_copy.manifest.extensions[0].model_copy(update={"version": "0.9"}),),
            "schema_fingerprint": hashlib.sha256("\n".join(older).encode()).hexdigest(),
        }
    )
    verification = verify(untouched_copy, manifest=manifest)
    assert verification.matches
    assert texts(verification, "environment") == ["extension plpgsql has version 1.0 here, 0.9 was recorded"]


def test_another_database_is_refused(untouched_copy: Copy) -> None:
    source = untouched_copy.server.database("restored_source")
    with pytest.raises(PermanentError, match="leads to another database"):
        verify_restored(source, untouched_copy.manifest, untouched_copy.restored)
    elsewhere = untouched_copy.restored.model_copy(update={"system_identifier": "1"})
    with pytest.raises(PermanentError, match="leads to another database"):
        verify(untouched_copy, restored=elsewhere)


def test_the_copy_is_only_read(untouched_copy: Copy) -> None:
    # The manifest's own SQL is what is run: if it wrote, it would fail.
    table = next(table for table in untouched_copy.manifest.tables if table.name == "empty")
    writing = table.model_copy(update={"digest_sql": "INSERT INTO public.empty VALUES (1) RETURNING 0, '0'"})
    manifest = untouched_copy.manifest.model_copy(update={"tables": (writing,)})
    verification = verify(untouched_copy, manifest=manifest)
    assert "public.empty could not be read: cannot execute INSERT in a read-only transaction [SQLSTATE 25006]" in texts(
        verification, "environment"
    )
    assert not verification.matches


def test_an_owner_who_may_not_see_all_names_what_it_could_not_look_at(
    fresh_role: Callable[..., tuple[str, str]], restored_copy: Copy
) -> None:
    name, password = fresh_role(restored_copy.server)
    restored_copy.run(
        f"ALTER DATABASE {restored_copy.name} OWNER TO {name}",
        f"GRANT SELECT ON account, payment, changed_0, changed_1, event_1, event_2, old, kept, log, empty, single, same, no_columns, cache TO {name}",
        f"GRANT SELECT ON secret TO {name}",
    )
    login = restored_copy.server.database(restored_copy.name, user=name, password=password)
    verification = verify_restored(login, restored_copy.manifest, restored_copy.restored)
    unseen = [finding.text for finding in verification.findings if finding.kind == "not looked at"]
    oid = unseen[0].partition(";")[0].rpartition(" ")[2]
    assert oid in {"770001", "770002"}
    # Row security would have hidden rows: that it is on must be told, not its rows left out.
    lacks = f'could not be read: {name} lacks SELECT, or USAGE on its schema: GRANT pg_read_all_data TO "{name}"'
    hidden = (
        'query would be affected by row-level security policy for table "secret";'
        f' {name} lacks BYPASSRLS (row security is on): ALTER ROLE "{name}" BYPASSRLS'
    )
    assert unseen == [
        f'large objects could not be read: permission denied for large object {oid}; {name} lacks SELECT on it: GRANT "postgres" TO "{name}"',
        f"public.secret could not be read: {hidden}",
        f"sequence public.account_id_seq {lacks}",
        f"sequence public.down {lacks}",
        f"sequence public.payment_id_seq {lacks}",
    ]
    # What was not looked at is no damage, and no match either.
    assert verification.differences == ()
    assert not verification.matches
    # The owner differs too here; by itself, what was not looked at is told as that.
    verification = verification.model_copy(
        update={"findings": tuple(one for one in verification.findings if one.kind == "not looked at")}
    )
    with pytest.raises(PermanentError, match="nothing was found wrong, but not looked at") as refused:
        require_match(verification, "primary/app")
    assert not isinstance(refused.value, IntegrityError)
    assert "do not rely" not in str(refused.value)
    with pytest.raises(PermanentError, match="cannot be compared again before the swap; not looked at: large objects"):
        require_unchanged(verification, "app")


def test_a_table_or_a_schema_that_may_not_be_read_is_told_with_what_to_grant_and_a_damaged_one_as_damaged(
    fresh_role: Callable[..., tuple[str, str]], restored_copy: Copy
) -> None:
    name, password = fresh_role(restored_copy.server)
    login = restored_copy.server.database(restored_copy.name, user=name, password=password)

    def seen() -> Verification:
        return verify_restored(login, restored_copy.manifest, restored_copy.restored)

    restored_copy.run("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "UPDATE account SET balance = 0")
    grant = f'GRANT pg_read_all_data TO "{name}", or GRANT "postgres" TO "{name}"'
    assert any(
        text.startswith("public.account could not be read: permission denied for schema public;")
        and text.endswith(f"{name} lacks USAGE on its schema and SELECT: {grant}")
        for text in seen().unseen
    )
    assert not any("differs" in text for text in seen().mismatches)
    # What is proposed is enough, but for large objects and row security; then the damage is seen.
    restored_copy.run(f"GRANT pg_read_all_data TO {name}")
    assert {text.split(" could")[0] for text in seen().unseen} == {"large objects", "public.secret"}
    assert "public.account differs" in seen().mismatches
    with pytest.raises(IntegrityError, match=r"public\.account differs.* do not rely on this backup"):
        require_match(seen(), "primary/app")


def test_partitions_that_are_compared_as_one_are_left_out_as_one(
    fresh_role: Callable[..., tuple[str, str]], restored_copy: Copy
) -> None:
    name, password = fresh_role(restored_copy.server)
    restored_copy.run(f"GRANT SELECT ON changed_0 TO {name}", f"GRANT USAGE ON SCHEMA public TO {name}")
    login = restored_copy.server.database(restored_copy.name, user=name, password=password)
    verification = verify_restored(login, restored_copy.manifest, restored_copy.restored)
    assert verification.differences == ()
    assert any(text.startswith("public.changed_1 could not be read") for text in verification.unseen)


FAILS = {
    "42501": "could not be read: no word",
    "22012": "could not be read: no word [SQLSTATE 22012]",
    "53200": "could not be read: no word",
    "XX001": "is damaged in the copy: no word",
}


@pytest.mark.parametrize("state", FAILS)
def test_what_a_digests_query_fails_with_is_no_difference(restored_copy: Copy, state: str) -> None:
    restored_copy.run(
        f"CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{state}'', MESSAGE = ''no word''; END'"
    )
    (table,) = (table for table in restored_copy.manifest.tables if table.name == "account")
    failing = table.model_copy(update={"digest_sql": "SELECT 0, public.fail()"})
    others = tuple(table for table in restored_copy.manifest.tables if table.name != "account")
    verification = verify(
        restored_copy, manifest=restored_copy.manifest.model_copy(update={"tables": (failing, *others)})
    )
    damaged = state.startswith("XX")
    told = verification.mismatches if damaged else verification.unseen
    assert any(text.startswith(f"public.account {FAILS[state]}") for text in told)
    assert (verification.unseen == ()) == damaged
    assert not verification.matches
    # The copy's pages are its server's: no reason to call the backup damaged.
    assert not any(text.startswith("public.account ") for text in verification.damage)


@pytest.mark.parametrize("state", ["55P03", "57014", "40P01", "57P01", "08006", "53300"])
def test_a_lock_or_statement_time_out_is_no_word_on_the_table(restored_copy: Copy, state: str) -> None:
    restored_copy.run(
        f"CREATE FUNCTION fail() RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{state}''; END'"
    )
    table = restored_copy.manifest.tables[0].model_copy(update={"digest_sql": "SELECT 0, public.fail()"})
    manifest = restored_copy.manifest.model_copy(update={"tables": (table, *restored_copy.manifest.tables[1:])})
    with pytest.raises(TemporaryError):
        verify(restored_copy, manifest=manifest)


def test_only_what_was_chosen_is_compared_of_a_part(restored_copy: Copy) -> None:
    restored_copy.run("DELETE FROM payment", "SELECT lo_unlink(770001)", "SELECT setval('payment_id_seq', 1)")
    part = restored_copy.restored.model_copy(update={"partial": True})
    verification = verify(restored_copy, restored=part, tables=("public.account", "public.changed", "public.event"))
    assert verification.matches
    assert verification.tables_compared == 5
    # A table brings its sequence.
    missing = verify(restored_copy, restored=part, tables=("public.payment",))
    assert [difference.name for difference in missing.differences] == ["public.payment"]
    assert [finding.kind for finding in missing.findings if finding.severity == "mismatch"] == ["sequences"]
    assert not verify(restored_copy, restored=part, tables=("public.*",)).matches
    with pytest.raises(PermanentError, match="it is not said which"):
        verify(restored_copy, restored=part)


def test_what_the_restore_skipped_is_not_compared(restored_copy: Copy) -> None:
    restored_copy.run("DELETE FROM payment")
    skipped = (Skipped(entry="TABLE DATA public payment postgres", why="asked for"),)
    verification = verify(restored_copy, restored=restored_copy.restored.model_copy(update={"skipped": skipped}))
    assert verification.matches
    longer = (Skipped(entry="TABLE DATA public payment old postgres", why="another table"),)
    assert not verify(restored_copy, restored=restored_copy.restored.model_copy(update={"skipped": longer})).matches


def test_a_lost_server_is_an_error_and_no_thread_is_left(untouched_copy: Copy) -> None:
    def cut(_table: str) -> None:
        untouched_copy.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'nightshift verify'"
        )

    before = threading.active_count()
    with pytest.raises(TemporaryError):
        verify(untouched_copy, on_table=cut, sessions=1)
    assert threading.active_count() == before


def test_whoever_gives_up_ends_the_queries(untouched_copy: Copy) -> None:
    class GaveUpError(Exception):
        pass

    def give_up(_table: str) -> None:
        raise GaveUpError

    slow = [table.model_copy(update={"digest_sql": "SELECT pg_sleep(60)"}) for table in untouched_copy.manifest.tables]
    calls: list[str] = []

    def second_gives_up(table: str) -> None:
        calls.append(table)
        if len(calls) > 1:
            give_up(table)

    manifest = untouched_copy.manifest.model_copy(update={"tables": tuple(slow)})
    with pytest.raises(GaveUpError):
        verify(untouched_copy, manifest=manifest, on_table=second_gives_up, sessions=2)
    with untouched_copy.server.connect() as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'active'", (untouched_copy.name,)
        ).fetchone()
    assert left == (0,)


def test_amcheck_that_is_not_there_is_told(untouched_copy: Copy) -> None:
    # The wheel's servers have no contrib modules.
    verification = verify(untouched_copy, amcheck=True)
    assert verification.matches
    assert any(
        "b-trees were not checked" in text or "amcheck looked at" in text for text in texts(verification, "note")
    )
