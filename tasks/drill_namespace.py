"""The scratch namespace of a rehearsal: made by us, kept from starting anything, and removed by us, never one that is somebody else's.

A copy of a production namespace that ran would do production's work a second time: write to its database, send its mails. So before anything is restored
a ResourceQuota forbids every Pod, volume claim and load balancer in it, and we wait until the API server enforces it.
"""

import logging
from datetime import datetime, timedelta

from core.environment_restore import AppState
from core.errors import PermanentError
from core.velero import REHEARSES, RUN_LABEL, Document, is_made_by, owner_labels
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_watch import NotInTimeError, wait_for_object

logger = logging.getLogger(__name__)

NAMESPACES = "/api/v1/namespaces"
QUOTA = "nightshift-nothing-starts-here"
QUOTA_HARD = {"pods": "0", "persistentvolumeclaims": "0", "services.loadbalancers": "0"}
QUOTA_SECONDS = 60.0
REMOVAL_SECONDS = 300.0


def holds_copy(client: KubernetesClient, settings: AppState, environment: str, run_id: str, namespace: str) -> bool:
    """Whether the scratch namespace is there, made by this run for the copy of this namespace: a run that was killed can go on with it."""
    there = _read(client, settings.drill_namespace)
    if there is None or not is_made_by(there, environment, run_id) or there["metadata"].get("deletionTimestamp"):
        return False
    return (there["metadata"].get("annotations") or {}).get(REHEARSES) == namespace


def make_namespace(
    client: KubernetesClient, settings: AppState, environment: str, run_id: str, *, namespace: str, now: datetime
) -> None:
    """Make the scratch namespace for the copy of a namespace: empty, and nothing can start in it. What a killed run of this environment left is removed first.

    Raise PermanentError when a namespace of this name is somebody else's, or a rehearsal's that may still go on.
    """
    name = settings.drill_namespace
    there = _read(client, name)
    if there is not None:
        _refuse_strangers(there, settings, environment, run_id, now)
        remove_namespace(client, settings, environment, there["metadata"]["labels"][RUN_LABEL])
    labels = owner_labels(environment, run_id)
    metadata = {"name": name, "labels": labels, "annotations": {REHEARSES: namespace}}
    try:
        client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    except ExistsError as error:
        raise _not_ours(settings, "somebody made it in this moment") from error
    _forbid_starting(client, name, labels)


def remove_namespace(
    client: KubernetesClient, settings: AppState, environment: str, run_id: str, *, seconds: float = REMOVAL_SECONDS
) -> bool:
    """Remove the scratch namespace if a run of this environment made it, and wait until it is gone. Return whether there was one to remove.

    Raise PermanentError when it does not go in time, with what the API server says keeps it.
    """
    name = settings.drill_namespace
    there = _read(client, name)
    if there is None or not is_made_by(there, environment, run_id):
        return False
    try:
        # Only this very one: should somebody make another of this name meanwhile, its uid differs.
        client.delete(f"{NAMESPACES}/{name}", uid=there["metadata"]["uid"])
    except (MissingError, ExistsError):
        logger.info("the scratch namespace %s is being removed already", name)
    uid = there["metadata"]["uid"]
    try:
        wait_for_object(
            client,
            NAMESPACES,
            name,
            lambda document: document is None or document["metadata"]["uid"] != uid,
            seconds=seconds,
        )
    except NotInTimeError as error:
        raise PermanentError(
            "remove the scratch namespace",
            name,
            f"it is still there after {seconds:.0f} s: {_what_keeps_it(error.last)}",
            f"Look at its conditions and finalizers: kubectl get namespace {name} -o yaml; the next rehearsal removes it when it can be",
        ) from error
    return True


def _refuse_strangers(there: Document, settings: AppState, environment: str, run_id: str, now: datetime) -> None:
    """Raise PermanentError unless the namespace may be removed: this run made it, or a run of this environment so long ago that it cannot go on."""
    if is_made_by(there, environment, run_id):
        return
    if not is_made_by(there, environment):
        raise _not_ours(settings, "it exists and is not made by a rehearsal of this environment")
    # What a rehearsal of one namespace may take: its quota, its Restore, its removal.
    age = now - _created(there)
    longest = timedelta(minutes=settings.timeout_minutes) + timedelta(seconds=REMOVAL_SECONDS + QUOTA_SECONDS)
    if age < longest:
        other = there["metadata"]["labels"][RUN_LABEL]
        raise _not_ours(settings, f"the rehearsal of run {other} made it and may still go on")
    logger.warning("removing the scratch namespace that run %s left", there["metadata"]["labels"][RUN_LABEL])


def _not_ours(settings: AppState, found: str) -> PermanentError:
    return PermanentError(
        "make the scratch namespace",
        settings.drill_namespace,
        found,
        f"Set app_state.drill_namespace to a name that is free, or remove it yourself: kubectl delete namespace {settings.drill_namespace}",
    )


def _forbid_starting(client: KubernetesClient, namespace: str, labels: dict[str, str]) -> None:
    quotas = f"{NAMESPACES}/{namespace}/resourcequotas"
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": QUOTA, "namespace": namespace, "labels": labels},
        "spec": {"hard": QUOTA_HARD},
    }
    try:
        client.create(quotas, quota)
    except ExistsError:
        logger.info("the quota of %s is there already", namespace)
    try:
        wait_for_object(client, quotas, QUOTA, _enforced, seconds=QUOTA_SECONDS)
    except NotInTimeError as error:
        raise PermanentError(
            "keep the scratch namespace from starting anything",
            f"{namespace}/{QUOTA}",
            f"its quota is not enforced after {QUOTA_SECONDS:.0f} s",
            "Nothing was restored. Is the ResourceQuota admission on, and does the controller manager run?",
        ) from error


def _enforced(quota: Document | None) -> bool:
    return quota is not None and (quota.get("status") or {}).get("hard", {}).get("pods") == QUOTA_HARD["pods"]


def _read(client: KubernetesClient, name: str) -> Document | None:
    try:
        return client.get(f"{NAMESPACES}/{name}")
    except MissingError:
        return None


def _created(document: Document) -> datetime:
    return datetime.fromisoformat(document["metadata"]["creationTimestamp"])


def _what_keeps_it(namespace: Document | None) -> str:
    conditions = ((namespace or {}).get("status") or {}).get("conditions") or ()
    said = [condition.get("message", "") for condition in conditions if condition.get("status") == "True"]
    return "; ".join(said) or "the API server does not say why"
