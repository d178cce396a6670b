"""A nightly backup that is cancelled in the midst of its dump, through a real server and worker: it ends within seconds and leaves nothing."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import boto3
import psutil
import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State, StateType
from psycopg.conninfo import make_conninfo

from deployments.command.follow import follow_run
from deployments.local.platform import BUCKET, Platform
from tests.fix_platform import below, wait_until_gone
from tests.fix_proxy import TcpProxy
from tests.waiting import wait_until

# The first one waits for the platform to start.
pytestmark = pytest.mark.xdist_group("platform")

MIB = 1024**2


@pytest.fixture
def s3(platform: Platform) -> Iterator[Any]:
    """A client of the platform's S3 stand-in."""
    client = boto3.client(
        "s3",
        endpoint_url=platform.store.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=platform.store.key_id,
        aws_secret_access_key=platform.store.secret_key,
    )
    with closing(client):
        yield client


@pytest.fixture
def admin(platform: Platform) -> Iterator[psycopg.Connection[Any]]:
    """The superuser's session on the platform's database, which has a further table of 24 MiB that does not compress."""
    with psycopg.connect(
        make_conninfo(platform.postgres.admin_conninfo, dbname="platform"), autocommit=True
    ) as session:
        session.execute("CREATE TABLE public.noise (data pg_catalog.bytea)")
        with session.cursor().copy("COPY public.noise FROM STDIN") as copy:
            for _ in range(24):
                copy.write_row([os.urandom(MIB)])
        yield session
        session.execute("DROP TABLE public.noise")


@pytest.mark.services
def test_a_run_that_is_cancelled_ends_pg_dump_within_seconds_and_leaves_nothing(
    platform: Platform,
    platform_client: SyncPrefectClient,
    admin: psycopg.Connection[Any],
    s3: Any,
    tcp_proxy: Callable[[int], TcpProxy],
) -> None:
    before = data_keys(s3)
    proxy = tcp_proxy(platform.postgres.port)
    # From the first byte on: on a busy machine the dump might be over before anybody has seen a part of it.
    proxy.slow_down(2 * MIB)
    # In parts as small as S3 allows, so that the upload begins early.
    variables = {"NIGHTSHIFT_LOCAL__DATABASES__APP__PORT": str(proxy.port), "NIGHTSHIFT_LOCAL__BACKUPS__PART_MIB": "5"}
    deployment = platform_client.read_deployment_by_name("nightly-backup/local")
    run = platform_client.create_flow_run_from_deployment(
        deployment.id, parameters={"environment": "local", "retention": "skip"}, job_variables={"env": variables}
    )
    wait_until(lambda: sessions(admin), "the backup has begun", seconds=60)
    wait_until(lambda: uploads(s3), "a part of the dump is stored", seconds=60)
    # From here on the rest of the dump would take a minute and a half.
    proxy.slow_down(MIB // 5)
    dumps = [process for process in below(os.getpid()) if is_dump(process)]
    assert len(dumps) == 1

    platform_client.set_flow_run_state(run.id, State(type=StateType.CANCELLING, name="Cancelling"))

    assert wait_until_gone(dumps, SOON_SECONDS) == []
    assert list(follow_run(platform_client, run.id, every_seconds=0.3))[-1].state_name == "Cancelled"
    assert uploads(s3) == []
    assert data_keys(s3) == before
    # Nor do its locks and its snapshot stay.
    wait_until(lambda: not sessions(admin), "the sessions have ended", seconds=30)


# The worker hears of a cancellation at its next look at the server; the dump by itself would go on for twice as long.
SOON_SECONDS = 40


def is_dump(process: psutil.Process) -> bool:
    """Whether a process is pg_dump. One that has ended since it was listed is none: PostgreSQL's own come and go."""
    try:
        return process.name() == "pg_dump"
    except psutil.NoSuchProcess:
        return False


def sessions(admin: psycopg.Connection[Any]) -> list[str]:
    """What nightshift's sessions on the database call themselves."""
    query = "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE datname = 'platform' AND application_name LIKE 'nightshift %'"
    return [row[0] for row in admin.execute(query).fetchall()]


def uploads(s3: Any) -> list[str]:
    """The keys of uploads that were begun and not ended."""
    return [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])]


def data_keys(s3: Any) -> set[str]:
    """The keys of backups: manifests, dumps, globals."""
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="local/app/").get("Contents", [])
    return {item["Key"] for item in listed if not item["Key"].endswith("/owner.json")}
