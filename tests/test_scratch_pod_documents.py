"""The scratch Pod's documents give a dump's code nothing, and its status is told in one sentence."""

from typing import Any

import pytest

from core.environment_restore import ScratchPod
from core.scratch_pod import (
    PodOrder,
    failure_of,
    is_ready,
    pod_document,
    policy_document,
    quantity_bytes,
    secret_document,
    waiting_for,
)

ORDER = PodOrder(
    name="nightshift-scratch-1-abcdef",
    namespace="drills",
    labels={"nightshift.dev/environment": "local", "nightshift.dev/run": "1"},
    superuser="postgres",
    password="the password of the Pod",
    settings={"fsync": "off"},
    initdb=("--data-checksums",),
    choice=ScratchPod(memory="2Gi", cpu="500m", disk="3Gi"),
)
POD = pod_document(ORDER, "2026-01-01T00:00:00+00:00")
SPEC: dict[str, Any] = POD["spec"]
CONTAINER: dict[str, Any] = SPEC["containers"][0]


def test_the_pod_has_no_token_no_service_addresses_and_no_environment() -> None:
    assert SPEC["automountServiceAccountToken"] is False
    assert SPEC["enableServiceLinks"] is False
    assert "env" not in CONTAINER
    assert "envFrom" not in CONTAINER


def test_the_pod_runs_without_rights_on_a_root_folder_that_cannot_be_written_to() -> None:
    assert SPEC["securityContext"]["runAsNonRoot"] is True
    assert SPEC["securityContext"]["runAsUser"] > 0
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_memory_processor_disk_and_life_are_limited() -> None:
    assert CONTAINER["resources"]["limits"] == {"cpu": "500m", "memory": "2Gi"}
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "3Gi"}} in SPEC["volumes"]
    assert SPEC["activeDeadlineSeconds"] == 24 * 3600


def test_the_server_listens_on_the_pods_own_loopback_only() -> None:
    assert "--listen_addresses=127.0.0.1" in CONTAINER["args"]


def test_the_password_stands_in_the_secret_and_nowhere_else() -> None:
    assert secret_document(ORDER)["stringData"]["password"] == ORDER.password
    assert ORDER.password not in repr(POD)
    assert ORDER.password not in repr(policy_document(ORDER))


def test_the_policy_denies_this_pod_every_connection() -> None:
    spec = policy_document(ORDER)["spec"]
    assert spec["policyTypes"] == ["Egress", "Ingress"]
    assert spec["egress"] == spec["ingress"] == []
    assert spec["podSelector"]["matchLabels"] == POD["metadata"]["labels"]


def with_state(kind: str, phase: str = "Pending", **state: Any) -> dict[str, Any]:
    return {"status": {"phase": phase, "containerStatuses": [{"name": "postgres", "state": {kind: state}}]}}


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (
            with_state("waiting", reason="ImagePullBackOff", message='Back-off pulling image "nowhere:1"'),
            'its image cannot be pulled (ImagePullBackOff: Back-off pulling image "nowhere:1")',
        ),
        (
            with_state("waiting", reason="InvalidImageName", message="couldn't parse image reference"),
            "its image's name is not valid (InvalidImageName: couldn't parse image reference)",
        ),
        (
            with_state("terminated", "Failed", exitCode=3, reason="Error", message="the image holds no initdb\n"),
            "the Pod ended (Error, exit code 3): the image holds no initdb",
        ),
        (
            {
                "status": {
                    "phase": "Failed",
                    "reason": "Evicted",
                    "message": "Usage of EmptyDir volume exceeds the limit",
                }
            },
            "the Pod ended (Evicted): Usage of EmptyDir volume exceeds the limit",
        ),
        (
            with_state("terminated", "Failed", exitCode=137, reason="OOMKilled"),
            "the Pod ended (OOMKilled, exit code 137)",
        ),
    ],
)
def test_what_will_not_mend_itself_is_a_failure_with_its_cause(pod: dict[str, Any], said: str) -> None:
    assert failure_of(pod) == said


@pytest.mark.parametrize(
    "pod",
    [
        {},
        {"status": {"phase": "Pending"}},
        with_state("waiting", reason="ContainerCreating"),
        # The kubelet tries once more before it says BackOff.
        with_state("waiting", reason="ErrImagePull", message="connection reset"),
        # So it is on a busy node whose kubelet has not read the Secret yet.
        with_state("waiting", reason="CreateContainerConfigError", message="failed to sync secret cache: timed out"),
        with_state("running", "Running"),
    ],
)
def test_what_may_still_come_is_no_failure(pod: dict[str, Any]) -> None:
    assert failure_of(pod) is None
    assert not is_ready(pod)


def test_a_ready_pod_is_ready() -> None:
    assert is_ready({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        (None, "the Pod is gone: somebody removed it"),
        (
            {"status": {"phase": "Pending", "conditions": [UNSCHEDULABLE]}},
            "no node takes the Pod (Unschedulable: 0/1 nodes are available: 1 Insufficient memory.)",
        ),
        (with_state("waiting", reason="ContainerCreating"), "its container is not started yet (ContainerCreating)"),
        (
            with_state("waiting", reason="ErrImagePull", message="reset"),
            "its image cannot be pulled (ErrImagePull: reset)",
        ),
        (with_state("running", "Running"), "PostgreSQL was started and does not listen yet"),
        ({"status": {"phase": "Pending"}}, "no node has begun to start it"),
    ],
)
def test_what_a_late_pod_waits_for_is_told(pod: dict[str, Any] | None, said: str) -> None:
    assert waiting_for(pod) == said


@pytest.mark.parametrize(
    ("quantity", "size"),
    [
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("512Mi", 512 << 20),
        ("64Ki", 64 << 10),
        ("1G", 10**9),
        ("500M", 500 * 10**6),
        ("3k", 3000),
        ("1e9", 10**9),
        ("12", 12),
        ("2000m", 2),
        ("2Ti", 2 << 40),
    ],
)
def test_amounts_are_read_as_kubernetes_writes_them(quantity: str, size: int) -> None:
    assert quantity_bytes(quantity) == size


@pytest.mark.parametrize("quantity", ["", "1 Gi", "lots", "1GB", "-1Gi", "1Ki2"])
def test_what_is_no_amount_is_refused(quantity: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        quantity_bytes(quantity)
