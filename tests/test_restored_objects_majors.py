"""The sample database restored on every major that can take it: owners, privileges and states are the same, and each that is changed in the copy is found and named."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.manifest import Manifest
from core.restore_record import Restored
from core.restored_comparison import Verification
from deployments.local.sample_database import BACKUP_ROLE, load_sample
from tasks.verify_restored import verify_restored
from tests.fix_postgres import PostgresServer
from tests.fix_restored import drop_databases, dump_with_manifest, restored_record

PASSWORD = "sample-password-1"
PAIRS = [(15, 15), (15, 16), (15, 18), (16, 18), (18, 18)]

pytestmark = pytest.mark.services

# What is done to the copy, and how its finding begins.
CHANGES = (
    (
        'SET ROLE platform_admin; REVOKE GRANT OPTION FOR SELECT ON public.organizations FROM "Platform Ops"; RESET ROLE',
        "table public.organizations lacks “SELECT with grant option to Platform Ops by platform_admin",
    ),
    (
        "GRANT EXECUTE ON FUNCTION code.refuse() TO platform_reader",
        "function code.refuse() lacks “the usual privileges” and has “ALL to PUBLIC by platform_owner",
    ),
    (
        "ALTER FUNCTION code.organization_of SECURITY INVOKER",
        "function code.organization_of(pg_catalog.uuid) lacks “security definer”",
    ),
    (
        "ALTER FUNCTION public.current_value() OWNER TO platform_admin",
        "function public.current_value() lacks “owner platform_owner” and has “owner platform_admin”",
    ),
    (
        "CREATE OR REPLACE PROCEDURE code.touch_cache(INOUT touched int DEFAULT 0) LANGUAGE plpgsql AS 'BEGIN touched := 1; END'",
        "procedure code.touch_cache(integer) lacks “text ",
    ),
    (
        "GRANT USAGE ON SCHEMA odd TO platform_reader",
        "schema odd lacks “the usual privileges” and has “ALL to platform_owner by platform_owner; USAGE to platform_reader by platform_owner”",
    ),
    (
        "ALTER SCHEMA traps OWNER TO platform_admin",
        "schema traps lacks “owner platform_owner” and has “owner platform_admin”",
    ),
    (
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        "schema public lacks “USAGE to PUBLIC by pg_database_owner”",
    ),
    (
        "GRANT USAGE ON SEQUENCE odd.counting_down TO platform_reader",
        "sequence odd.counting_down lacks “the usual privileges” and has “ALL to platform_owner by platform_owner; USAGE to platform_reader",
    ),
    (
        "ALTER SEQUENCE odd.huge CACHE 77",
        "sequence odd.huge lacks “",
    ),
    (
        "REVOKE USAGE ON TYPE types.percentage FROM platform_writer",
        "type types.percentage lacks “",
    ),
    (
        "ALTER TYPE types.address OWNER TO platform_admin",
        "type types.address lacks “owner platform_owner” and has “owner platform_admin”",
    ),
    (
        "ALTER TYPE types.plan RENAME VALUE 'team' TO 'club'",
        "type types.plan lacks “labels free, team, business, enterprise",
    ),
    (
        "REVOKE UPDATE (name) ON app.api_keys FROM platform_reader",
        "table app.api_keys lacks “column name: SELECT, UPDATE to platform_reader",
    ),
    (
        "REVOKE SELECT ON app.links FROM platform_reader",
        "table app.links lacks “",
    ),
    (
        "ALTER VIEW code.active_users OWNER TO platform_admin",
        "view code.active_users lacks “owner platform_owner” and has “owner platform_admin”",
    ),
    (
        "ALTER VIEW code.own_documents RESET (security_invoker)",
        "view code.own_documents lacks “options security_invoker=true”",
    ),
    (
        "ALTER MATERIALIZED VIEW code.busiest_month OWNER TO platform_admin",
        "materialized view code.busiest_month lacks “owner platform_owner” and has “owner platform_admin”",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner IN SCHEMA app REVOKE SELECT ON TABLES FROM platform_reader",
        "default acl for role platform_owner in schema app on tables is missing",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner GRANT EXECUTE ON FUNCTIONS TO PUBLIC",
        "default acl for role platform_owner on functions is missing",
    ),
    (
        "ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner IN SCHEMA odd GRANT SELECT ON TABLES TO platform_reader",
        "default acl for role platform_owner in schema odd on tables is in the copy",
    ),
    (
        "REVOKE ALL ON LARGE OBJECT 900001 FROM platform_api",
        "large object 900001 lacks “",
    ),
    (
        "ALTER LARGE OBJECT 900002 OWNER TO platform_admin",
        "large object 900002 lacks “ALL to platform_owner by platform_owner; SELECT",
    ),
    (
        'REVOKE USAGE ON FOREIGN SERVER "Data Warehouse" FROM platform_reporting',
        "server Data Warehouse lacks “",
    ),
    (
        'DROP USER MAPPING FOR platform_reporting SERVER "Data Warehouse"',
        "server Data Warehouse lacks “user mapping of platform_reporting”",
    ),
    (
        "REVOKE USAGE ON FOREIGN DATA WRAPPER platform_wrapper FROM platform_owner",
        "foreign-data wrapper platform_wrapper lacks “",
    ),
    (
        "REVOKE USAGE ON LANGUAGE plpgsql FROM platform_writer",
        "changed privileges of language plpgsql: the copy lacks “granted: ALL to platform_writer",
    ),
    (
        "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() FROM platform_reporting",
        "changed privileges of function pg_catalog.pg_ls_waldir(): the copy lacks “granted: ALL to platform_reporting",
    ),
    (
        "ALTER PUBLICATION platform_audit OWNER TO postgres",
        "publication platform_audit lacks “owner platform_owner” and has “owner postgres”",
    ),
    (
        "ALTER PUBLICATION \"Platform changes\" SET (publish = 'insert')",
        "publication Platform changes lacks “with pubinsert, pubupdate”",
    ),
    (
        "ALTER PUBLICATION platform_filtered SET TABLE public.users (id, email)",
        "publication platform_filtered lacks “table public.users (email, id) filtered”",
    ),
    (
        "ALTER PUBLICATION platform_schemas DROP TABLES IN SCHEMA auditing",
        "publication platform_schemas lacks “schema auditing”",
    ),
    (
        "ALTER EVENT TRIGGER platform_watch_ddl DISABLE",
        "event trigger platform_watch_ddl lacks “",
    ),
    (
        "ALTER STATISTICS odd.indexed_some OWNER TO postgres",
        "statistics object odd.indexed_some lacks “owner platform_owner” and has “owner postgres”",
    ),
    (
        "ALTER OPERATOR FAMILY code.size_family USING btree OWNER TO platform_owner",
        "operator family code.size_family USING btree lacks “owner postgres” and has “owner platform_owner”",
    ),
    (
        "ALTER CONVERSION code.latin_one OWNER TO postgres",
        "conversion code.latin_one lacks “owner platform_owner” and has “owner postgres”",
    ),
    (
        "ALTER TEXT SEARCH CONFIGURATION code.platform_search ALTER MAPPING FOR asciiword WITH english_stem",
        "text search configuration code.platform_search lacks “maps 1 to",
    ),
    (
        "UPDATE pg_cast SET castcontext = 'i' WHERE castsource = 'types.address'::regtype",
        "cast (types.address AS pg_catalog.text) lacks “context a",
    ),
    (
        "ALTER OPERATOR code.~=~ (numeric, numeric) OWNER TO postgres",
        "operator code.~=~(numeric,numeric) lacks “",
    ),
    (
        "ALTER TABLE public.users DISABLE TRIGGER users_updated_at",
        "table public.users lacks “trigger users_updated_at: enabled",
    ),
    (
        "ALTER TABLE code.audit_log ENABLE TRIGGER refuse_delete",
        "table code.audit_log lacks “trigger refuse_delete: always",
    ),
    (
        "ALTER TABLE types.t DISABLE RULE no_delete",
        "table types.t lacks “rule no_delete: event 4, enabled",
    ),
    (
        "ALTER TABLE app.sealed DISABLE ROW LEVEL SECURITY",
        "table app.sealed lacks “row security enabled”",
    ),
    (
        "ALTER TABLE app.api_keys NO FORCE ROW LEVEL SECURITY",
        "table app.api_keys lacks “row security forced”",
    ),
    (
        "ALTER POLICY own_organization ON app.documents TO PUBLIC",
        "table app.documents lacks “policy own_organization: all, permissive, to platform_api",
    ),
    (
        "ALTER TABLE odd.options RESET (fillfactor)",
        "table odd.options lacks “",
    ),
    (
        "ALTER TABLE odd.indexed REPLICA IDENTITY DEFAULT",
        "table odd.indexed lacks “index indexed_identity: btree, unique",
    ),
    (
        "ALTER TABLE app.sessions ALTER CONSTRAINT sessions_user_id_fkey DEFERRABLE",
        "table app.sessions lacks “constraint sessions_user_id_fkey: FOREIGN KEY",
    ),
    (
        "ALTER TABLE odd.departments DROP CONSTRAINT departments_head_id_fkey",
        "table odd.departments lacks “",
    ),
    (
        "ALTER TABLE app.attachments ALTER COLUMN id SET DEFAULT 1",
        "table app.attachments lacks “column id: not null” and has “column id: not null, default”",
    ),
    (
        "UPDATE pg_constraint SET convalidated = false WHERE conrelid = 'app.invoices'::regclass AND contype = 'f'",
        "constraint app.invoices.invoices_organization_id_fkey is not validated; in the source it was",
    ),
    (
        "UPDATE pg_constraint SET convalidated = true WHERE conname = 'positive' AND conrelid = 'odd.not_valid'::regclass",
        "constraint odd.not_valid.positive is validated in the copy",
    ),
    (
        "ALTER TABLE odd.employees DISABLE TRIGGER ALL",
        "constraint odd.employees.employees_department_id_fkey is not enforced",
    ),
    (
        "COMMENT ON SCHEMA app IS 'another'",
        "schema app lacks “comment ",
    ),
    (
        "COMMENT ON TABLE odd.cache IS 'none before'",
        "table odd.cache has “comment ",
    ),
    (
        "COMMENT ON POLICY own_organization ON app.documents IS NULL",
        "policy own_organization on app.documents lacks “comment ",
    ),
)


@dataclass
class Dumped:
    """A sample as the backup role dumped it, to be restored under another name."""

    manifest: Manifest
    archive: Path


@pytest.fixture(scope="module")
def dumped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int, bool], Dumped]]:
    """A factory: given a major and whether the sample is to be portable, return it dumped; made once a module."""
    made: dict[tuple[int, bool], Dumped] = {}
    sources: list[tuple[PostgresServer, str]] = []

    def dump(major: int, portable: bool) -> Dumped:
        if (major, portable) not in made:
            server: PostgresServer = request.getfixturevalue(f"postgres_{major}")
            name = f"objects_{'portable' if portable else 'full'}"
            sources.append((server, name))
            load_sample(server.conninfo(), rows=30, backup_password=PASSWORD, database=name, portable=portable)
            archive = tmp_path_factory.mktemp(f"objects{major}") / f"{name}.pgdump"
            manifest = dump_with_manifest(server, server.database(name, user=BACKUP_ROLE, password=PASSWORD), archive)
            made[major, portable] = Dumped(manifest, archive)
        return made[major, portable]

    yield dump
    for server, name in sources:
        drop_databases(server, name)


@dataclass
class Copy:
    """A restored copy and what it was made from."""

    server: PostgresServer
    manifest: Manifest
    restored: Restored

    def verify(self) -> Verification:
        """Compare it with its manifest."""
        return verify_restored(self.server.database(self.restored.name), self.manifest, self.restored)


@pytest.fixture
def restore(
    request: pytest.FixtureRequest, dumped: Callable[[int, bool], Dumped]
) -> Iterator[Callable[[int, int], Copy]]:
    """A factory: given two majors, return the sample of one restored on the other."""
    made: list[tuple[PostgresServer, str]] = []

    def restored(source: int, target: int) -> Copy:
        dump = dumped(source, source != target)
        server: PostgresServer = request.getfixturevalue(f"postgres_{target}")
        if source != target:
            server.run("psql", "-X", "-q", "-f", str(dump.archive.with_suffix(".sql")), check=False)
        name = f"objects_{secrets.token_hex(4)}"
        made.append((server, name))
        server.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        server.run("pg_restore", "--exit-on-error", f"--dbname={name}", str(dump.archive))
        return Copy(server, dump.manifest, restored_record(server, name))

    yield restored
    for server, name in made:
        drop_databases(server, name)


def told(verification: Verification) -> list[str]:
    # The database's own properties are not restored here.
    return [
        finding.text
        for finding in verification.findings
        if finding.severity == "mismatch" and finding.kind != "properties"
    ]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_objects_are_the_same_on_every_major_and_each_change_is_named(
    restore: Callable[[int, int], Copy], source: int, target: int
) -> None:
    copy = restore(source, target)
    assert copy.manifest.objects is not None
    assert len(copy.manifest.objects.groups) > 80
    before = copy.verify()
    assert told(before) == []
    notes = [finding.text for finding in before.findings if finding.severity == "note"]
    assert "constraint odd.not_valid.positive is not validated, as in the source" in notes
    assert "index app.events_kind_only is not valid, as in the source" in notes
    copy.server.execute(copy.restored.name, *(statement for statement, _text in CHANGES))
    found = told(copy.verify())
    missing = [text for _statement, text in CHANGES if not any(one.startswith(text) for one in found)]
    assert missing == [], "\n".join(found)
