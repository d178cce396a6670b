"""How long a look of a watch takes, from its flow run's start to its end as the Prefect server tells, and how many requests it makes, with 4 and with 200 Pods.

    .venv/bin/python -m benchmarks.watch --ticks 7

Everything runs on this machine: a Prefect server and worker, PostgreSQL, the S3 stand-in, a Prometheus that remembers five weeks with series of each Pod (Debian's
`prometheus` and `promtool`), an address that is asked from outside, and the small Kubernetes API of the tests. Each look is a process of its own, as a worker runs it;
its time is an input: hour 12 of the day and later. The first one reads the four weeks, and all that is over by then; each later one a bucket. Looked at are Pods,
requests, the database and the public address; logs and alerts are other people's servers.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

import tomli_w
import typer

from benchmarks.backup import make_platform
from benchmarks.measuring import Ratio, finish
from core.keys import watch_folder
from core.watch_days import BUCKET, first_bucket
from deployments.command.prefect_api import Server, server_of
from deployments.local.data_folder import CHECKOUT
from deployments.local.platform import Platform
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.object_store import ObjectStore
from tasks.sealed import sealed_bytes
from tasks.secrets import signing_keys
from tasks.watch_records import WatchRecords, watches
from tests.fix_kubernetes import KubernetesApi
from tests.fix_recorded_prometheus import Application, record, running
from tests.fix_release import hello_documents
from tests.waiting import wait_until

SIZES = (4, 200)
MOST_SECONDS = 2.0
# So many buckets are over at the first look.
FIRST_LOOK = 144
IMAGES = ("registry.test/hello@sha256:" + "1" * 64, "registry.test/hello@sha256:" + "2" * 64)
RELEASE = (
    "import sys; from flows.release import release;"
    f" release('local', '{IMAGES[1].rpartition('@')[2]}', '{'2' * 40}', migrate=False, skip_checks={{'recovery-point': 'a benchmark without a backup'}},"
    " requested_by='the benchmark')"
)


@dataclass
class Looks:
    """Figures of the looks at an application of so many Pods: seconds from flow run to end, and of the whole process; requests by whom they went to."""

    pods: int
    first_seconds: float = 0.0
    first_requests: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    processes: list[float] = field(default_factory=list)
    requests: list[dict[str, int]] = field(default_factory=list)

    def most(self, who: str) -> int:
        """Of the later looks, the most requests to somebody."""
        return max(one[who] for one in self.requests)


class Bench:
    """The platform, and an application of so many Pods that was released half a day ago."""

    def __init__(self, platform: Platform, folder: Path, kubernetes: KubernetesApi, probes: str) -> None:
        self.folder, self.kubernetes, self.probes = folder, kubernetes, probes
        self.server: Server = server_of(platform.running)
        self.variables = {**os.environ, **self.server.variables, "PYTHONPATH": str(CHECKOUT)}
        self.release_id, self.prometheus = "", ""

    def release(self, pods: int) -> str:
        """Release a version for real, give it so many Pods, and return the name of its ReplicaSet. No rollout of 200 Pods is waited for."""
        self.write_settings("")
        controllers = self.kubernetes.run_controllers()
        with KubernetesClient.open(None) as client:
            for document in hello_documents(IMAGES[0])[:2]:
                client.create(find_kind(client, document["kind"]).path("shop"), document)
            path = find_kind(client, "Deployment").path("shop", "hello")
            wait_until(lambda: _available(client.get(path)) == 2, "hello is there")
            subprocess.run([sys.executable, "-c", RELEASE], cwd=CHECKOUT, env=self.variables, check=True, timeout=180)
            client.merge(path, {"spec": {"replicas": pods}})
            wait_until(lambda: _available(client.get(path)) == pods, f"{pods} Pods", seconds=300)
            made = client.list("/apis/apps/v1/namespaces/shop/replicasets")
            (new,) = (one["metadata"]["name"] for one in made if one["spec"]["replicas"])
        controllers.stop()
        (self.release_id,) = watches(load_environment("local"))
        return str(new)

    def move(self, released: datetime) -> None:
        """Have the watch begin at another time: that of which Prometheus knows."""
        environment = load_environment("local")
        start = WatchRecords(environment, self.release_id).start()
        moved = start.model_copy(update={"released_at": released, "first": first_bucket(released)})
        key = f"{watch_folder(environment.prefix, self.release_id)}watch.json"
        ObjectStore.open(environment).put(key, sealed_bytes(moved, signing_keys(environment)[0]))

    def look(self, now: datetime) -> tuple[dict[str, int], float, float]:
        """Look once; its requests, its seconds, and those of its process."""
        out = self.folder / "seen.json"
        arguments = [sys.executable, "-m", "benchmarks.watch_child", out, self.release_id, now.isoformat()]
        began = time.monotonic()
        subprocess.run(arguments, cwd=CHECKOUT, env=self.variables, check=True, timeout=300)
        whole = time.monotonic() - began
        seen: dict[str, Any] = json.loads(out.read_text())
        if seen["state"] != "Completed":
            sys.exit(f"the look is {seen['state']}: {seen['message']}")
        with self.server.client() as client:
            run = client.read_flow_run(UUID(seen["run_id"]))
        if run.start_time is None or run.end_time is None:
            sys.exit("the server does not know when the look began and ended")
        counted: dict[str, int] = seen["requests"]
        found = {
            "Prometheus": counted.get(str(urlsplit(self.prometheus).port), 0),
            "Kubernetes": counted.get(str(urlsplit(self.kubernetes.address).port), 0),
            "S3": counted.get("s3", 0),
        }
        print(f"{seen['message']}: {found}", flush=True)
        return found, (run.end_time - run.start_time).total_seconds(), whole

    def write_settings(self, prometheus: str) -> None:
        """The environment `local`, with a table [watch]; while it is released, without metrics."""
        self.prometheus = prometheus
        file = CHECKOUT / "deployments" / "environments" / "local.toml"
        document = tomllib.loads(file.read_text())
        document["objectives"] = {"proof_age_hours": 0}
        document["release"] = {
            "namespace": "shop",
            "control_namespace": "nightshift",
            "repository": "registry.test/hello",
            "registry": {"kind": "none"},
            "approval": False,
            "settle_seconds": 0,
            "workloads": [{"name": "hello"}],
            "gates": {"prometheus_url": prometheus},
        }
        document["watch"] = {"scrape_seconds": 120, "probes": {"url": self.probes}}
        (self.folder / "local.toml").write_text(tomli_w.dumps(document))


def measure_size(pods: int, ticks: int) -> Looks:
    """All looks at an application of so many Pods, on a platform of their own."""
    looks, released = Looks(pods), datetime.now(UTC) - timedelta(hours=30)
    kubernetes = KubernetesApi()
    with (
        tempfile.TemporaryDirectory(prefix="nightshift-benchmark-") as name,
        answering() as probes,
        make_platform(Path(name) / "platform") as platform,
    ):
        folder = Path(name)
        os.environ |= {
            **platform.variables,
            "NIGHTSHIFT_ENVIRONMENTS": name,
            "KUBECONFIG": str(kubernetes.kubeconfig(folder)),
        }
        for one in ("shop", "nightshift"):
            kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": one}})
        bench = Bench(platform, folder, kubernetes, probes)
        new = bench.release(pods)
        bench.move(released)
        old_pods = tuple(f"hello-old{{lag}}-{number}" for number in range(pods))
        new_pods = tuple(f"{new}-{number}" for number in range(pods))
        application = Application("api", old_pods=old_pods, new_pods=new_pods)
        record(folder, [application], released=released.replace(second=0, microsecond=0), every=2)
        application.lines.clear()
        with running(folder) as prometheus:
            bench.write_settings(prometheus)
            over = first_bucket(released) + timedelta(minutes=5)
            looks.first_requests, looks.first_seconds, _ = bench.look(over + BUCKET * FIRST_LOOK)
            for number in range(1, ticks + 1):
                found, seconds, whole = bench.look(over + BUCKET * (FIRST_LOOK + number))
                looks.requests.append(found)
                looks.seconds.append(seconds)
                looks.processes.append(whole)
    kubernetes.close()
    return looks


@contextmanager
def answering() -> Iterator[str]:
    """A public address at which all is well."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Well)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Well(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: Any) -> None:
        pass


def _available(deployment: dict[str, Any]) -> int:
    return int((deployment.get("status") or {}).get("availableReplicas") or 0)


def main(ticks: Annotated[int, typer.Option(help="Counted looks of each size.", min=1)] = 7) -> None:
    """Measure a watch's looks."""
    few, many = (measure_size(pods, ticks) for pods in SIZES)
    ratios = [
        Ratio(f"a look, {one.pods} Pods", statistics.median(one.seconds), MOST_SECONDS, unit="s") for one in (few, many)
    ]
    ratios += [
        Ratio(f"requests to {who}, {many.pods} Pods ÷ {few.pods} Pods", many.most(who) / few.most(who), 1.0)
        for who in ("Prometheus", "Kubernetes", "S3")
    ]
    context: dict[str, Any] = {"looks": ticks, "processors": os.cpu_count()}
    for one in (few, many):
        context[f"{one.pods} Pods: the first look"] = f"{one.first_seconds:.2f} s, {one.first_requests}"
        context[f"{one.pods} Pods: slowest look"] = f"{max(one.seconds):.2f} s"
        context[f"{one.pods} Pods: median of the whole process"] = f"{statistics.median(one.processes):.2f} s"
        context[f"{one.pods} Pods: requests of a look"] = {who: one.most(who) for who in one.requests[0]}
    finish("watch", ratios, context)


if __name__ == "__main__":
    typer.run(main)
