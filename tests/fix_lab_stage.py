"""The environment `stage` on the real node, with the lab's own application."""

import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tasks.kubernetes_client import KubernetesClient
from tests.fix_cluster import LAB, Removals, image_turn, lab_program
from tests.fix_object_store import S3Server
from tests.fix_release import COMMIT, Stage, release_settings
from tests.waiting import wait_until

# A second, the default, is little for a program on a node whose processors are all busy.
PROBE_SECONDS = 5


def build_hello(version: str, *options: str) -> str:
    """Make an image of the lab's application and return its name by digest."""
    command = [LAB / "apps/hello/build.sh", version, *options]
    with image_turn():
        made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return next(line for line in made.stdout.split() if "@sha256:" in line)


def create_hello(client: KubernetesClient, namespace: str, image: str) -> None:
    """Make the lab's application at a version.

    On a node that other tests use too, a Pod may take more than half a minute to begin, and more than a second to answer a probe: neither is what they test.
    """
    for document in yaml.safe_load_all((LAB / "apps/hello/hello.yaml").read_text()):
        if document["kind"] == "Deployment":
            document["spec"]["progressDeadlineSeconds"] = 120
            (container,) = document["spec"]["template"]["spec"]["containers"]
            container["image"] = image
            for probe in ("readinessProbe", "livenessProbe"):
                container[probe]["timeoutSeconds"] = PROBE_SECONDS
            document["metadata"]["annotations"] = {"nightshift.dev/commit": COMMIT}
        root = "/apis/apps/v1" if document["kind"] == "Deployment" else "/api/v1"
        client.create(f"{root}/namespaces/{namespace}/{document['kind'].lower()}s", document)


def manifest_of(image: str) -> tuple[str, bytes]:
    """An image's media type and manifest, as the node has it and a registry would answer."""
    read = '. "$1"; ctri content get "$2"'
    program = ["bash", "-c", read, "bash", lab_program("lib.sh"), image.rpartition("@")[2]]
    made = subprocess.run(program, capture_output=True, check=True, timeout=60)
    return json.loads(made.stdout)["mediaType"], made.stdout


@pytest.fixture(scope="session")
def lab_images() -> dict[str, str]:
    """Image names by digest: good ones, and one for each way of being bad."""
    lab_program("apps/hello/build.sh")
    return {
        "v1": build_hello("rel-1"),
        "v2": build_hello("rel-2"),
        "crashing": build_hello("rel-crash", "CRASH_AFTER=0.2"),
        "unready": build_hello("rel-unready", "READY_DELAY=never"),
        "erring": build_hello("rel-erring", "ERROR_RATE=0.5"),
        "gone": "localhost/hello@sha256:" + "0" * 64,
    }


@pytest.fixture
def lab_stage(  # noqa: PLR0917 - fixtures
    cluster: KubernetesClient,
    lab_images: dict[str, str],
    stage_folder: Path,
    prefect_server: str,
    s3_server: S3Server,
    bucket: str,
) -> Iterator[Stage]:
    """`hello` at its first version, rolled out, in namespaces of the test's own."""
    mark = secrets.token_hex(4)
    with Removals(cluster) as removals:
        names = [removals.namespace(f"nightshift-test-{part}{mark}") for part in ("", "control-")]
        settings = release_settings(bucket, s3_server.endpoint, *names, "localhost/hello")
        found = Stage(stage_folder, settings, cluster, *names, lab_images.__getitem__)
        create_hello(cluster, names[0], lab_images["v1"])
        wait_until(
            lambda: found.deployment().get("status", {}).get("availableReplicas") == 2, "hello is there", seconds=120
        )
        yield found
