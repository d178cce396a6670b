"""A PostgreSQL of the tests that Pods of the lab's node reach: it listens on the host's end of the lab's network, too, and wants a password there.

The host: NIGHTSHIFT_TEST_POD_HOST when it is set (an address of this machine that Pods reach), else the lab's own, 10.99.0.1. Pods come from 10.244.0.0/16 and
are seen with their own addresses. The session's server ends with it; so do the databases, since nothing else is in it.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tasks.kubernetes_client import KubernetesClient
from tests.fix_cluster import LAB
from tests.fix_postgres import MAJORS, PostgresServer, end_server, make_server
from tests.waiting import wait_until

# A client in a Pod that runs each argument. As node-postgres: libpq's variables are read, and no name of its own is sent.
SQL_CLIENT = """\
import os, sys, psycopg2
connection = psycopg2.connect(os.environ["DATABASE_URL"])
connection.autocommit = True
with connection.cursor() as cursor:
    for statement in sys.argv[1:]:
        print(statement, flush=True)
        cursor.execute(statement)
"""
HOST_VARIABLE = "NIGHTSHIFT_TEST_POD_HOST"
LAB_HOST, POD_NETWORK = "10.99.0.1", "10.244.0.0/16"


@dataclass
class PodPostgres:
    """The server, and the address that Pods know it by."""

    server: PostgresServer
    host: str

    def new_database(self, *statements: str) -> str:
        """Make a database, run statements in it, each in a transaction, and return its name."""
        name = f"test_{secrets.token_hex(4)}"
        self.server.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        self.server.execute(name, *statements)
        return name

    @contextmanager
    def traffic(self, database: str) -> Iterator[list[float]]:
        """Read the table busy again and again, as the old version does; the list holds what each query took, in seconds."""
        took: list[float] = []
        stop = threading.Event()

        def read() -> None:
            with self.server.connect(database) as connection:
                while not stop.is_set():
                    begun = time.monotonic()
                    connection.execute("SELECT count(*) FROM busy")
                    took.append(time.monotonic() - begun)
                    time.sleep(0.01)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            yield took
        finally:
            stop.set()
            thread.join()

    def address(self, database: str) -> str:
        """The address of a database as Pods use it, with the superuser's password."""
        return f"postgresql://{self.server.superuser}:{self.server.password}@{self.host}:{self.server.port}/{database}"

    def put_secret(self, client: KubernetesClient, namespace: str, database: str, *, name: str = "database") -> None:
        """Make a Secret whose key `url` is a database's address."""
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name},
            "stringData": {"url": self.address(database)},
        }
        client.create(f"/api/v1/namespaces/{namespace}/secrets", secret)


def pod_host() -> str | None:
    """An address of this machine that Pods reach, or None."""
    host = os.environ.get(HOST_VARIABLE, LAB_HOST)
    try:
        with socket.socket() as probe:
            probe.bind((host, 0))
    except OSError:
        return None
    return host


@pytest.fixture(scope="session")
def pod_postgres() -> Iterator[PodPostgres]:
    """A PostgreSQL for Pods, of the newest major that is here."""
    with serving_pods(max(MAJORS)) as postgres:
        yield postgres


@contextmanager
def serving_pods(major: int) -> Iterator[PodPostgres]:
    """Given an installed major, start a PostgreSQL for Pods, and end it."""
    host = pod_host()
    assert host is not None or not LAB.is_dir(), f"{LAB} is there, and its address {LAB_HOST} is none of this machine's"
    if host is None:
        pytest.skip(f"no address that Pods reach: set {HOST_VARIABLE}")
    server = make_server(major, listen_addresses=f"127.0.0.1,{host}")
    try:
        with (server.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {POD_NETWORK} scram-sha-256\n")
        server.execute("postgres", "SELECT pg_reload_conf()")
        asked = "SELECT count(*) FROM pg_hba_file_rules WHERE address = '10.244.0.0'"
        with server.connect() as connection:
            wait_until(lambda: connection.execute(asked).fetchone() == (1,), "Pods are let in")
        yield PodPostgres(server, host)
    finally:
        end_server(server)
