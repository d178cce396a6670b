"""A whole drill on a scratch Pod of a real cluster: from the backup in S3 through port-forward to a proven backup, with nothing left."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.kubernetes_client import KubernetesClient
from tasks.postgres_binaries import installed_servers
from tasks.scratch_folder import SOCKET_PARENT, SOCKET_PREFIX
from tests.fix_cluster import objects_of
from tests.fix_nightly import Night
from tests.fix_postgres import PostgresServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]

ROWS = 250_000
TABLE = "CREATE TABLE public.large AS SELECT g AS id, md5(g::text) || repeat('x', 68) AS text FROM generate_series(1, 250000) AS g"


def sockets() -> set[Path]:
    return set(SOCKET_PARENT.glob(f"{SOCKET_PREFIX}*"))


def test_a_backup_is_proven_on_a_pod_and_nothing_is_left_of_it(  # noqa: PLR0917 - fixtures
    night: Night,
    postgres_15: PostgresServer,
    fresh_database: Callable[..., str],
    cluster: KubernetesClient,
    drill_namespace: str,
    postgres_image: str,
) -> None:
    assert installed_servers()[0].major >= 15, "the image's PostgreSQL is older than the source"
    name = fresh_database(postgres_15, TABLE)
    night.settings["databases"] = {"first": postgres_15.database(name).model_dump(exclude_defaults=True)}
    pod = {"namespace": drill_namespace, "image": postgres_image, "memory": "512Mi", "cpu": "2", "disk": "2Gi"}
    night.settings["drill"] = {"scratch": "pod", "pod": pod}
    before = sockets()
    assert night.run(databases=["first"]).is_completed()
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    facts = next(step.facts for step in night.report.steps if step.name == "judge")
    print(facts["phases"])  # noqa: T201
    assert facts["rows"] == ROWS
    controls = next(step.facts["controls"] for step in night.report.steps if step.name == "negative controls")
    assert all(control["detected"] for control in controls)
    assert objects_of(cluster, drill_namespace) == []
    assert sockets() <= before
