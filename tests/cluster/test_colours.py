"""Both sides of a release on a real API server and node: adopted from what `kubectl apply` and `kubectl set image` made, without a request to a Pod that no gate saw."""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from core.colour_checks import side_checks, tracking_check
from core.colour_pair import pod_labels, selector_of
from core.errors import PermanentError
from core.fence import Fence, FencedError
from core.field_owners import displaced_managers
from tasks.colour_sizes import match_size, release_sizes, retire, scale
from tasks.colours import (
    Sides,
    ensure_side,
    managed_paths,
    planned_changes,
    read_sides,
    serving_side,
    side_documents,
)
from tasks.config_copies import find_unused_copies, read_config_copies
from tasks.fenced import stamp
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.kubernetes_watch import wait_for_object
from tests.fix_cluster import LAB, image_turn, lab_program
from tests.fix_lab_stage import PROBE_SECONDS
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Document = dict[str, Any]
FENCE = Fence("lab", "release-1", 1)


@pytest.fixture(scope="module")
def images() -> tuple[str, str]:
    """The same application twice: by a tag, and by a digest."""
    program = lab_program("apps/hello/build.sh")
    assert shutil.which("kubectl"), "kubectl is not in PATH: the lab's bin/ has it"

    def build(version: str) -> str:
        command = [program, version]
        with image_turn():
            made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        return made.stdout + made.stderr

    build("colours-1")
    digest = re.search(r"localhost/hello@sha256:[0-9a-f]{64}", build("colours-2"))
    assert digest, "the build printed no digest"
    return "localhost/hello:colours-1", digest[0]


def kubectl(*arguments: str, given: str = "") -> str:
    made = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False, timeout=60)
    assert made.returncode == 0, made.stderr
    return made.stdout


class Workload:
    """The lab's hello as a team made it: settings in a ConfigMap, an autoscaler, a budget, default deny and a policy that lets its own Pods in."""

    def __init__(self, client: KubernetesClient, namespace: str, image: str) -> None:
        self.client, self.namespace = client, namespace
        documents = list(yaml.safe_load_all((LAB / "apps" / "hello" / "hello.yaml").read_text()))
        pod = documents[0]["spec"]["template"]["spec"]
        for probe in ("readinessProbe", "livenessProbe"):
            pod["containers"][0][probe]["timeoutSeconds"] = PROBE_SECONDS
        pod["containers"][0] |= {
            "image": "localhost/hello:never-made",
            "envFrom": [{"configMapRef": {"name": "settings"}}],
        }
        own = {"matchLabels": {"app": "hello"}}
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": own,
            }
        ]
        metric = {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello"}
        further = [
            ("ConfigMap", "settings", {"data": {"LATENCY_MS": "1"}}),
            ("HorizontalPodAutoscaler", "hello", {"spec": {"minReplicas": 1, "maxReplicas": 5, "scaleTargetRef": target, "metrics": [metric]}}),
            ("PodDisruptionBudget", "hello", {"spec": {"minAvailable": 1, "selector": own}}),
            ("NetworkPolicy", "default-deny", {"spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}),
            ("NetworkPolicy", "hello", {"spec": {"podSelector": own, "ingress": [{"from": [{"podSelector": own}]}]}}),
        ]  # fmt: skip
        documents += [
            {"apiVersion": find_kind(client, kind).api_version, "kind": kind, "metadata": {"name": name}, **content}
            for kind, name, content in further
        ]
        kubectl("-n", namespace, "apply", "-f", "-", given=yaml.safe_dump_all(documents))
        kubectl("-n", namespace, "set", "image", "deployment/hello", f"hello={image}")

    def path(self, kind: str, name: str) -> str:
        return find_kind(self.client, kind).path(self.namespace, name)

    def sides(self, live_name: str) -> Sides:
        return read_sides(self.client, self.namespace, "lab", "hello", live_name=live_name, service="hello")

    def documents(self, sides: Sides, image: str) -> list[Document]:
        copies = read_config_copies(self.client, self.namespace, "lab", ["settings"])
        return side_documents(sides, {"hello": image}, copies)

    def ensure(self, live_name: str, image: str) -> set[str]:
        sides = self.sides(live_name)
        for path in managed_paths(self.client, sides):
            stamp(self.client, path, FENCE)
        anchor = self.path("Deployment", live_name)
        return set(ensure_side(self.client, FENCE, self.documents(sides, image), anchor=anchor).values())

    def wait_ready(self, name: str, replicas: int) -> None:
        def ready(found: Document | None) -> bool:
            status = (found or {}).get("status", {})
            seen = status.get("observedGeneration") == (found or {}).get("metadata", {}).get("generation")
            return bool(seen and status.get("availableReplicas", 0) == status.get("replicas", 0) == replicas)

        collection = find_kind(self.client, "Deployment").path(self.namespace)
        wait_for_object(self.client, collection, name, ready, seconds=180)

    def turn(self, name: str) -> None:
        """Switch the Service by hand."""
        service = self.path("Service", "hello")
        now = self.client.get(service)["spec"]["selector"]
        wanted = selector_of(self.client.get(self.path("Deployment", name)), now)
        self.client.merge(service, {"spec": {"selector": {**dict.fromkeys(now), **wanted}}})


@pytest.fixture
def hello(cluster: KubernetesClient, drill_namespace: str, images: tuple[str, str]) -> Workload:
    return Workload(cluster, drill_namespace, images[0])


@pytest.fixture
def endpoints(hello: Workload) -> Iterator[Callable[[], set[str]]]:
    """The Pods that the Service ever sent requests to since the test began, ready or not, by watch."""
    collection, seen = find_kind(hello.client, "Endpoints").path(hello.namespace), set()
    begin = hello.client.get(collection)

    def note(document: Document) -> None:
        if document["metadata"]["name"] == "hello":
            for subset in document.get("subsets") or ():
                addresses = (subset.get("addresses") or []) + (subset.get("notReadyAddresses") or [])
                seen.update(one["targetRef"]["name"] for one in addresses)

    for item in begin["items"]:
        note(item)

    def watch() -> None:
        with KubernetesClient.open(None) as client:
            for document in client.watch(collection, begin["metadata"]["resourceVersion"], seconds=120):
                note(document)
                if ended.is_set():
                    return

    ended = threading.Event()
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    yield lambda: set(seen)
    ended.set()


def test_a_deployment_made_by_kubectl_becomes_a_pair_and_the_colours_alternate(
    hello: Workload, images: tuple[str, str], endpoints: Callable[[], set[str]]
) -> None:
    client, image = hello.client, images[1]
    hello.wait_ready("hello", 2)
    sides = hello.sides("hello")
    assert {one.manager: one.fields for one in displaced_managers(sides.live)}["kubectl-set"] == ("image of hello",)
    documents = hello.documents(sides, image)
    new = pod_labels(next(one for one in documents if one["kind"] == "Deployment"))
    around = sides.around
    checks = side_checks(
        sides.pair, sides.live, new, services=around.services, budgets=around.budgets, policies=around.policies,
        deployments=around.deployments, autoscalers=around.autoscalers, shifted=["hello"], adopt=True,
    )  # fmt: skip
    assert {one.state for one in checks} == {"passed"}, checks
    assert tracking_check([("deployment/hello", sides.live), ("service/hello", sides.service)], ()).state == "passed"

    assert len(planned_changes(client, documents)) == len(documents)
    assert hello.ensure("hello", image) == {"created"}
    assert hello.ensure("hello", image) == {"unchanged"}
    assert match_size(client, FENCE, hello.namespace, serving="hello", other="hello-blue").is_enough
    hello.wait_ready("hello-blue", 2)
    assert hello.ensure("hello", image) == {"unchanged"}
    blue = client.get(hello.path("Deployment", "hello-blue"))
    assert blue["spec"]["template"]["spec"]["containers"][0]["image"] == image
    assert serving_side(client, hello.namespace, "hello", "hello") == "hello"
    assert not [name for name in endpoints() if name.startswith("hello-blue")]

    def is_previewed() -> bool:
        subsets = client.get(hello.path("Endpoints", "hello-blue")).get("subsets") or [{}]
        return len(subsets[0].get("addresses") or ()) == 2

    wait_until(is_previewed, "both are behind the preview")

    hello.turn("hello-blue")
    assert serving_side(client, hello.namespace, "hello", "hello") == "hello-blue"
    release_sizes(client, FENCE, hello.namespace, ["hello", "hello-blue"])
    assert retire(client, FENCE, hello.namespace, "hello", shares={"hello-blue": 1})
    hello.wait_ready("hello", 0)

    # The next release, after somebody took a variable away from what is live.
    kubectl("-n", hello.namespace, "set", "env", "deployment/hello-blue", "GONE=1")
    assert hello.ensure("hello-blue", image) == {"created", "unchanged"}
    green = client.get(hello.path("Deployment", "hello-green"))
    assert green["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "GONE", "value": "1"}]
    match_size(client, FENCE, hello.namespace, serving="hello-blue", other="hello-green")
    hello.wait_ready("hello-green", 2)
    hello.turn("hello-green")
    # And the one after it: blue is there, with a variable that green lost meanwhile.
    kubectl("-n", hello.namespace, "set", "env", "deployment/hello-green", "GONE-")
    assert hello.ensure("hello-green", image) == {"changed", "unchanged"}
    blue = client.get(hello.path("Deployment", "hello-blue"))
    assert not blue["spec"]["template"]["spec"]["containers"][0].get("env")
    assert blue["spec"]["replicas"] == 2
    assert hello.ensure("hello-green", image) == {"unchanged"}
    assert find_unused_copies(client, hello.namespace, "lab") == ()


def test_a_scale_carries_the_deployments_resource_version_and_a_later_holder_is_seen(
    hello: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, client = hello.path("Deployment", "hello"), hello.client
    stamp(client, path, FENCE)
    assert scale(client, FENCE, path, 1)
    assert not scale(client, FENCE, path, 1)
    merge = client.merge

    def slow(where: str, document: Document, **how: Any) -> Document:
        monkeypatch.setattr(client, "merge", merge)
        stamp(client, path, Fence("lab", "recovery-1", 2))
        return merge(where, document, **how)

    monkeypatch.setattr(client, "merge", slow)
    with pytest.raises(FencedError, match="recovery-1"):
        scale(client, FENCE, path, 3)
    assert client.get(path)["spec"]["replicas"] == 1


def test_a_deployment_of_that_name_that_somebody_made_is_left_as_it_is(
    hello: Workload, images: tuple[str, str]
) -> None:
    kubectl("-n", hello.namespace, "create", "deployment", "hello-blue", f"--image={images[0]}", "--replicas=0")
    before = hello.client.get(hello.path("Deployment", "hello-blue"))["metadata"]
    stamp(hello.client, hello.path("Deployment", "hello"), FENCE)
    with pytest.raises(PermanentError, match="somebody else made it"):
        ensure_side(
            hello.client,
            FENCE,
            hello.documents(hello.sides("hello"), images[1]),
            anchor=hello.path("Deployment", "hello"),
        )
    after = hello.client.get(hello.path("Deployment", "hello-blue"))["metadata"]
    assert (after.get("labels"), after["generation"]) == (before.get("labels"), before["generation"])
    assert "nightshift.dev/fence" not in after.get("annotations", {})
