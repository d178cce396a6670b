"""A backup restored: into the same and a newer major, whole and in part, from a file, a folder and a stream."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from core.database_statements import read_marker
from core.digest_comparison import differences
from core.digest_sql import PINNED_SETTINGS
from core.errors import IntegrityError, PermanentError
from core.manifest import DatabaseSetting, Manifest
from tasks.database_properties import read_properties
from tasks.digests import digest_table
from tasks.object_store import ObjectStore
from tasks.postgres import connect, pin_session
from tasks.restore_backup import restore_backup
from tasks.restored_copy import RestoredCopy, drop_copy
from tests.fix_object_store import FaultProxy
from tests.fix_postgres import PostgresServer
from tests.fix_restore import GROUP, OWNER, READER, Taken, databases, roles_of

Named = Callable[..., str]
ODD = "my; schema.a\nb 'c' \"d"
TABLES = {"public.customer", "public.purchase", "audit.log_low", "audit.log_high", ODD}


def one(server: PostgresServer, database: str, query: str) -> Any:
    """The value that a query gives."""
    with server.connect(database) as session:
        row = session.execute(query).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return row[0]


def comment_of(server: PostgresServer, database: str) -> Any:
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    with server.connect() as session:
        row = session.execute(query, (database,)).fetchone()
    assert row is not None
    return row[0]


def different(copy: RestoredCopy, manifest: Manifest) -> set[str]:
    """The tables whose rows or digest are not those of the manifest, by the oids recorded there."""
    with closing(connect(copy.database, application_name="test")) as session:
        pin_session(session, PINNED_SETTINGS)
        found = {table.oid: digest_table(session, table) for table in manifest.tables}
    return {difference.name for difference in differences(manifest.tables, found)}


def test_everything_comes_back_under_the_name_that_was_asked_for(
    taken: Taken, postgres_16: PostgresServer, restored_names: Named
) -> None:
    name = restored_names(postgres_16)
    phases: list[str] = []
    read_only = DatabaseSetting(role="", name="default_transaction_read_only", value="on")
    properties = taken.manifest.properties
    properties = properties.model_copy(update={"settings": (*properties.settings, read_only)})
    manifest = taken.manifest.model_copy(update={"properties": properties})
    with restore_backup(taken.order(postgres_16, target=name, manifest=manifest), on_phase=phases.append) as copy:
        temporary = copy.database.name
        assert different(copy, taken.manifest) == set()
        marker = read_marker(comment_of(postgres_16, temporary))
        assert marker is not None
        assert (marker.nightshift, marker.backup_id) == ("restore", taken.manifest.backup_id)
        copy.finish(name)
    assert phases == ["prepare", "fetch", "globals", "create", "restore", "analyze"]
    assert [phase.name for phase in copy.restored.phases] == phases
    assert temporary not in databases(postgres_16)
    with closing(connect(copy.database, application_name="test")) as session:
        found = read_properties(session)
    assert set(found.settings) == set(properties.settings)
    assert found.model_copy(update={"settings": ()}) == properties.model_copy(update={"settings": ()})
    assert copy.restored.name == name
    assert copy.restored.skipped == ()
    assert (
        one(
            postgres_16,
            name,
            "SELECT count(*) FROM pg_statistic JOIN pg_class ON oid = starelid WHERE relname = 'customer'",
        )
        > 0
    )
    assert one(postgres_16, name, "SELECT total FROM spent WHERE customer = 4") == 6
    assert one(postgres_16, name, "SELECT purchases FROM by_customer WHERE id = 4") == 1
    assert one(postgres_16, name, "SELECT last_value FROM audit.counter") == 41


def test_a_newer_major_gets_the_roles_that_it_lacks(
    taken: Taken, postgres_18: PostgresServer, restored_names: Named
) -> None:
    name = restored_names(postgres_18)
    with restore_backup(taken.order(postgres_18, target=name)) as copy:
        assert different(copy, taken.manifest) == set()
        copy.finish(name)
    assert set(copy.restored.roles_created) == {OWNER, READER}
    assert copy.restored.pg_restore.startswith("18")
    assert any("across versions" in note for note in copy.restored.notes)
    with postgres_18.connect() as session:
        roles = dict(
            session.execute(
                "SELECT rolname, (rolcanlogin, rolcreatedb, rolinherit, rolconnlimit, rolconfig)::text FROM pg_roles WHERE rolname LIKE 'restore%'"
            ).fetchall()
        )
        assert session.execute(f"SELECT shobj_description('{OWNER}'::regrole, 'pg_authid')").fetchone() == (
            "it's \\ the owner",
        )
        postgres_18.execute(
            "postgres", f'DROP DATABASE "{name}"', *(f"DROP ROLE {role}" for role in (OWNER, '"restore ""reader"'))
        )
    assert roles == {OWNER: "(t,t,t,7,{work_mem=5MB})", READER: "(f,f,f,-1,)"}
    assert any(f"{GROUP}, which is not on the server" in note for note in copy.restored.notes)
    assert any("pg_monitor, which rules over more" in note for note in copy.restored.notes)


def test_a_directory_is_restored_from_its_files(
    taken_as_directory: Taken, postgres_16: PostgresServer, restored_names: Named, spool: Path
) -> None:
    restored_names(postgres_16)
    order = taken_as_directory.order(postgres_16, purpose="drill", spool_parent=str(spool))
    with restore_backup(order) as copy:
        assert different(copy, taken_as_directory.manifest) == set()
        assert list(spool.iterdir()) == []
        assert one(postgres_16, copy.database.name, "SELECT convert_from(lo_get(4711), 'UTF8')") == "large"
        drop_copy(copy)
        drop_copy(copy)
    assert copy.database.name not in databases(postgres_16)


def test_of_a_directory_only_what_the_chosen_tables_need_is_fetched_and_that_is_said(
    taken_as_directory: Taken,
    postgres_16: PostgresServer,
    restored_names: Named,
    faulty_store: ObjectStore,
    s3_faults: FaultProxy,
) -> None:
    restored_names(postgres_16)
    backup = taken_as_directory.copied(faulty_store)
    parts = backup.manifest.archive.parts
    whole = sum(part.plain_bytes for part in parts)
    s3_faults.requests.clear()
    order = backup.order(postgres_16, tables=("public.customer",))
    # Room for some of it, not for the whole.
    with restore_backup(order, free=lambda _folder: whole - 1) as copy:
        assert TABLES - different(copy, backup.manifest) == {"public.customer"}
        drop_copy(copy)
    fetched = {path.split("?")[0].rpartition("/dump/")[2].split("/")[0] for _, path in s3_faults.requests}
    fetched -= {path for path in fetched if not path.endswith(".dat")}
    assert len(fetched) == 2
    assert "toc.dat" in fetched
    assert f"{len(parts) - 2} files of the dump hold other tables' rows: they were neither fetched nor checked" in (
        copy.restored.notes
    )
    assert any("large objects of the backup were left out" in note for note in copy.restored.notes)


def test_a_chosen_file_of_a_directory_that_was_changed_or_is_gone_is_told(
    taken_as_directory: Taken, postgres_16: PostgresServer, store: ObjectStore
) -> None:
    backup = taken_as_directory.copied(store)
    parts = backup.manifest.archive.parts
    rows = max(
        (part for part in parts if part.name != "toc.dat" and not part.name.startswith("blob")),
        key=lambda part: part.plain_bytes,
    )
    order = backup.order(postgres_16, tables=("public.*",))
    key = next(item.key for item in store.list("") if item.key.endswith(rows.segments[0].key))
    body = bytearray(store.get(key))
    body[len(body) // 2] ^= 1
    store.put(key, bytes(body))
    with pytest.raises(IntegrityError, match="SHA-256"), restore_backup(order):
        pass
    less = tuple(part for part in parts if part.name != rows.name)
    manifest = backup.manifest.model_copy(
        update={"archive": backup.manifest.archive.model_copy(update={"parts": less})}
    )
    with (
        pytest.raises(IntegrityError, match=rf"{rows.name} is in the table of contents and not in the manifest"),
        restore_backup(backup.order(postgres_16, manifest=manifest)),
    ):
        pass
    assert databases(postgres_16) == set()


@pytest.mark.services
def test_without_room_on_the_disk_it_is_streamed_and_said_so(
    taken: Taken, postgres_16: PostgresServer, restored_names: Named
) -> None:
    restored_names(postgres_16)
    with restore_backup(taken.order(postgres_16), free=lambda _folder: 0) as copy:
        assert different(copy, taken.manifest) == set()
    assert copy.restored.streamed
    assert any("no room" in note for note in copy.restored.notes)


def test_without_room_a_directory_says_what_it_needs(taken_as_directory: Taken, postgres_16: PostgresServer) -> None:
    with (
        pytest.raises(PermanentError, match=r"100 B are free beside the reserve, .* are needed"),
        restore_backup(taken_as_directory.order(postgres_16), free=lambda _folder: 100),
    ):
        pass
    assert databases(postgres_16) == set()


@pytest.mark.parametrize(
    ("patterns", "filled", "skipped"),
    [
        (("public.purchase",), {"public.purchase"}, {"FK CONSTRAINT public purchase purchase_customer_fkey"}),
        pytest.param(
            ("public.customer",),
            {"public.customer"},
            {"MATERIALIZED VIEW DATA public spent"},
            marks=pytest.mark.services,
        ),
        pytest.param(("audit.*", "public.customer", "public.purchase", ODD), TABLES, set(), marks=pytest.mark.services),
        pytest.param(("my; schema.*",), {ODD}, {"MATERIALIZED VIEW DATA public spent"}, marks=pytest.mark.services),
        (("audit.log",), {"audit.log_low", "audit.log_high"}, {"MATERIALIZED VIEW DATA public spent"}),
        (("audit.log_low",), {"audit.log_low"}, {"MATERIALIZED VIEW DATA public spent"}),
    ],
)
def test_chosen_tables_alone_have_rows(  # noqa: PLR0917 - fixtures
    taken: Taken,
    postgres_16: PostgresServer,
    restored_names: Named,
    patterns: tuple[str, ...],
    filled: set[str],
    skipped: set[str],
) -> None:
    restored_names(postgres_16)
    with restore_backup(taken.order(postgres_16, tables=patterns)) as copy:
        assert TABLES - different(copy, taken.manifest) == filled
        database = copy.database.name
        invalid = one(postgres_16, database, "SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        views = one(postgres_16, database, "SELECT count(*) FROM by_customer")
        drawn = one(
            postgres_16,
            database,
            "SELECT ARRAY[nextval('customer_id_seq'), nextval('purchase_id_seq'), nextval('audit.counter')]",
        )
    assert copy.restored.partial
    assert {entry.entry.removesuffix(f" {OWNER}") for entry in copy.restored.skipped} == skipped
    assert all("not restored" in entry.why for entry in copy.restored.skipped)
    assert invalid == 0
    assert views == (200 if "public.customer" in filled else 0)
    assert drawn == [
        201 if "public.customer" in filled else 1,
        201 if "public.purchase" in filled else 1,
        42 if "audit.*" in patterns else 41,
    ]


def test_tables_that_are_not_there_are_refused_before_a_database_is_made(
    taken: Taken, postgres_16: PostgresServer
) -> None:
    with (
        pytest.raises(PermanentError, match=r"no table with rows in this backup is called 'public\.customers'"),
        restore_backup(taken.order(postgres_16, tables=("public.customers",))),
    ):
        pass
    assert databases(postgres_16) == set()


def test_an_error_in_the_block_drops_the_copy_and_a_finished_one_stays(
    taken: Taken, postgres_16: PostgresServer, restored_names: Named
) -> None:
    name = restored_names(postgres_16)
    with pytest.raises(RuntimeError, match="a digest differs"), restore_backup(taken.order(postgres_16)) as copy:
        raise RuntimeError("a digest differs")
    assert databases(postgres_16) == set()
    with pytest.raises(RuntimeError, match="afterwards"), restore_backup(taken.order(postgres_16, target=name)) as copy:
        copy.finish(name)
        raise RuntimeError("afterwards")
    assert one(postgres_16, name, "SELECT count(*) FROM customer") == 200
    with pytest.raises(PermanentError, match="finished"):
        drop_copy(copy)


def test_a_role_that_may_make_databases_restores_what_it_owns(
    taken: Taken, postgres_16: PostgresServer, restored_names: Named
) -> None:
    name = restored_names(postgres_16)
    postgres_16.execute("postgres", f"ALTER ROLE {OWNER} PASSWORD 'of the owner'")
    login = postgres_16.database("postgres", user=OWNER, password="of the owner")
    with restore_backup(taken.order(postgres_16, login=login, target=name)) as copy:
        assert different(copy, taken.manifest) == set()
        copy.finish(name)
    assert (
        one(postgres_16, name, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
        == OWNER
    )


def test_a_role_that_may_make_roles_restores_for_those_that_it_makes(
    taken: Taken, postgres_18: PostgresServer, restored_names: Named, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    restored_names(postgres_18)
    user, password = fresh_role(postgres_18, "CREATEDB CREATEROLE")
    login = postgres_18.database("postgres", user=user, password=password)
    with restore_backup(taken.order(postgres_18, login=login)) as copy:
        assert different(copy, taken.manifest) == set()
        drop_copy(copy)
    assert roles_of(postgres_18) == set()
    assert f"the restoring role was made a member of {OWNER}, to give it what it owns" in copy.restored.notes


def test_a_role_that_may_not_act_for_the_owner_is_told_so(
    taken: Taken, postgres_16: PostgresServer, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    user, password = fresh_role(postgres_16, "CREATEDB")
    login = postgres_16.database("postgres", user=user, password=password)
    with (
        pytest.raises(PermanentError, match=f"no member of: {OWNER}.*GRANT these roles TO {user}"),
        restore_backup(taken.order(postgres_16, login=login)),
    ):
        pass
    assert databases(postgres_16) == set()


def test_a_drills_roles_cannot_log_in_and_keep_their_other_attributes(
    taken: Taken, postgres_18: PostgresServer, restored_names: Named
) -> None:
    restored_names(postgres_18)
    postgres_18.execute("postgres", 'CREATE ROLE "restore ""reader" LOGIN CREATEROLE')
    with restore_backup(taken.order(postgres_18, purpose="drill")) as copy:
        roles = one(
            postgres_18,
            "postgres",
            "SELECT array_agg((rolname, rolcanlogin, rolcreatedb, rolcreaterole)::text ORDER BY rolname) FROM pg_roles WHERE rolname LIKE 'restore%'",
        )
        drop_copy(copy)
    # What was there before stays.
    assert roles_of(postgres_18) == {READER}
    postgres_18.execute("postgres", 'DROP ROLE "restore ""reader"')
    assert set(roles) == {'("restore ""reader",t,f,t)', f"({OWNER},f,t,f)"}
    assert copy.restored.roles_created == (OWNER,)


def test_the_maintenance_session_is_not_needed_to_drop(taken: Taken, postgres_16: PostgresServer) -> None:
    with (
        pytest.raises(psycopg.OperationalError),
        restore_backup(taken.order(postgres_16)) as copy,
    ):
        with postgres_16.connect() as session:
            session.execute("SELECT pg_terminate_backend(%s)", (copy.session.info.backend_pid,))
        copy.session.execute("SELECT 1")
    assert databases(postgres_16) == set()
