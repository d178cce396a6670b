"""What goes wrong in a restore, and that no half-made database is left."""

import hashlib
import secrets
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from core.errors import IntegrityError, PermanentError, TemporaryError
from core.manifest import Manifest
from tasks.object_store import ObjectStore
from tasks.restore_backup import restore_backup
from tasks.restore_target import require_no_alias
from tasks.restored_copy import drop_copy
from tests.fix_object_store import FaultProxy, S3Server
from tests.fix_postgres import PostgresServer
from tests.fix_restore import OWNER, Taken, databases, take
from tests.leave_out import leave_out_mount

# Minutes of faults on real servers: make test-services.
pytestmark = pytest.mark.services

Named = Callable[..., str]


def refused(order: Any, **more: Any) -> str:
    """The sentence with which a restore is refused."""
    with pytest.raises(PermanentError) as raised, restore_backup(order, **more):
        pass
    return str(raised.value)


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each of these tests the servers that it used hold no unfinished copy."""
    yield
    for name in ("postgres_15", "postgres_16", "postgres_18"):
        if name in request.fixturenames:
            assert databases(request.getfixturevalue(name)) == set()


def changed(manifest: Manifest, **more: Any) -> Manifest:
    return manifest.model_copy(update=more)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("restore_source", "a database of this name exists"),
        ("template1", "never replaced"),
        ("ä" * 32, "it has 64 bytes"),
        ("nightshift_0123abcd", "not finished"),
    ],
)
def test_names_that_cannot_be_had_are_refused(
    taken: Taken, postgres_16: PostgresServer, target: str, found: str
) -> None:
    assert found in refused(taken.order(postgres_16, target=target))


def test_a_second_restore_to_the_same_name_is_refused_at_once(taken: Taken, postgres_16: PostgresServer) -> None:
    with restore_backup(taken.order(postgres_16, target="twice")) as copy:
        sentence = refused(taken.order(postgres_16, target="twice"))
        assert "another restore is making a database called twice" in sentence
        assert f"nightshift restore {copy.order.restore_id}" in sentence
        drop_copy(copy)


def test_an_older_server_is_refused(taken: Taken, postgres_15: PostgresServer) -> None:
    assert "older than the dump's 16" in refused(taken.order(postgres_15))


def test_a_name_taken_meanwhile_is_not_overwritten(
    taken: Taken, postgres_16: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    with pytest.raises(PermanentError, match="made meanwhile"), restore_backup(taken.order(postgres_16)) as copy:
        copy.finish(fresh_database(postgres_16))


def test_a_missing_extension_is_refused_or_skipped_with_what_needs_it(
    postgres_15: PostgresServer, postgres_16: PostgresServer, fresh_database: Callable[..., str], s3_server: S3Server
) -> None:
    name = fresh_database(
        postgres_15,
        "CREATE EXTENSION citext",
        "CREATE TABLE mail (id int PRIMARY KEY, address citext UNIQUE)",
        "CREATE TABLE plain (id int REFERENCES mail)",
        "CREATE VIEW addresses AS SELECT address FROM mail",
    )
    taken = take(postgres_15, name, s3_server, f"restore-extension-{secrets.token_hex(4)}")
    assert "the server does not offer: citext" in refused(taken.order(postgres_16))
    with restore_backup(taken.order(postgres_16, allow_missing_extensions=True)) as copy:
        with postgres_16.connect(copy.database.name) as session:
            rows = session.execute(
                "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND oid >= 16384"
            ).fetchall()
        drop_copy(copy)
    assert rows == [("plain",)]
    skipped = {entry.entry: entry.why for entry in copy.restored.skipped}
    assert skipped["EXTENSION - citext"] == "the server has no extension citext"
    assert skipped["TABLE DATA public mail postgres"] == "it needs the extension citext"
    assert {entry.split(" public")[0] for entry in skipped} >= {
        "TABLE",
        "TABLE DATA",
        "VIEW",
        "FK CONSTRAINT",
        "CONSTRAINT",
    }
    taken.store.client.close()


def test_a_newer_pg_restore_than_the_server_is_no_trouble(taken: Taken, postgres_16: PostgresServer) -> None:
    tools = taken.manifest.tools.model_copy(update={"pg_dump": "18.1"})
    with restore_backup(taken.order(postgres_16, manifest=changed(taken.manifest, tools=tools))) as copy:
        drop_copy(copy)
    assert copy.restored.pg_restore.startswith("18")


def damaged(taken: Taken, store: ObjectStore, how: Callable[[bytearray], object]) -> tuple[Taken, str]:
    """The backup in another bucket with its dump's only segment changed, and that segment's key."""
    copy = taken.copied(store)
    key = next(item.key for item in store.list("") if "/dump/" in item.key)
    body = bytearray(store.get(key))
    how(body)
    store.put(key, bytes(body))
    return copy, key


def flip(body: bytearray) -> None:
    body[len(body) // 2] ^= 1


@pytest.mark.parametrize("room", [0, 1 << 40])
def test_a_flipped_byte_is_named_and_leaves_no_database(
    taken: Taken, postgres_16: PostgresServer, store: ObjectStore, room: int
) -> None:
    copy, key = damaged(taken, store, flip)
    with (
        pytest.raises(IntegrityError, match=key.rpartition("/")[2]),
        restore_backup(copy.order(postgres_16), free=lambda _folder: room),
    ):
        pass


def test_a_stream_whose_checksum_alone_differs_is_dropped_when_all_was_restored(
    postgres_16: PostgresServer, fresh_database: Callable[..., str], s3_server: S3Server
) -> None:
    # Longer than what pg_restore reads to list it.
    name = fresh_database(
        postgres_16,
        "CREATE TABLE long AS SELECT n, repeat(md5(n::text), 40) AS noise FROM generate_series(1, 4000) AS n",
    )
    taken = take(postgres_16, name, s3_server, f"restore-long-{secrets.token_hex(4)}")
    (part,) = taken.manifest.archive.parts
    wrong = part.model_copy(update={"plain_sha256": hashlib.sha256(b"another").hexdigest()})
    manifest = changed(taken.manifest, archive=taken.manifest.archive.model_copy(update={"parts": (wrong,)}))
    phases: list[str] = []
    with (
        pytest.raises(IntegrityError, match=r"plain bytes' SHA-256"),
        restore_backup(taken.order(postgres_16, manifest=manifest), free=lambda _folder: 0, on_phase=phases.append),
    ):
        pass
    assert phases[-1] == "restore"
    with restore_backup(taken.order(postgres_16), free=lambda _folder: 0) as copy:
        drop_copy(copy)
    assert copy.restored.streamed
    taken.store.client.close()


def test_a_connection_to_s3_that_breaks_is_gone_on_with_where_it_was(
    taken: Taken, postgres_16: PostgresServer, faulty_store: ObjectStore, s3_faults: FaultProxy
) -> None:
    copy = taken.copied(faulty_store)
    fault = s3_faults.cut_body("GET", "/dump/", body_bytes=3000)
    with restore_backup(copy.order(postgres_16)) as restored:
        drop_copy(restored)
    assert fault.hits == 1
    assert s3_faults.count("GET", "/dump/") == 2


def test_a_full_disk_is_told_with_what_is_needed(taken: Taken, postgres_16: PostgresServer, spool: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", spool], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        leave_out_mount("a small disk could not be mounted")
    try:
        sentence = refused(taken.order(postgres_16, spool_parent=str(spool)), free=lambda _folder: 1 << 40)
    finally:
        subprocess.run(["umount", spool], check=True)
    assert "the disk was full before all" in sentence
    assert "restore.spool_directory" in sentence


def test_pg_restores_own_words_are_told_when_it_fails_in_the_middle(
    taken: Taken, postgres_16: PostgresServer, fresh_database: Callable[..., str], s3_server: S3Server
) -> None:
    # The function reads another table, which the dump does not tell: at the restore the CHECK meets it empty.
    name = fresh_database(
        postgres_16,
        "CREATE TABLE known (id int)",
        "INSERT INTO known VALUES (1)",
        "CREATE FUNCTION is_known(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM public.zone_known WHERE id = $1); END'",
        "CREATE TABLE zone_known (id int)",
        "INSERT INTO zone_known VALUES (1)",
        "CREATE TABLE child (id int CHECK (is_known(id)))",
        "INSERT INTO child VALUES (1)",
    )
    backup = take(postgres_16, name, s3_server, f"restore-failing-{secrets.token_hex(4)}")
    sentence = refused(backup.order(postgres_16, jobs=1))
    backup.store.client.close()
    assert 'violates check constraint "child_id_check"' in sentence


def test_a_role_that_exists_stays_as_it_is(taken: Taken, postgres_18: PostgresServer) -> None:
    postgres_18.execute(
        "postgres", f"CREATE ROLE {OWNER} NOLOGIN CONNECTION LIMIT 3", 'CREATE ROLE "restore ""reader" LOGIN'
    )
    query = "SELECT array_agg(r::text ORDER BY rolname) FROM pg_roles AS r WHERE rolname LIKE 'restore%'"
    with postgres_18.connect() as session:
        before = session.execute(query).fetchone()
        with restore_backup(taken.order(postgres_18)) as copy:
            drop_copy(copy)
        assert session.execute(query).fetchone() == before
    assert copy.restored.roles_created == ()
    postgres_18.execute("postgres", f"DROP ROLE {OWNER}", 'DROP ROLE "restore ""reader"')


def test_a_role_that_is_nowhere_is_named_before_a_database_is_made(taken: Taken, postgres_16: PostgresServer) -> None:
    lost = taken.manifest.roles[0].model_copy(update={"name": "nobody knows"})
    sentence = refused(taken.order(postgres_16, manifest=changed(taken.manifest, roles=(*taken.manifest.roles, lost))))
    assert "neither on the server nor in the backup's globals: nobody knows" in sentence


def test_a_server_without_the_locale_is_told_so(taken: Taken, postgres_16: PostgresServer) -> None:
    properties = taken.manifest.properties.model_copy(update={"collate": "xx_XX.UTF-8"})
    sentence = refused(taken.order(postgres_16, manifest=changed(taken.manifest, properties=properties)))
    assert "xx_XX.UTF-8" in sentence
    assert "Use a server that has this locale" in sentence


class NameChanger:
    """A stand-in for a pooler: whatever database a client asks for, it gets another one."""

    def __init__(self, port: int, unless: str, name: str) -> None:
        self._target, self._unless, self._name = port, unless, name
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server, suppress(OSError, struct.error):
            length, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
            body = client.recv(length - 8, socket.MSG_WAITALL)
            fields = body.split(b"\0")
            at = fields.index(b"database") + 1
            if fields[at].decode() != self._unless:
                fields[at] = self._name.encode()
            body = b"\0".join(fields)
            server.sendall(struct.pack("!II", len(body) + 8, code) + body)
            threading.Thread(target=self._pass, args=(server, client), daemon=True).start()
            self._pass(client, server)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(65536):
                target.sendall(block)
            target.shutdown(socket.SHUT_RDWR)


def test_a_login_that_leads_to_the_source_writes_nothing(taken: Taken, postgres_16: PostgresServer) -> None:
    pooler = NameChanger(postgres_16.port, "postgres", taken.database)
    login = postgres_16.database("postgres", port=pooler.port, sslmode="disable")
    with closing(pooler):
        sentence = refused(taken.order(postgres_16, login=login))
    assert "leads to another database: a pooler or an alias" in sentence
    assert f"its name there is {taken.database}" in sentence


def test_such_a_login_is_seen_before_anything_is_made_by_asking_for_a_database_that_is_not_there(
    taken: Taken, postgres_16: PostgresServer
) -> None:
    pooler = NameChanger(postgres_16.port, "postgres", taken.database)
    login = postgres_16.database("postgres", port=pooler.port, sslmode="disable")
    with closing(pooler), pytest.raises(PermanentError, match=f"its name there is {taken.database}, though"):
        require_no_alias(login, "nightshift_0a1b2c3d")
    require_no_alias(postgres_16.database("postgres"), "nightshift_0a1b2c3d")


def test_s3_out_for_good_is_a_temporary_error(
    taken: Taken, postgres_16: PostgresServer, s3_faults: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    monkeypatch.setattr("tasks.object_reader.ATTEMPTS", 2)
    endpoint = taken.environment.store.model_copy(update={"endpoint_url": s3_faults.endpoint})
    store = ObjectStore.open(taken.environment.model_copy(update={"store": endpoint}))
    s3_faults.refuse("GET", "/dump/", times=1000)
    with pytest.raises(TemporaryError), restore_backup(taken.order(postgres_16, store=store)):
        pass
    store.client.close()
