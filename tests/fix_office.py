"""What a person has before them in everyday use: a Prefect server with the deployments of `production` as prefect.yaml has them, a worker, and what they work on:
a database, a bucket, an application on the small Kubernetes API of the tests, and a scripted Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import tomli_w
import yaml

from core.watch_decision import SIGNED_OFF
from deployments.local.data_folder import CHECKOUT
from deployments.local.platform import BUCKET, Platform
from deployments.local.ports import HOST
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.object_store import ObjectMissingError
from tasks.recording import utc_now
from tasks.watch_records import WatchRecords
from tests.fix_counts import plain_day
from tests.fix_kubernetes import KubernetesApi
from tests.fix_platform import shared_templates
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_release import Stage, hello_documents, release_settings
from tests.fix_vercel import TOKEN, PublicAddress, Vercel
from tests.fix_watch import Day
from tests.fix_watched import RELEASE, start, watched
from tests.waiting import wait_until

PRODUCTION = "production"
NAMESPACE, CONTROL = "shop", "nightshift"
REPOSITORY = "registry.example/shop"


def image_of(version: str) -> str:
    """A version's image: its digest begins with the version's letters in hexadecimal digits."""
    return f"{REPOSITORY}@sha256:{version.encode().hex():0<64}"


class SteadyDay(Day):
    """What Prometheus has: at any time the same."""

    def _value(self, query: str, at: float) -> float:  # noqa: ARG002 - as Day's
        requests, errors, slow = self.before
        if query.startswith("count(up"):
            return 1.0
        if 'le="+Inf"' in query or 'status!=""' in query:
            return requests
        return requests - slow if "le!=" in query else errors


@dataclass
class Office:
    """The platform, and the cluster and the front end that `production` releases to."""

    platform: Platform
    kubernetes: KubernetesApi
    client: KubernetesClient
    vercel: Vercel

    def keep_watched_day(self) -> str:
        """Keep the watch of a release whose whole day was seen and that the next look ends; return the release's id. The release itself is nowhere."""
        records, own = WatchRecords(load_environment(PRODUCTION), RELEASE), {"environment": PRODUCTION}
        first = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(days=3)
        day = watched({"errors": plain_day(), "slow": plain_day()})
        assert day.baseline is not None
        for one in (
            start(**own, first=first, released_at=first - timedelta(minutes=3)),
            day.baseline.model_copy(update=own),
            day.tick.model_copy(update=own),
        ):
            assert records.keep(one)
        return RELEASE

    def signed_off(self) -> str:
        """By whom the day was signed off; "" while it is not."""
        try:
            return f"by {WatchRecords(load_environment(PRODUCTION), RELEASE).mark(SIGNED_OFF).by}"
        except ObjectMissingError:
            return ""

    def add_order(self) -> None:
        """Put a row into the live database that no backup has."""
        with psycopg.connect(self.platform.postgres.admin_conninfo, dbname="platform", autocommit=True) as connection:
            connection.execute("""INSERT INTO "Sales & Orders"."Order Lines.""2024\""" VALUES (4711)""")

    def has_order(self) -> bool:
        """Whether the live database has that row."""
        query = """SELECT FROM "Sales & Orders"."Order Lines.""2024\""" WHERE id = 4711"""
        with psycopg.connect(self.platform.postgres.admin_conninfo, dbname="platform", autocommit=True) as connection:
            return connection.execute(query).rowcount == 1

    def serving(self) -> str:
        """The image of the application's Pods."""
        found = self.client.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/shop")
        image: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
        return image


def production_settings(
    postgres_port: int, store_url: str, prometheus_url: str, frontend: dict[str, Any]
) -> dict[str, Any]:
    """The environment's file; its secrets are those that the platform gives its flow runs."""
    common = release_settings(BUCKET, store_url, NAMESPACE, CONTROL, REPOSITORY)
    server = {"host": HOST, "port": postgres_port}
    return {
        **common,
        "store": {
            "bucket": BUCKET,
            "endpoint_url": store_url,
            "access_key_id": "env:NIGHTSHIFT_LOCAL_S3_KEY_ID",
            "secret_access_key": "env:NIGHTSHIFT_LOCAL_S3_SECRET",
        },
        "signing": {"key": "env:NIGHTSHIFT_LOCAL_SIGNING_KEY"},
        "objectives": {},
        "databases": {
            "shop": {
                **server,
                "name": "platform",
                "user": "nightshift_backup",
                "password": "env:NIGHTSHIFT_LOCAL_BACKUP_PASSWORD",
            }
        },
        "servers": {"main": {**server, "user": "postgres", "password": "env:NIGHTSHIFT_LOCAL_ADMIN_PASSWORD"}},
        "app_state": {"namespaces": [NAMESPACE]},
        "release": {
            **common["release"],
            "approval": True,
            "settle_seconds": 0,
            "workloads": [{"name": "shop"}, {"name": "worker", "role": "worker"}],
            "gates": {"prometheus_url": prometheus_url, "minimum_requests": 10},
            "frontend": frontend,
        },
        "watch": {"health": {"databases": False}},
    }


def without_schedules(folder: Path) -> Path:
    """Given a folder, write prefect.yaml as it is shipped there, but that the clock starts nothing, and return its path."""
    document: dict[str, Any] = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
    for entry in document["deployments"]:
        entry["schedules"] = [{**one, "active": False} for one in entry["schedules"]]
        entry.pop("triggers", None)
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def run_application(client: KubernetesClient, kubernetes: KubernetesApi) -> None:
    """Have the first version of the application run: two Pods that serve, and two that work."""
    for name in (NAMESPACE, CONTROL):
        kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for document in hello_documents(image_of("v1")):
        if document["metadata"]["name"] == "hello":
            document["metadata"]["name"] = "shop"
        if document["kind"] != "CronJob":
            client.create(find_kind(client, document["kind"]).path(NAMESPACE), document)
    kubernetes.run_controllers().mark(b"bad".hex(), "crash")
    for name in ("shop", "worker"):
        path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}"
        wait_until(lambda path=path: (client.get(path).get("status") or {}).get("availableReplicas") == 2, path)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    """The platform with every deployment, one a module."""
    root = tmp_path_factory.mktemp("office")
    environments = root / "environments"
    environments.mkdir()
    for file in (CHECKOUT / "deployments/environments").glob("*.toml"):
        (environments / file.name).write_text(file.read_text())
    kubernetes = KubernetesApi()
    for name in ("default", "velero"):
        kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    kubeconfig = kubernetes.kubeconfig(root)
    prometheus = PrometheusApi()
    prometheus.answer = SteadyDay(cast("Stage", None), prometheus).answer
    vercel = Vercel()
    public = PublicAddress(vercel)
    variables = {
        "KUBECONFIG": str(kubeconfig),
        "NIGHTSHIFT_ENVIRONMENTS": str(environments),
        "NIGHTSHIFT_TEST_VERCEL_TOKEN": TOKEN,
    }
    platform = Platform(
        shared_templates(root / "data") / "trial",
        rows=200,
        preferred_port=0,
        prefect_file=without_schedules(root),
        deployments=f"*/{PRODUCTION}",
        variables=variables,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(kubeconfig))
        with KubernetesClient.open(None) as client:
            run_application(client, kubernetes)
            with platform:
                settings = production_settings(
                    platform.postgres.port,
                    platform.store.endpoint_url,
                    prometheus.address,
                    vercel.settings(public.web.address),
                )
                for name, value in {**platform.variables, **variables}.items():
                    patch.setenv(name, value)
                (environments / f"{PRODUCTION}.toml").write_text(tomli_w.dumps(settings))
                yield Office(platform, kubernetes, client, vercel)
    public.web.close()
    vercel.web.close()
    prometheus.go_away()
    kubernetes.close()
