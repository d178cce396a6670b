"""A real Prometheus, as Debian packages it, on loopback with a data folder of its own: one that scrapes exporters of known figures, one for each Pod named here,
and one that scrapes the Pods of a cluster.
"""

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.environment_gates import Gates
from core.errors import NightshiftError
from tasks.kubernetes_client import KubernetesClient
from tasks.prometheus import PrometheusClient
from tests.leave_out import leave_out
from tests.ports import free_port
from tests.waiting import wait_until

SCRAPE_SECONDS = 0.25
PODS = ("old-1-a", "good-1-a", "bad-1-a", "few-1-a", "reset-1-a", "late-1-a", "slow-1-a", "away-1-a")
RULES = {"groups": [{"name": "api", "rules": [{"alert": "Errors", "expr": "http_requests_total > 1e9"}]}]}


@dataclass
class Pod:
    """What a Pod's counters say; `answers` False: its metrics cannot be scraped."""

    counts: dict[str, int] = field(default_factory=dict)
    slow: int = 0
    answers: bool = True
    scrapes: int = 0

    def text(self) -> str:
        """Its /metrics. A series of a status is there once it was counted, as client libraries do it."""
        lines = ["# TYPE http_requests_total counter"]
        lines += [
            f'http_requests_total{{route="/x",status="{status}"}} {count}' for status, count in self.counts.items()
        ]
        lines += [
            'http_requests_total{route="/health",status="200"} 100000',
            "# TYPE http_request_duration_seconds histogram",
        ]
        total = sum(self.counts.values())
        lines += [
            f'http_request_duration_seconds_bucket{{route="/x",le="{le}"}} {total - self.slow}' for le in ("0.5", "1")
        ]
        lines += [f'http_request_duration_seconds_bucket{{route="/x",le="+Inf"}} {total}']
        return "\n".join(lines) + "\n"


@dataclass
class Prometheus:
    """The server: where it is, and the Pods that it scrapes."""

    address: str
    pods: dict[str, Pod]

    def gates(self, **settings: Any) -> Gates:
        """Settings for it, with the shortest window."""
        return Gates(prometheus_url=self.address, window_seconds=60, fresh_seconds=15, **settings)

    def scraped(self, *names: str) -> None:
        """Wait until what these Pods say now was scraped, and is found."""
        before = {name: self.pods[name].scrapes for name in names}
        wait_until(lambda: all(self.pods[name].scrapes >= before[name] + 3 for name in names), "the Pods were scraped")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus for the tests of a module. Ends by its own process id."""
    folder = tmp_path_factory.mktemp("prometheus")
    pods = {name: Pod(answers=not name.startswith("away")) for name in PODS}
    exporter = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"pods": pods}))
    exporter.daemon_threads = True
    threading.Thread(target=exporter.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with run_prometheus(folder, _scraping(folder, exporter.server_address[1])) as address:
            yield Prometheus(address, pods)
    finally:
        exporter.shutdown()
        exporter.server_close()


@contextmanager
def run_prometheus(folder: Path, document: dict[str, Any], *options: str, port: int = 0) -> Iterator[str]:
    """Run a Prometheus with a configuration and further options while the block runs, and give its address (port 0: any). Where there is none the test is left out."""
    program = shutil.which("prometheus")
    if program is None:
        leave_out("no prometheus")
    file, port, log = folder / "prometheus.yml", port or free_port(), folder / "log"
    file.write_text(yaml.safe_dump(document))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process, log)
        yield address
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def run_pod_prometheus(folder: Path, namespace: str, port: int) -> Iterator[str]:
    """A Prometheus that scrapes all Pods of a namespace of the cluster twice a second. Debian's has no kubernetes_sd_configs: a thread tells it which there are."""
    file, ended = folder / "pods.json", threading.Event()
    thread = threading.Thread(target=_tell_pods, args=(file, namespace, port, ended), daemon=True)
    thread.start()
    document = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
        "scrape_configs": [{"job_name": "pods", "file_sd_configs": [{"files": [str(file)]}]}],
    }
    try:
        with run_prometheus(folder, document) as address:
            yield address
    finally:
        ended.set()
        thread.join()


def _tell_pods(file: Path, namespace: str, port: int, ended: threading.Event) -> None:
    told = None
    with KubernetesClient.open(None) as client:
        while not ended.wait(0.3):
            pods = client.list(f"/api/v1/namespaces/{namespace}/pods")
            found = [
                {"targets": [f"{one['status']['podIP']}:{port}"], "labels": {"pod": one["metadata"]["name"]}}
                for one in pods
                if one["status"].get("podIP")
            ]
            if found != told:
                # It reads the file at every change of it: never one that is half written.
                made = file.with_suffix(".new")
                made.write_text(json.dumps(found))
                made.replace(file)
                told = found


def _scraping(folder: Path, exporter_port: int) -> dict[str, Any]:
    (folder / "rules.yml").write_text(yaml.safe_dump(RULES))
    every = f"{int(SCRAPE_SECONDS * 1000)}ms"
    jobs = [
        {
            "job_name": name,
            "metrics_path": f"/{name}",
            "static_configs": [{"targets": [f"127.0.0.1:{exporter_port}"], "labels": {"pod": name}}],
        }
        for name in PODS
    ]
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": jobs,
    }


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        with PrometheusClient(address, patience=2) as client:
            return not _raises(client)

    wait_until(ready, "Prometheus is ready")


def _raises(client: PrometheusClient) -> bool:
    try:
        client.ready()
    except NightshiftError:
        return True
    return False


class _Handler(BaseHTTPRequestHandler):
    pods: dict[str, Pod]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        pod = self.pods[self.path.strip("/")]
        raw = pod.text().encode()
        self.send_response(200 if pod.answers else 500)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
        pod.scrapes += 1

    def log_message(self, *_arguments: Any) -> None:
        pass
