"""Two jobs of pg_restore never wait for each other's locks on one table."""

import secrets
from collections.abc import Iterator

import pytest

from core.restore_listing import choose_all, parse_contents
from core.restore_passes import in_passes, postponed_indexes
from tasks.restore_backup import restore_backup
from tasks.restored_copy import drop_copy
from tests.fix_object_store import S3Server
from tests.fix_postgres import PostgresServer
from tests.fix_restore import Taken, take

LISTING = """;
20; 1259 100 TABLE public busy owner
21; 1259 101 TABLE public quiet owner
30; 0 100 TABLE DATA public busy owner
40; 1259 200 INDEX public busy_cluster owner
;	depends on: 20
41; 1259 201 INDEX public busy_identity owner
;	depends on: 20
42; 1259 202 INDEX public busy_plain owner
;	depends on: 20
43; 1259 203 INDEX public quiet_identity owner
;	depends on: 21
44; 0 0 COMMENT public INDEX busy_identity owner
;	depends on: 41
45; 2606 300 FK CONSTRAINT public quiet quiet_busy_fkey owner
;	depends on: 41 20 21
46; 0 0 COMMENT public CONSTRAINT quiet_busy_fkey ON quiet owner
;	depends on: 45
"""
SCRIPT = """
--
-- TOC entry 40 (class 1259 OID 200)
-- Name: busy_cluster; Type: INDEX; Schema: public; Owner: owner
--

CREATE INDEX busy_cluster ON public.busy USING btree (a);

ALTER TABLE public.busy CLUSTER ON busy_cluster;


--
-- TOC entry 42 (class 1259 OID 202)
-- Name: busy_plain; Type: INDEX; Schema: public; Owner: owner
--

CREATE INDEX busy_plain ON public.busy USING btree (b);


--
-- TOC entry 41 (class 1259 OID 201)
-- Dependencies: 20
-- Name: busy_identity; Type: INDEX; Schema: public; Owner: owner
--

CREATE UNIQUE INDEX busy_identity ON public.busy USING btree (id);

ALTER TABLE ONLY public.busy REPLICA IDENTITY USING INDEX busy_identity;


--
-- TOC entry 43 (class 1259 OID 203)
-- Name: quiet_identity; Type: INDEX; Schema: public; Owner: owner
--

CREATE UNIQUE INDEX quiet_identity ON public.quiet USING btree (id);

ALTER TABLE ONLY public.quiet REPLICA IDENTITY USING INDEX quiet_identity;


--
-- TOC entry 50 (class 2606 OID 400)
-- Name: busy busy_pkey; Type: CONSTRAINT; Schema: public; Owner: owner
--

ALTER TABLE ONLY public.busy
    ADD CONSTRAINT busy_pkey PRIMARY KEY (c);

ALTER TABLE public.busy CLUSTER ON busy_pkey;
"""


def numbers(list_text: str) -> set[int]:
    return {int(line.rstrip(";")) for line in list_text.splitlines()}


def test_only_the_second_index_of_a_table_that_takes_a_stronger_lock_waits() -> None:
    assert postponed_indexes(SCRIPT) == {41}


def test_what_needs_a_postponed_index_waits_with_it_and_nothing_is_lost() -> None:
    listed = parse_contents(LISTING)
    first, second = in_passes(listed, choose_all(listed), {41})
    assert numbers(second) == {41, 44, 45, 46}
    assert numbers(first) == {20, 21, 30, 40, 42, 43}


def test_one_pass_when_no_postponed_index_was_chosen() -> None:
    listed = parse_contents(LISTING)
    choice = choose_all(listed)
    without = choice.model_copy(update={"list_text": "20;\n30;\n40;\n"})
    assert in_passes(listed, choice, set()) == (choice.list_text,)
    assert in_passes(listed, without, {41}) == ("20;\n30;\n40;\n",)


@pytest.fixture
def clustered(postgres_16: PostgresServer, s3_server: S3Server) -> Iterator[Taken]:
    """A table whose two indexes take long enough to be made at once, each with a statement that wants the table to itself."""
    name = f"passes_{secrets.token_hex(4)}"
    postgres_16.execute("postgres", f"CREATE DATABASE {name}")
    postgres_16.execute(
        name,
        'CREATE TABLE busy (id int NOT NULL, a text COLLATE "C")',
        "INSERT INTO busy SELECT n, md5(n::text) FROM generate_series(1, 100000) AS n",
        "CREATE INDEX busy_cluster ON busy (a)",
        "ALTER TABLE busy CLUSTER ON busy_cluster",
        "CREATE UNIQUE INDEX busy_identity ON busy (id)",
        "ALTER TABLE busy REPLICA IDENTITY USING INDEX busy_identity",
        "CREATE TABLE quiet (busy int REFERENCES busy (id))",
        "COMMENT ON INDEX busy_identity IS 'whose'",
    )
    yield take(postgres_16, name, s3_server, name.replace("_", "-"))
    postgres_16.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def test_a_clustered_table_with_a_replica_identity_is_restored_by_two_jobs(
    clustered: Taken, postgres_16: PostgresServer
) -> None:
    with restore_backup(clustered.order(postgres_16, purpose="drill", jobs=2)) as copy:
        with postgres_16.connect(copy.database.name) as session:
            found = session.execute(
                "SELECT indexrelid::regclass::text, indisclustered, indisreplident FROM pg_index"
                " WHERE indrelid = 'busy'::regclass ORDER BY 1"
            ).fetchall()
            keys = session.execute("SELECT count(*) FROM pg_constraint WHERE contype = 'f'").fetchone()
        drop_copy(copy)
    assert found == [("busy_cluster", True, False), ("busy_identity", False, True)]
    assert keys == (1,)
