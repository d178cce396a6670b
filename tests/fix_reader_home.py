"""What is a reader's: an installed checkout, an environment `mine` on a server that `make up` keeps, with a proven backup, and an application on a cluster."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import tomli_w

from deployments.local.server_folder import ServerFolder
from deployments.local.supervised import marked
from tests.docs_pages import PAGES, blocks_of
from tests.docs_record import tell
from tests.fix_kubernetes import KubernetesApi
from tests.fix_object_store import S3Server
from tests.fix_postgres import PostgresServer
from tests.fix_reader import Reader, a_reader
from tests.fix_release import hello_documents
from tests.waiting import PREFECT_SECONDS, wait_until


@dataclass
class Home:
    """What is the reader's: a checkout that is installed, an environment `mine` on a server that `make up` keeps, with a proven backup."""

    reader: Reader
    kubernetes: KubernetesApi
    postgres: PostgresServer
    s3: S3Server

    @property
    def file(self) -> Path:
        """The environment's file."""
        return self.reader.checkout / "deployments/environments/mine.toml"

    @property
    def server(self) -> ServerFolder:
        """Where the server keeps everything."""
        return ServerFolder(self.reader.checkout / ".nightshift/server")

    def add(self, **tables: object) -> None:
        """Put tables into the environment's file."""
        self.file.write_text(tomli_w.dumps({**tomllib.loads(self.file.read_text()), **tables}))

    def drop(self, table: str) -> None:
        """Take a table out of it."""
        self.file.write_text(
            tomli_w.dumps({key: value for key, value in tomllib.loads(self.file.read_text()).items() if key != table})
        )

    @property
    def api_url(self) -> str:
        """The server's address."""
        address: str = json.loads(self.server.record.read_text())["api_url"]
        return address

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """What the server answers."""
        user, password = self.server.auth_string().split(":", 1)
        answer = httpx.request(
            method, self.api_url + path, json=body, auth=(user, password), timeout=PREFECT_SECONDS, trust_env=False
        )
        assert answer.is_success, answer.text
        return answer.json()

    def runs(self, flow: str) -> list[str]:
        """The ids of a flow's runs that began, newest first."""
        query = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
        return [one["id"] for one in self.ask("POST", "/flow_runs/filter", query) if one["start_time"]]

    def resumes(self, run: str, answer: dict[str, str]) -> None:
        """Press *Resume* on a run's page, and wait until it has ended well."""
        assert self.ask("POST", f"/flow_runs/{run}/resume", {"run_input": answer})["status"] == "ACCEPT"

        def state() -> str:
            return str(self.ask("GET", f"/flow_runs/{run}")["state"]["type"])

        wait_until(lambda: state() in {"COMPLETED", "FAILED", "CRASHED", "PAUSED"}, "the run has ended", seconds=200)
        assert state() == "COMPLETED", self.ask("GET", f"/flow_runs/{run}")["state"]["message"]

    def rows(self, database: str, where: str = "true") -> int:
        """How many orders a database has."""
        with self.postgres.connect(database) as session:
            [count] = session.execute(b"SELECT count(*) FROM orders WHERE " + where.encode()).fetchone() or (0,)
        return int(count)

    def databases(self) -> list[str]:
        """Every database of the server."""
        with self.postgres.connect() as session:
            return [str(name) for (name,) in session.execute("SELECT datname FROM pg_database").fetchall()]

    def objects(self) -> dict[str, bytes]:
        """What lies in the bucket."""
        client = self.s3.client
        listed = client.get_paginator("list_objects_v2").paginate(Bucket="readers")
        keys = [one["Key"] for page in listed for one in page.get("Contents", ())]
        return {key: client.get_object(Bucket="readers", Key=key)["Body"].read() for key in keys}

    def copy_bucket(self) -> None:
        """Copy the bucket as a replication does, and name the copy in the environment's file."""
        self.s3.client.create_bucket(Bucket="readers-copy")
        for key, body in self.objects().items():
            self.s3.client.put_object(Bucket="readers-copy", Key=key, Body=body)
        self.add(copy_store={**tomllib.loads(self.file.read_text())["store"], "bucket": "readers-copy"})

    def newest_dump(self, folder: Path) -> Path:
        """The files of the newest backup's dump, fetched into a folder."""
        dumps = {key: body for key, body in self.objects().items() if "/dump/" in key}
        newest = max(key.rpartition("/")[0] for key in dumps)
        folder.mkdir()
        for key, body in dumps.items():
            if key.startswith(newest):
                (folder / Path(key).name).write_bytes(body)
        return folder


@pytest.fixture(scope="session")
def home(s3_server: S3Server, postgres_16: PostgresServer) -> Iterator[Home]:
    """The quick start, done: its commands are run here, in the page's order."""
    s3_server.client.create_bucket(Bucket="readers")
    kubernetes = KubernetesApi()
    with a_reader() as reader:
        reader.variables |= {
            "KUBECONFIG": str(kubernetes.kubeconfig(reader.root)),
            "READERS_KEY_ID": "testing",
            "READERS_KEY": "testing-secret",
            "READERS_ADMIN_PASSWORD": postgres_16.password,
        }
        found = Home(reader, kubernetes, postgres_16, s3_server)
        try:
            application(kubernetes)
            quick_start(found, s3_server.endpoint)
            yield found
        finally:
            reader.shell("make down")
            left = marked(found.server)
            for process in left:
                process.kill()
            psutil.wait_procs(left, 10)
            kubernetes.close()
            tell(reader.ran)


def quick_start(home: Home, endpoint: str) -> None:
    """The quick start from its second step on; the first is test_command's."""
    reader, postgres = home.reader, home.postgres
    page = next(one for one in PAGES if one.name == "quickstart.md")
    postgres.execute("postgres", "CREATE DATABASE shop")
    postgres.execute(
        "shop", "CREATE TABLE orders AS SELECT n AS id, md5(n::text) AS what FROM generate_series(1, 500) n"
    )
    postgres.execute(
        "shop", "CREATE TABLE invoices AS TABLE orders", "CREATE SCHEMA billing", "CREATE TABLE billing.days (day date)"
    )
    for block in blocks_of(page):
        if block[0].startswith("CREATE ROLE"):
            postgres.execute("shop", *(line.replace("…", "kept-aside") for line in block))
    reader.types("README.md", "make install && . .venv/bin/activate", seconds=580)
    reader.types("quickstart.md", ". .venv/bin/activate")
    answers = ["127.0.0.1", str(postgres.port), "shop", "", "file:~/password", "kept-aside", "readers", endpoint, "us-east-1", "",
               "env:READERS_KEY_ID", "env:READERS_KEY", "Europe/Berlin"]  # fmt: skip
    reader.types("quickstart.md", "nightshift init mine", answers="".join(f"{one}\n" for one in answers))
    reader.types("quickstart.md", "nightshift check mine")
    reader.types("quickstart.md", "make up", stands_for=reader.up)
    reader.types("quickstart.md", "nightshift status")
    reader.types("quickstart.md", "nightshift backup mine")
    assert "decoded" in reader.types("quickstart.md", "nightshift catalog mine", code=1)
    reader.types("quickstart.md", "nightshift drill mine")
    assert "proven" in reader.types("quickstart.md", "nightshift catalog mine")


def image(name: str) -> str:
    """The image of a version, by its digest."""
    return f"registry.test/hello@sha256:{name.encode().hex():0<64}"


def application(kubernetes: KubernetesApi) -> None:
    """The reader's application on the cluster, at its first version, with its controllers."""
    for name in ("shop", "nightshift"):
        kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for document in hello_documents(image("v1")):
        kubernetes.put({**document, "metadata": {**document["metadata"], "namespace": "shop"}})
    kubernetes.run_controllers()
