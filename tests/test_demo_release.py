"""`nightshift demo-release` without a cluster: it says how to get one. And kube-lab: started and stopped only where it did not run before."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from core.errors import ConfigurationError
from deployments.command.demo_release import write_environment, write_prefect_file
from deployments.local.data_folder import CHECKOUT
from deployments.local.demo_application import Namespaces, documents
from deployments.local.demo_cluster import DemoImages, demo_cluster, read_images
from tasks.environments import load_environment

ONE, TWO, BAD = (f"registry.test/team/app@sha256:{number * 64}" for number in "123")
NO_LAB = "import pathlib; from deployments.local import demo_cluster; demo_cluster.LAB = pathlib.Path('/nowhere'); from deployments.command.main import main; main()"


def run(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a machine without a lab."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "NIGHTSHIFT_DEMO_IMAGES"}
    }
    return subprocess.run(
        [sys.executable, "-c", NO_LAB, "demo-release"],
        cwd=CHECKOUT,
        env={**inherited, "NIGHTSHIFT_DATA": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_cluster_it_ends_with_2_and_says_how_to_get_one(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    for name in ("KUBECONFIG", "kind", "minikube", "k3d", "kube-lab"):
        assert name in done.stderr
    assert not (tmp_path / "demo").exists()


def test_on_a_cluster_that_is_not_the_labs_it_ends_with_2_and_says_which_images_it_needs(tmp_path: Path) -> None:
    done = run(tmp_path, KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert done.returncode == 2
    assert "NIGHTSHIFT_DEMO_IMAGES=GOOD1,GOOD2,BAD" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_images_are_three_by_digest_of_one_repository() -> None:
    assert read_images(f"{ONE}, {TWO},{BAD}") == DemoImages(ONE, TWO, BAD)
    assert read_images(f"{ONE},{TWO},{BAD}").repository == "registry.test/team/app"
    other = BAD.replace("team", "others")
    for given in (f"{ONE},{TWO}", f"{ONE},{ONE},{BAD}", "app:1,app:2,app:3", f"{ONE},{TWO},{other}"):
        with pytest.raises(ConfigurationError, match="NIGHTSHIFT_DEMO_IMAGES"):
            read_images(given)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A folder with the lab's programs, which only write down that they were called. `up` lies there while it runs."""
    folder = tmp_path / "lab"
    programs = {
        "status.sh": "[ -e up ] && echo 'kube-apiserver   running (1)' && [ ! -e unwell ]",
        "up.sh": "if [ -e broken ]; then echo 'want root' >&2; exit 1; fi; if [ -e slow ]; then touch began; sleep 60; fi; touch up",
        "down.sh": "rm -f up",
        "apps/hello/build.sh": 'echo "localhost/hello@sha256:$1"',
        "lib.sh": 'TESTIMG=. DATA=.; ctri() { echo "ctri $*" >> said; }',
    }
    for name, text in programs.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/bash\ncd {folder}\necho "{name}" >> said\n{text}\n')
        file.chmod(0o755)
    return folder


def said(lab: Path) -> list[str]:
    """The programs that were called, but those for images."""
    return [
        one for one in (lab / "said").read_text().splitlines() if one.removesuffix(".sh") in {"status", "up", "down"}
    ]


def test_a_lab_that_does_not_run_is_started_and_stopped(lab: Path) -> None:
    variables = {"KUBE_LAB_HOME": str(lab)}
    with demo_cluster(print, variables=variables, lab=lab) as images:
        assert (lab / "up").exists()
        assert variables["KUBECONFIG"] == str(lab / "admin.kubeconfig")
        assert images.repository == "localhost/hello"
    assert said(lab) == ["status.sh", "up.sh", "down.sh"]


@pytest.mark.parametrize("well", [True, False])
def test_a_lab_that_runs_is_not_stopped_not_even_one_that_is_unwell(lab: Path, well: bool) -> None:
    (lab / "up").touch()
    if not well:
        (lab / "unwell").touch()
    with demo_cluster(print, variables={"KUBE_LAB_HOME": str(lab)}, lab=lab):
        pass
    assert (lab / "up").exists()
    assert "down.sh" not in said(lab)


def test_a_lab_that_cannot_be_started_is_told_with_its_own_words_and_cleared_away(lab: Path) -> None:
    (lab / "broken").touch()
    with (
        pytest.raises(ConfigurationError, match=r"want root.*kind create cluster"),
        demo_cluster(print, variables={"KUBE_LAB_HOME": str(lab)}, lab=lab),
    ):
        pass
    assert said(lab) == ["status.sh", "up.sh", "down.sh"]


def test_the_images_that_were_made_are_removed_by_tag_and_by_digest(lab: Path) -> None:
    with demo_cluster(print, variables={"KUBE_LAB_HOME": str(lab)}, lab=lab) as images:
        made = [images.first, images.second, images.bad]
    removed = [one for one in (lab / "said").read_text().splitlines() if one.startswith("ctri images rm")]
    assert len(removed) == 3
    for image, line in zip(made, removed, strict=True):
        assert line.endswith(f" {image}")
        assert f"localhost/hello:{image.rpartition(':')[2]}" in line


def test_a_lab_that_is_being_started_when_ctrl_c_comes_is_stopped(lab: Path) -> None:
    (lab / "slow").touch()
    code = (
        "import pathlib, sys\nfrom deployments.command.endings import unwinding_signals\nfrom deployments.local.demo_cluster import demo_cluster\n"
        "lab = pathlib.Path(sys.argv[1])\nwith unwinding_signals():\n    with demo_cluster(print, variables={'KUBE_LAB_HOME': sys.argv[1]}, lab=lab):\n        pass\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, lab], cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 20
        while not (lab / "began").exists():
            assert time.monotonic() < ends
            time.sleep(0.05)
        process.send_signal(2)
        assert process.wait(20) != 0
    finally:
        process.kill()
        process.wait()
    assert said(lab) == ["status.sh", "up.sh", "down.sh"]


def test_the_environment_of_the_demo_is_one_that_releases_blue_green(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    write_environment(tmp_path, Namespaces("shop", "shop-control"), DemoImages(ONE, TWO, BAD))
    release = load_environment("local").release
    assert release is not None
    assert (release.strategy, release.traffic.kind, release.repository) == (
        "blue-green",
        "service",
        "registry.test/team/app",
    )
    assert (release.namespace, release.control_namespace) == ("shop", "shop-control")


def test_what_brings_the_demos_releases_to_their_end_is_deployed_with_its_automation_and_its_sweep(
    tmp_path: Path,
) -> None:
    entries = yaml.safe_load(write_prefect_file(tmp_path).read_text())["deployments"]
    by_flow = {entry["entrypoint"].rpartition(".")[2]: entry for entry in entries}
    assert set(by_flow) == {"nightly_backup", "release", "rollback", "release_recovery"}
    recovery = by_flow["release_recovery"]
    assert {entry["name"] for entry in entries} == {"local"}
    assert recovery["triggers"]
    assert recovery["schedules"]


def test_the_demos_application_is_not_taken_for_a_bad_one_where_all_processors_are_busy() -> None:
    deployment, _service = documents("hello:1")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    # Two answers in a row that took more than a second, the default, were a readiness that flaps.
    assert container["readinessProbe"]["timeoutSeconds"] >= 5
    assert deployment["spec"]["progressDeadlineSeconds"] >= 120
