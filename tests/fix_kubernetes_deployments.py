"""The Deployment and ReplicaSet controllers of the small Kubernetes API of the tests: one step of each at a time (the decisions: fix_kubernetes_rollout)."""

import copy
import secrets
import time
from typing import TYPE_CHECKING, Any

from tests.fix_kubernetes_objects import CONTROLLER
from tests.fix_kubernetes_pods import is_ready
from tests.fix_kubernetes_rollout import (
    HASH,
    find_condition,
    has_progressed,
    is_complete,
    next_sizes,
    status_of,
    template_hash,
    with_availability,
    with_condition,
    without_condition,
    without_hash,
)

if TYPE_CHECKING:
    from tests.fix_kubernetes_objects import Objects

Document = dict[str, Any]
APPS = "apps/v1"
REVISION = "deployment.kubernetes.io/revision"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED = {REVISION, DESIRED, MAXIMUM, "kubectl.kubernetes.io/last-applied-configuration"}


class Deployments:
    """Both controllers."""

    def __init__(self, api: "Objects", *, second: float) -> None:
        self._api, self._second = api, second
        # When a Deployment (uid) last progressed, by time.monotonic.
        self._progressed: dict[str, float] = {}

    def step(self) -> None:
        """Look at each Deployment and each ReplicaSet once."""
        for deployment in self._api.select(APPS, "deployments", "", {}):
            if "spec" in deployment:
                self._step(deployment)
        for replica_set in self._api.select(APPS, "replicasets", "", {}):
            if "spec" in replica_set:
                self._fill(replica_set)

    def _step(self, deployment: Document) -> None:
        spec = deployment["spec"]
        owned = [one for one in self._api.select(APPS, "replicasets", deployment["metadata"]["namespace"], {}) if _owned_by(one, deployment)]  # fmt: skip
        owned.sort(key=lambda one: int(one["metadata"]["annotations"].get(REVISION, 0)))
        new = next((one for one in owned if without_hash(one["spec"]["template"]) == spec["template"]), None)
        old = [one for one in owned if one is not new]
        conditions = (deployment.get("status") or {}).get("conditions", [])
        if spec.get("paused"):
            conditions = with_condition(
                conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused"
            )
            self._resize_after_scale(deployment, new, old)
            return self._tell(deployment, status_of(deployment, new, old), conditions)
        if (was := find_condition(conditions, "Progressing")) and was["reason"] == "DeploymentPaused":
            conditions = with_condition(conditions, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")  # fmt: skip
        if new is None:
            new = self._make(deployment, old)
            message = f'Created new replica set "{new["metadata"]["name"]}"'
            conditions = with_condition(conditions, "Progressing", "True", "NewReplicaSetCreated", message)
            self._progressed[deployment["metadata"]["uid"]] = time.monotonic()
        self._number(deployment, new, old)
        if not self._resize_after_scale(deployment, new, old):
            self._roll(deployment, new, old)
        status = status_of(deployment, new, old)
        return self._tell(deployment, status, self._progress(deployment, status, conditions, new, old))

    def _make(self, deployment: Document, old: list[Document]) -> Document:
        metadata, template = deployment["metadata"], copy.deepcopy(deployment["spec"]["template"])
        number = template_hash(template)
        template["metadata"].setdefault("labels", {})[HASH] = number
        labels = template["metadata"]["labels"]
        annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _NOT_COPIED}  # fmt: skip
        revision = max((int(one["metadata"]["annotations"][REVISION]) for one in old), default=0) + 1
        document = {
            "apiVersion": APPS,
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{metadata['name']}-{number}",
                "labels": labels,
                "annotations": {**annotations, REVISION: str(revision)},
                "ownerReferences": [owner_of(deployment)],
            },
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {**deployment["spec"]["selector"]["matchLabels"], HASH: number}},
                "template": template,
            },
        }
        return self._api.create(APPS, "replicasets", metadata["namespace"], document, manager=CONTROLLER)

    def _number(self, deployment: Document, new: Document, old: list[Document]) -> None:
        """The new ReplicaSet has the highest revision, also one that is taken up again; and the Deployment has its."""
        highest = max((int(one["metadata"]["annotations"][REVISION]) for one in old), default=0)
        revision = max(highest + 1, int(new["metadata"]["annotations"][REVISION]))
        self._annotate("replicasets", new, {REVISION: str(revision)})
        self._annotate("deployments", deployment, {REVISION: str(revision)})

    def _resize_after_scale(self, deployment: Document, new: Document | None, old: list[Document]) -> bool:
        """When the Deployment was scaled: the ReplicaSet that has all Pods follows; two that share them are left to the rollout."""
        wanted = deployment["spec"]["replicas"]
        active = [one for one in (*old, *([new] if new else [])) if one["spec"]["replicas"]]
        scaled = [one for one in active if int(one["metadata"]["annotations"].get(DESIRED, wanted)) != wanted]
        for one in scaled:
            self._annotate("replicasets", one, {DESIRED: str(wanted)})
        # At first none is active, and one that was scaled to zero comes back by its rollout.
        if scaled and len(active) == 1:
            self._resize(deployment, active[0], wanted)
            return True
        return False

    def _roll(self, deployment: Document, new: Document, old: list[Document]) -> None:
        spec = deployment["spec"]
        if spec["strategy"]["type"] == "Recreate":
            sizes = {one["metadata"]["name"]: 0 for one in old if one["spec"]["replicas"]}
            if not sizes and not any((one.get("status") or {}).get("replicas") for one in old):
                sizes = {new["metadata"]["name"]: spec["replicas"]}
        else:
            sizes = next_sizes(spec, new, [one for one in old if one["spec"]["replicas"]])
        for one in (new, *old):
            if one["metadata"]["name"] in sizes:
                self._resize(deployment, one, sizes[one["metadata"]["name"]])

    def _progress(
        self, deployment: Document, status: Document, conditions: list[Document], new: Document, old: list[Document]
    ) -> list[Document]:
        """The conditions with Progressing and ReplicaFailure (syncRolloutStatus)."""
        uid, name, before = deployment["metadata"]["uid"], new["metadata"]["name"], deployment.get("status") or {}
        current = find_condition(conditions, "Progressing") or {}
        done = status.get("replicas", 0) == status.get("updatedReplicas", 0) and current.get("reason") == "NewReplicaSetAvailable"  # fmt: skip
        since = self._progressed.setdefault(uid, time.monotonic())
        if not done and is_complete(deployment, status):
            message = f'ReplicaSet "{name}" has successfully progressed.'
            conditions = with_condition(conditions, "Progressing", "True", "NewReplicaSetAvailable", message)
        elif not done and has_progressed(before, status):
            message = f'ReplicaSet "{name}" is progressing.'
            # Its update time tells of progress, also at the same reason.
            renewed = [{**one, "reason": ""} if one is current else one for one in conditions]
            conditions = with_condition(renewed, "Progressing", "True", "ReplicaSetUpdated", message)
            self._progressed[uid] = time.monotonic()
        elif not done and _is_late(current, since + deployment["spec"]["progressDeadlineSeconds"] * self._second):
            message = f'ReplicaSet "{name}" has timed out progressing.'
            conditions = with_condition(conditions, "Progressing", "False", "ProgressDeadlineExceeded", message)
        failures = [one for each in (new, *old) for one in (each.get("status") or {}).get("conditions", ())]
        if failures:
            return with_condition(conditions, "ReplicaFailure", "True", failures[0]["reason"], failures[0]["message"])
        return without_condition(conditions, "ReplicaFailure")

    def _tell(self, deployment: Document, status: Document, conditions: list[Document]) -> None:
        metadata, gone = deployment["metadata"], dict.fromkeys(deployment.get("status") or {})
        told = {**gone, **status, "conditions": with_availability(conditions, deployment, status)}
        self._api.set_status(APPS, "deployments", metadata["namespace"], metadata["name"], **told)

    def _resize(self, deployment: Document, replica_set: Document, size: int) -> None:
        if replica_set["spec"]["replicas"] == size:
            return
        wanted = deployment["spec"]["replicas"]
        metadata = replica_set["metadata"]
        annotations = {DESIRED: str(wanted), MAXIMUM: str(wanted + 1)}
        patch = {"metadata": {"annotations": annotations}, "spec": {"replicas": size}}
        self._api.merge(APPS, "replicasets", metadata["namespace"], metadata["name"], patch, manager=CONTROLLER)

    def _annotate(self, plural: str, document: Document, annotations: dict[str, str]) -> None:
        metadata = document["metadata"]
        if not annotations.items() <= (metadata.get("annotations") or {}).items():
            patch = {"metadata": {"annotations": annotations}}
            # A Deployment's with its status: else it would count as a new generation.
            subresource = "status" if plural == "deployments" else ""
            self._api.merge(
                APPS,
                plural,
                metadata["namespace"],
                metadata["name"],
                patch,
                subresource=subresource,
                manager=CONTROLLER,
            )

    def _fill(self, replica_set: Document) -> None:
        """Make or remove Pods until a ReplicaSet has its number, and tell how they are."""
        namespace, wanted = replica_set["metadata"]["namespace"], replica_set["spec"]["replicas"]
        pods = [one for one in self._api.select("v1", "pods", namespace, {}) if _owned_by(one, replica_set)]
        failure = None
        for _ in range(wanted - len(pods)):
            failure = over_quota(self._api, namespace, replica_set["metadata"]["name"])
            if failure:
                break
            pods.append(self._api.create("v1", "pods", namespace, pod_of(replica_set), manager=CONTROLLER))
        # Those that serve nobody go first, then the newest.
        surplus = sorted(pods, key=lambda one: (is_ready(one), one["metadata"]["creationTimestamp"]))
        for pod in surplus[: max(len(pods) - wanted, 0)]:
            self._api.delete("v1", "pods", namespace, pod["metadata"]["name"], None)
            pods.remove(pod)
        ready = sum(is_ready(pod) for pod in pods)
        condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": failure}
        status = {
            "replicas": len(pods),
            "fullyLabeledReplicas": len(pods) or None,
            "readyReplicas": ready or None,
            "availableReplicas": ready or None,
            "observedGeneration": replica_set["metadata"]["generation"],
            "conditions": [condition] if failure else None,
        }
        self._api.set_status(APPS, "replicasets", namespace, replica_set["metadata"]["name"], **status)


def owner_of(document: Document) -> Document:
    """A reference to the controller of what it makes."""
    metadata = document["metadata"]
    reference = {"apiVersion": document["apiVersion"], "kind": document["kind"], "name": metadata["name"]}
    return {**reference, "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}


def pod_of(owner: Document) -> Document:
    """A Pod of a ReplicaSet's or Job's template."""
    template = copy.deepcopy(owner["spec"]["template"])
    name = f"{owner['metadata']['name']}-{secrets.token_hex(3)[:5]}"
    metadata = {**template.get("metadata", {}), "name": name, "ownerReferences": [owner_of(owner)]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def over_quota(api: "Objects", namespace: str, name: str) -> str | None:
    """Why one more Pod is refused, in the API server's words; None: it is not."""
    used = len(api.select("v1", "pods", namespace, {}))
    for quota in api.select("v1", "resourcequotas", namespace, {}):
        hard = quota["spec"]["hard"].get("pods")
        if hard is not None and used >= int(hard):
            limits = f"exceeded quota: {quota['metadata']['name']}, requested: pods=1, used: pods={used}, limited: pods={hard}"
            return f'pods "{name}-" is forbidden: {limits}'
    return None


def _is_late(progressing: Document, until: float) -> bool:
    """Whether no progress was made until then (DeploymentTimedOut): what ended well is not late, though the next rollout begins long after."""
    return progressing.get("reason") != "NewReplicaSetAvailable" and time.monotonic() > until


def _owned_by(document: Document, owner: Document) -> bool:
    return any(each["uid"] == owner["metadata"]["uid"] for each in document["metadata"].get("ownerReferences") or ())
