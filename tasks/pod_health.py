"""Asking each ready Pod of a version for its health, through the API server's proxy (`get` on `pods/proxy`), which reaches Pods from wherever the worker runs."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from core.environment_gates import Gates
from core.errors import NightshiftError, TemporaryError
from core.gate_readings import PodSide
from core.metric_gate import Finding, Verdict, verdict_of
from core.pod_health import (
    Document,
    PodAnswer,
    answer_of,
    first_line,
    health_verdict,
    is_ready,
    lasting_pods,
    port_of,
    side_of,
)
from tasks.kubernetes_client import KubernetesClient

# A Pod that does not answer 200 is asked again after a moment: one request may be unlucky.
_TRIES, _PAUSE_SECONDS = 3, 1.0
# Pods come and go while they are asked: so often the list is read anew.
_ROUNDS = 3
# All Pods together; then the rest is "not asked in time".
_LONGEST_SECONDS = 120.0
# More of them say nothing new.
_ENOUGH_BAD = 3
Sleep = Callable[[float], None]


def find_side(client: KubernetesClient, namespace: str, selector: str) -> PodSide | None:
    """Given a label selector of one version's Pods, return them as check_metrics wants them; None when none is ready."""
    return side_of(client.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector))


def check_pods(
    client: KubernetesClient,
    gates: Gates,
    *,
    namespace: str,
    selector: str,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Sleep = time.sleep,
) -> Verdict:
    """Given a label selector of one version's Pods, ask each that is ready for /health and /ready, and return the verdict (core.pod_health.health_verdict).

    A Pod that vanished or is being deleted meanwhile is left out, and who came in its place is asked. Never raises for what it meets: that is "inconclusive".
    """
    pods: list[Document] = []
    answers: dict[str, list[PodAnswer]] = {}
    deadline = time.monotonic() + _LONGEST_SECONDS
    try:
        for _ in range(_ROUNDS):
            pods = lasting_pods(client.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector))
            uids = {pod["metadata"]["uid"] for pod in pods if is_ready(pod)}
            answers = {uid: given for uid, given in answers.items() if uid in uids}
            asked_before = set(answers)
            for pod in (pod for pod in pods if pod["metadata"]["uid"] in uids - asked_before):
                if _bad(answers) >= _ENOUGH_BAD or time.monotonic() > deadline:
                    break
                answers[pod["metadata"]["uid"]] = _ask(client, gates, namespace, pod, sleep)
            if not _bad(answers) or set(answers) == asked_before:
                break
    except NightshiftError as error:
        finding = Finding(gate="health", state="inconclusive", found=f"the Pods' health is not known: {error}")
        return verdict_of(clock(), [finding])
    given = [one for of_pod in answers.values() for one in of_pod]
    return health_verdict(clock(), pods, given, gates.health_path)


def _bad(answers: dict[str, list[PodAnswer]]) -> int:
    return sum(any(not one.good for one in of_pod) for of_pod in answers.values())


def _ask(client: KubernetesClient, gates: Gates, namespace: str, pod: Document, sleep: Sleep) -> list[PodAnswer]:
    name, port = pod["metadata"]["name"], port_of(pod, gates.port)
    given = []
    for path in dict.fromkeys((gates.health_path, gates.ready_path)):
        if not port:
            given.append(PodAnswer(pod=name, path=path, status=0, said="no port: set release.gates.port"))
            continue
        prefix = "https:" if gates.scheme == "https" else ""
        proxied = f"/api/v1/namespaces/{namespace}/pods/{prefix}{name}:{port}/proxy{path}"
        for tried in range(_TRIES):
            if tried:
                sleep(_PAUSE_SECONDS)
            answer = _once(client, proxied, name, path, gates.health_seconds)
            # Who let us wait once is not waited for again: the gate is measured again soon.
            if answer.good or answer.gone or answer.silent:
                break
        given.append(answer)
    return given


def _once(client: KubernetesClient, proxied: str, pod: str, path: str, seconds: int) -> PodAnswer:
    try:
        status, text = client.answer(proxied, seconds=seconds)
    except TemporaryError as error:
        return PodAnswer(pod=pod, path=path, status=0, said=first_line(error.found), silent=True)
    return answer_of(pod, path, status, text)
