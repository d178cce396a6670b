"""The Pod of a drill in its cluster: made with its Secret and its NetworkPolicy, marked while it is in use, removed in any case, and swept when its drill was killed."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from core.environment import Environment
from core.environment_restore import ScratchPod
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.fence import Document
from core.scratch_pod import (
    SEEN_ANNOTATION,
    PodOrder,
    failure_of,
    is_ready,
    pod_document,
    policy_document,
    secret_document,
    waiting_for,
)
from core.velero import RUN_LABEL, is_made_by
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_watch import NotInTimeError, wait_for_object

logger = logging.getLogger(__name__)

ROLE_LABEL, ROLE = "app.kubernetes.io/component", "scratch-server"
_SEEN_SECONDS = 30.0
# A drill whose Pod was not marked for so long was killed: the marks come every half minute, and an API server may be away for a while.
_DEAD_AFTER = timedelta(minutes=5)
_GONE_SECONDS = 60.0
_REPORT_SECONDS = 10.0


@contextmanager
def drill_pod(order: PodOrder, environment: str) -> Iterator[None]:
    """Make the Pod of an environment's drill, wait until its PostgreSQL listens, and remove Pod, Secret and NetworkPolicy after the block in any case.

    Raise PermanentError with the cause in one sentence when the Pod does not come (its image, no node, a quota, not ready in time), or ends within the block.
    """

    def mine(found: Document) -> bool:
        return is_made_by(found, environment, order.labels[RUN_LABEL])

    _remove_all(order.choice, mine)
    try:
        with _beating(order):
            with KubernetesClient.open(order.choice.context) as client:
                _create(client, order)
                _wait_until_ready(client, order)
            with _told_when_it_ended(order):
                yield
    finally:
        _remove_all(order.choice, mine, wait=True)


def sweep_pods(environment: Environment, *, now: datetime | None = None) -> tuple[str, ...]:
    """Remove the Pods, Secrets and NetworkPolicies that killed drills of this environment left, and return what was removed, a sentence each.

    A drill marks its Pod every half minute; one that was not marked for five minutes is nobody's. Secrets and policies go by the Pod of their run, or their age.
    """
    moment = now or datetime.now(UTC)
    choice = environment.drill.pod
    with KubernetesClient.open(choice.context) as client:
        pods = [
            pod
            for pod in client.list(_paths(choice)["Pod"], metadata_only=True)
            if is_made_by(pod, environment.name) and _is_scratch(pod)
        ]
    alive = {pod["metadata"]["labels"][RUN_LABEL] for pod in pods if moment - _last_seen(pod) < _DEAD_AFTER}

    def is_left(found: Document) -> bool:
        run = (found["metadata"].get("labels") or {}).get(RUN_LABEL)
        # A Secret is made before its Pod.
        return is_made_by(found, environment.name) and run not in alive and moment - _last_seen(found) >= _DEAD_AFTER

    return tuple(f"removed the {what} of a killed drill" for what in _remove_all(choice, is_left))


def _paths(choice: ScratchPod) -> dict[str, str]:
    """The collections that a scratch server needs, in the order in which its parts are made."""
    return {
        "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{choice.namespace}/networkpolicies",
        "Secret": f"/api/v1/namespaces/{choice.namespace}/secrets",
        "Pod": f"/api/v1/namespaces/{choice.namespace}/pods",
    }


def _create(client: KubernetesClient, order: PodOrder) -> None:
    paths = _paths(order.choice)
    documents = {
        "NetworkPolicy": policy_document(order),
        "Secret": secret_document(order),
        "Pod": pod_document(order, datetime.now(UTC).isoformat()),
    }
    for kind, document in documents.items():
        try:
            client.create(paths[kind], document)
        except MissingError as error:
            raise ConfigurationError(
                f"make the scratch server's {kind}",
                f"namespace {order.namespace}",
                error.found,
                "Make the namespace, or correct drill.pod.namespace",
            ) from error
        except ExistsError:
            raise
        except PermanentError as error:
            quota = "exceeded quota" in error.found
            raise PermanentError(
                f"make the scratch server's {kind}",
                f"namespace {order.namespace}",
                error.found,
                "Raise the namespace's quota, or lower drill.pod.memory, cpu and disk" if quota else error.next_step,
            ) from error


def _wait_until_ready(client: KubernetesClient, order: PodOrder) -> None:
    def finished(pod: Document | None) -> bool:
        return pod is None or is_ready(pod) or failure_of(pod) is not None

    seconds = order.choice.start_seconds
    try:
        pod = wait_for_object(client, _paths(order.choice)["Pod"], order.name, finished, seconds=seconds)
    except NotInTimeError as error:
        found = f"not ready after {seconds} s: {error.error or waiting_for(error.last)}"
        raise _not_started(order, found) from error
    failure = waiting_for(None) if pod is None else failure_of(pod)
    if failure:
        raise _not_started(order, failure)
    # The server has read it; nobody else needs it in the cluster.
    _remove(client, _paths(order.choice)["Secret"], lambda found: found["metadata"]["name"] == order.name)


def _not_started(order: PodOrder, found: str) -> PermanentError:
    return PermanentError(
        "start the scratch Pod",
        f"{order.namespace}/{order.name}, image {order.choice.image}",
        found,
        "Correct drill.pod (image, memory, cpu, disk, start_seconds), or see the namespace's events",
    )


@contextmanager
def _beating(order: PodOrder) -> Iterator[None]:
    """Mark the Pod as in use every half minute within the block."""
    done = threading.Event()
    path = f"{_paths(order.choice)['Pod']}/{order.name}"

    def beat() -> None:
        while not done.wait(_SEEN_SECONDS):
            seen = {"metadata": {"annotations": {SEEN_ANNOTATION: datetime.now(UTC).isoformat()}}}
            try:
                # A client for each mark: credentials last minutes.
                with KubernetesClient.open(order.choice.context) as client:
                    client.merge(path, seen)
            except NightshiftError as error:
                logger.warning("could not mark the scratch Pod as in use: %s", error)

    thread = threading.Thread(target=beat, name="scratch-pod-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _told_when_it_ended(order: PodOrder) -> Iterator[None]:
    """Within the block an error that comes of the Pod's own end (evicted, out of memory) says that, not that a connection was lost."""
    try:
        yield
    except (NightshiftError, psycopg.Error) as error:
        # A lost connection comes before the kubelet's report of why.
        lost = isinstance(error, TemporaryError | psycopg.OperationalError)
        found = _how_it_ended(order, _REPORT_SECONDS if lost else 0.1)
        if found is None:
            raise
        on = f"{order.namespace}/{order.name}"
        raise PermanentError("keep the scratch Pod", on, found, "Raise drill.pod.memory or disk") from error


def _how_it_ended(order: PodOrder, seconds: float) -> str | None:
    """Why the Pod ended, when it does within so many seconds; None when it lives or the API server does not say."""

    def ended(pod: Document | None) -> bool:
        return pod is None or failure_of(pod) is not None

    try:
        with KubernetesClient.open(order.choice.context) as client:
            pod = wait_for_object(client, _paths(order.choice)["Pod"], order.name, ended, seconds=seconds)
    except (NightshiftError, NotInTimeError):
        return None
    return waiting_for(None) if pod is None else failure_of(pod)


def _remove_all(choice: ScratchPod, mine: Callable[[Document], bool], *, wait: bool = False) -> list[str]:
    """Remove what the predicate takes for ours, the Pod first, and return what was removed. An API server that is away is told of in the log: a later drill sweeps."""
    removed: list[str] = []
    pods: list[str] = []
    paths = _paths(choice)
    try:
        with KubernetesClient.open(choice.context) as client:
            for kind in ("Pod", "Secret", "NetworkPolicy"):
                if wait and kind == "NetworkPolicy":
                    # A Pod that is still there keeps it: what runs in it must not get at the network at the end. The Secret goes in any case.
                    for name in pods:
                        wait_for_object(client, paths["Pod"], name, lambda pod: pod is None, seconds=_GONE_SECONDS)
                names = _remove(client, paths[kind], lambda found: _is_scratch(found) and mine(found))
                removed += [f"{kind} {choice.namespace}/{name}" for name in names]
                pods = names if kind == "Pod" else pods
    except (NightshiftError, NotInTimeError) as error:
        logger.warning("could not remove all of the scratch server's parts: %s", error)
    return removed


def _remove(client: KubernetesClient, path: str, mine: Callable[[Document], bool]) -> list[str]:
    names = []
    for found in list(client.list(path, metadata_only=True)):
        if mine(found):
            name = found["metadata"]["name"]
            with suppress(MissingError, ExistsError):
                client.delete(f"{path}/{name}", uid=found["metadata"]["uid"])
                names.append(name)
    return names


def _is_scratch(found: Document) -> bool:
    return (found["metadata"].get("labels") or {}).get(ROLE_LABEL) == ROLE


def _last_seen(found: Document) -> datetime:
    """When a drill was last known to use it: its mark, else when it was made."""
    metadata: dict[str, Any] = found["metadata"]
    text = (metadata.get("annotations") or {}).get(SEEN_ANNOTATION) or metadata["creationTimestamp"]
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(metadata["creationTimestamp"])
