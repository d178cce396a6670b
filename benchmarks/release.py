"""What a release costs beside waiting for the cluster, against kubectl making the same change, and how many requests it makes.

    KUBECONFIG=… .venv/bin/python -m benchmarks.release --pairs 5

A pair: a release, run as a worker runs it (a process of its own, a Prefect server on this machine), and the same change by kubectl. Rolling: `kubectl apply` of the
same Deployment with another image, and `kubectl rollout status`. Blue-green: the same for the other colour's Deployment, and `kubectl patch` of the Service's
selector; kubectl has an application of its own for that, since nobody else may write to what a release manages. The first pair is a warm-up and not counted.

A rolling release settles for 5 s, as it does by default; the one share of the blue-green one soaks for 15 s (by default 120), one reading of its gates, and nothing
drains. The application is ready as soon as it answers: nothing real is, and so none has as many requests a second. There is no backup.

With --watch the environment has a table [watch]: each release ends with the hand-over to its watch, whose schedule it makes; a worker beside it takes the first look.

Own time: from the first task's start to the last one's end, as the Prefect server tells, less all waits (release_child.py). Beyond kubectl: the same with the waits for
the cluster in it, less kubectl's time for the same change; whatever our waits cost beyond waiting is in that one.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import tomli_w
import typer
import yaml
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from benchmarks.backup import make_platform
from benchmarks.measuring import Ratio, finish
from core.fence import Document
from deployments.command.demo_release import write_environment
from deployments.command.deploying import WATCHING, deployment_file
from deployments.command.prefect_api import Server, server_of
from deployments.local.data_folder import CHECKOUT
from deployments.local.demo_application import NAME, Namespaces, demo_namespaces, deploy_first, documents
from deployments.local.demo_cluster import DemoImages, demo_cluster, lab_home
from deployments.local.platform import Platform
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.watch_records import watches

Strategy = Literal["rolling", "blue-green"]
STRATEGIES: tuple[Strategy, ...] = ("rolling", "blue-green")
# Ready as soon as they answer: nothing but the cluster's own time is in a wait.
VERSIONS = {"first": (), "second": (), "bad": ("CRASH_AFTER=0.2",)}
# Seconds that a release waits on purpose.
PAUSES: dict[Strategy, int] = {"rolling": 5, "blue-green": 15}
MOST_SECONDS, MOST_REQUESTS = 5.0, 10.0


@dataclass
class Runs:
    """Figures of each counted release, and kubectl's seconds for the same change."""

    pause: int
    own: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    kubectl: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    busiest: list[int] = field(default_factory=list)

    @property
    def against_kubectl(self) -> float:
        """Median of the pairs' differences, seconds."""
        return statistics.median(a - self.pause - b for a, b in zip(self.whole, self.kubectl, strict=True))

    @property
    def per_second(self) -> float:
        """Median of the requests a second, from the first task to the last."""
        return statistics.median(a / b for a, b in zip(self.requests, self.whole, strict=True))


class Bench:
    """The platform, and two applications on the cluster: one that is released, one that kubectl changes."""

    def __init__(
        self, platform: Platform, folder: Path, applications: tuple[Namespaces, Namespaces], images: DemoImages
    ) -> None:
        self.platform, self.folder, self.images = platform, folder, images
        self.released, self.plain = (one.application for one in applications)
        self.server: Server = server_of(platform.running)
        self.variables = {
            **os.environ,
            **platform.variables,
            **self.server.variables,
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
            "PYTHONPATH": str(CHECKOUT),
        }
        self.kubectl_program = shutil.which("kubectl") or str(lab_home(os.environ) / "bin" / "kubectl")
        self.turns = 0

    def release(self, image: str, number: int) -> tuple[dict[str, Any], float, float]:
        """Release an image; what the child saw, and when its first task began and its last one ended."""
        out = self.folder / "seen.json"
        arguments = [
            sys.executable,
            "-m",
            "benchmarks.release_child",
            str(out),
            image.rpartition("@")[2],
            f"{number:040x}",
        ]
        subprocess.run(arguments, cwd=CHECKOUT, env=self.variables, check=True, stdout=subprocess.DEVNULL, timeout=180)
        seen: dict[str, Any] = json.loads(out.read_text())
        if seen["state"] != "Completed":
            sys.exit(f"the release is {seen['state']}: {seen['message']}")
        return seen, *self._first_and_last(UUID(seen["run_id"]))

    def kubectl(self, *arguments: str, given: Document | None = None) -> None:
        """Run kubectl to its end; `given`: a document on its standard input."""
        told = json.dumps(given) if given is not None else None
        done = subprocess.run(
            [self.kubectl_program, *arguments], input=told, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"kubectl {' '.join(arguments)}: {done.stderr}")

    def apply(self, namespace: str, image: str, name: str = NAME) -> None:
        """kubectl apply and kubectl rollout status."""
        self.kubectl("-n", namespace, "apply", "-f", "-", given=side_of(image, name))
        self.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}")

    def select(self, name: str) -> None:
        """Give a side of the plain application the traffic, by kubectl."""
        patch = json.dumps({"spec": {"selector": {"app": name}}})
        self.kubectl("-n", self.plain, "patch", "service", NAME, "-p", patch)

    def quiet(self, *namespaces: str) -> None:
        """Wait until no container runs any more of a Pod that was deleted."""
        with KubernetesClient.open(None) as client:
            while any(
                _still_runs(one) for name in namespaces for one in client.list(f"/api/v1/namespaces/{name}/pods")
            ):
                time.sleep(0.3)

    def _first_and_last(self, run_id: UUID) -> tuple[float, float]:
        only = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
        with self.server.client() as client:
            # Task runs are known to the server by their events, a moment later.
            while True:
                tasks = client.read_task_runs(flow_run_filter=only)
                if any(one.name == "write the report" for one in tasks) and all(one.end_time for one in tasks):
                    break
                time.sleep(0.2)
        starts = [one.start_time.timestamp() for one in tasks if one.start_time]
        return min(starts), max(one.end_time.timestamp() for one in tasks if one.end_time)


def side_of(image: str, name: str) -> Document:
    """The application's Deployment, or the same under a colour's name."""
    deployment, _ = documents(image)
    if name != NAME:
        deployment["metadata"]["name"] = name
        for labels in (
            deployment["spec"]["selector"]["matchLabels"],
            deployment["spec"]["template"]["metadata"]["labels"],
        ):
            labels["app"] = name
    return deployment


def _still_runs(pod: Document) -> bool:
    states = [one.get("state") or {} for one in (pod.get("status") or {}).get("containerStatuses") or ()]
    return "deletionTimestamp" in pod["metadata"] and any("running" in one for one in states)


def by_kubectl(bench: Bench, strategy: Strategy, turn: int) -> float:
    """The same change by kubectl, in seconds: rolling from the second version to the first, which differ in their names alone."""
    images = bench.images
    began = time.monotonic()
    if strategy == "rolling":
        bench.apply(bench.released, images.first)
        return time.monotonic() - began
    # The side that serves keeps its Pods, as in a release.
    colour, other = ("hello-a", "hello-b") if turn % 2 else ("hello-b", "hello-a")
    bench.apply(bench.plain, images.second, colour)
    bench.select(colour)
    seconds = time.monotonic() - began
    bench.kubectl("-n", bench.plain, "delete", "deployment", other, "--ignore-not-found")
    return seconds


def one_pair(bench: Bench, strategy: Strategy, runs: Runs, *, counted: bool) -> None:
    """A release, and the same change by kubectl."""
    bench.turns += 1
    image = bench.images.second if strategy == "rolling" or bench.turns % 2 else bench.images.first
    seen, first, last = bench.release(image, bench.turns)
    bench.quiet(bench.released)
    seconds = by_kubectl(bench, strategy, bench.turns)
    bench.quiet(bench.released, bench.plain)
    waited = sum(max(0.0, min(end, last) - max(began, first)) for began, end in seen["waits"])
    made = [at for at, *_ in seen["requests"] if first <= at <= last]
    busiest = max(Counter(int(at - first) for at in made).values())
    whole, own = last - first, last - first - waited
    print(
        f"{strategy}: {whole:.2f} s from the first task to the last, {waited:.2f} s of it waiting, own {own:.2f} s · kubectl {seconds:.2f} s"
        f" · {len(made)} requests, {len(made) / whole:.1f} a second, {busiest} in the busiest{'' if counted else ' (warm-up)'}",
        flush=True,
    )
    if counted:
        runs.own.append(own)
        runs.whole.append(whole)
        runs.kubectl.append(seconds)
        runs.requests.append(len(made))
        runs.busiest.append(busiest)
    elif paths := os.environ.get("NIGHTSHIFT_BENCHMARK_REQUESTS"):
        (Path(paths) / f"{strategy}.json").write_text(
            json.dumps([[at - first, *rest] for at, *rest in seen["requests"]], indent=0)
        )


def measure(pairs: int, *, watch: bool) -> dict[str, Runs]:
    """All pairs of both strategies."""
    found = {strategy: Runs(PAUSES[strategy]) for strategy in STRATEGIES}
    with (
        tempfile.TemporaryDirectory(prefix="nightshift-benchmark-") as name,
        demo_cluster(print, versions=VERSIONS) as images,
        demo_namespaces(print) as released,
        demo_namespaces(print) as plain,
    ):
        folder = Path(name)
        os.environ["NIGHTSHIFT_ENVIRONMENTS"] = name
        deploy_first(released.application, images.first)
        deploy_first(plain.application, images.first)
        variables = {"NIGHTSHIFT_ENVIRONMENTS": name, "PYTHONPATH": str(CHECKOUT)}
        file = write_watching_file(folder)
        with make_platform(folder / "platform", prefect_file=file, deployments="*/*", variables=variables) as platform:
            os.environ.update(platform.variables)
            bench = Bench(platform, folder, (released, plain), images)
            for strategy in STRATEGIES:
                write_settings(folder, released, images, strategy, watch=watch)
                for number in range(pairs + 1):
                    one_pair(bench, strategy, found[strategy], counted=number > 0)
            if watch and len(watches(load_environment("local"))) != bench.turns:
                sys.exit("not every release has been handed over to its watch")
    return found


def write_watching_file(folder: Path) -> Path:
    """Write a prefect.yaml with the deployments that a release of `local` hands over to."""
    document = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
    entries = [deployment_file(document, flow, "local")[0]["deployments"][0] for flow in WATCHING]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
    return file


def write_settings(
    folder: Path, namespaces: Namespaces, images: DemoImages, strategy: Strategy, *, watch: bool
) -> None:
    """The environment of the demo, without what is waited for on purpose."""
    write_environment(folder, namespaces, images)
    file = folder / "local.toml"
    document = tomllib.loads(file.read_text())
    document["release"] |= {"strategy": strategy, "settle_seconds": PAUSES["rolling"], "drain_seconds": 0}
    document["release"]["traffic"]["soak_seconds"] = PAUSES["blue-green"]
    if watch:
        document["watch"] = {"policy": "alert"}
    file.write_text(tomli_w.dumps(document))


def main(
    pairs: Annotated[int, typer.Option(help="Counted pairs of each strategy.", min=1)] = 5,
    watch: Annotated[bool, typer.Option(help="Each release hands over to its watch.")] = False,
) -> None:
    """Measure a release."""
    found = measure(pairs, watch=watch)
    ratios = []
    for strategy, runs in found.items():
        ratios += [
            Ratio(f"{strategy}: own time beside waiting", statistics.median(runs.own), MOST_SECONDS, unit="s"),
            Ratio(
                f"{strategy}: time beyond kubectl's for the same change", runs.against_kubectl, MOST_SECONDS, unit="s"
            ),
            Ratio(f"{strategy}: requests a second", runs.per_second, MOST_REQUESTS),
        ]
    context: dict[str, Any] = {"pairs": pairs, "processors": os.cpu_count(), "watched": watch}
    for strategy, runs in found.items():
        context[f"{strategy}: median from the first task to the last"] = f"{statistics.median(runs.whole):.2f} s"
        context[f"{strategy}: median kubectl"] = f"{statistics.median(runs.kubectl):.2f} s"
        context[f"{strategy}: median requests"] = statistics.median(runs.requests)
        context[f"{strategy}: requests in the busiest second"] = max(runs.busiest)
    finish("release", ratios, context)


if __name__ == "__main__":
    typer.run(main)
