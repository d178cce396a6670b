"""`nightshift demo-release`: a good release, a bad one that is rolled back, and one that is killed and recovered, on a Kubernetes cluster."""

import importlib
import os
import tempfile
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import tomli_w
import typer
import yaml
from rich.text import Text

from deployments.command.endings import unwinding_signals
from deployments.command.terminal import EXIT_INTERRUPTED, EXIT_NOT_WELL, console, tell_error
from deployments.command.trial import Teller, show_platform
from deployments.local.data_folder import CHECKOUT, platform_folder
from deployments.local.demo_application import NAME, Namespaces, demo_namespaces, deploy_first
from deployments.local.demo_cluster import DemoImages, demo_cluster
from deployments.local.platform import Platform
from deployments.local.running import LOCAL

_ROWS = 200


def demo_release_command() -> None:
    """Release well, badly, and killed in the middle, on a Kubernetes cluster (KUBECONFIG, or kube-lab beside the checkout); nothing is left there.

    Exit code 2: there is no cluster, or no images for it; it says how to get them.
    """
    console.print(
        Text.assemble(
            ("nightshift demo-release", "bold"),
            ": a small application on a Kubernetes cluster, a Prefect server and a worker on this machine, and three releases of it:"
            " a good one, a bad one, and one that is killed in the middle",
        ),
        soft_wrap=True,
    )
    with unwinding_signals():
        try:
            well = _demonstrate()
        except KeyboardInterrupt:
            tell_error("ended by Ctrl-C; nothing is left running")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    raise typer.Exit(0 if well else EXIT_NOT_WELL)


def _demonstrate() -> bool:
    teller = Teller()
    with (
        demo_cluster(teller) as images,
        tempfile.TemporaryDirectory(prefix="nightshift-demo-") as folder,
        demo_namespaces(teller) as namespaces,
    ):
        os.environ["NIGHTSHIFT_ENVIRONMENTS"] = folder
        write_environment(Path(folder), namespaces, images)

        def meanwhile() -> None:
            # While the Prefect server starts, which takes longest.
            _demo_release_run()
            teller(f"deploying the first version to {namespaces.application}")
            deploy_first(namespaces.application, images.first)

        platform = Platform(
            platform_folder("demo"),
            rows=_ROWS,
            prefect_file=write_prefect_file(Path(folder)),
            variables={"PYTHONPATH": str(CHECKOUT)},
            tell=teller,
            meanwhile=meanwhile,
        )
        with platform:
            show_platform(platform)
            well: bool = _demo_release_run().demonstrate(platform, namespaces, images)
            teller("stopping all that was started")
    teller("stopped; nothing is left running")
    return well


def write_environment(folder: Path, namespaces: Namespaces, images: DemoImages) -> None:
    """Write the environment `local` with a table [release]: blue-green by the Service's selector, with short times, so that it can be watched."""
    document: dict[str, Any] = tomllib.loads((CHECKOUT / "deployments" / "environments" / f"{LOCAL}.toml").read_text())
    # A recovery point is there, by a backup before the first release; a proof would need a drill, which `make demo` shows.
    document["objectives"] = {**document.get("objectives", {}), "proof_age_hours": 0}
    document["release"] = {
        "namespace": namespaces.application,
        "control_namespace": namespaces.control,
        "strategy": "blue-green",
        "repository": images.repository,
        "registry": {"kind": "none"},
        "workloads": [{"name": NAME}],
        "approval": False,
        "rollout_minutes": 3,
        "drain_seconds": 2,
        "traffic": {"kind": "service", "name": NAME, "soak_seconds": 3},
    }
    (folder / f"{LOCAL}.toml").write_text(tomli_w.dumps(document))


def write_prefect_file(folder: Path) -> Path:
    """Write a prefect.yaml with what a first release of `local` would deploy: release, rollback, and what brings them to their end; and the nightly backup."""
    run = _demo_release_run()
    document = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
    flows = ("nightly-backup", *run.RELEASING)
    entries = [run.deployment_file(document, flow, LOCAL)[0]["deployments"][0] for flow in flows]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
    return file


def _demo_release_run() -> ModuleType:
    return importlib.import_module("deployments.command.demo_release_run")
