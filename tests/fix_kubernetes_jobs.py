"""The Job controller of the small Kubernetes API of the tests: one Pod a try, which ends as the test says."""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fix_kubernetes_deployments import over_quota, pod_of
from tests.fix_kubernetes_objects import CONTROLLER, ApiError, now

if TYPE_CHECKING:
    from tests.fix_kubernetes import KubernetesApi

Document = dict[str, Any]
BATCH = "batch/v1"


@dataclass(frozen=True)
class JobDone:
    """How a Job's work ended, with the termination message that its first container leaves."""

    good: bool
    said: str = ""


# Given the Job and a function that logs a line, do the Job's work; return whether it succeeded. It runs in a thread of its own; a killed Job's result is not looked at.
Work = Callable[[Document, Callable[[str], None]], bool | JobDone]


@dataclass
class _Scripted:
    part: str
    work: Work


class Jobs:
    """Starts the Pods of Jobs, follows them, and writes the Jobs' conditions as Kubernetes 1.20 does (pkg/controller/job/job_controller.go)."""

    def __init__(self, api: "KubernetesApi", *, second: float) -> None:
        self._api, self._second = api, second
        self._scripted: list[_Scripted] = []
        self._held = threading.Event()
        self._held.set()
        self._started: dict[str, float] = {}

    def script(self, part: str, work: Work) -> None:
        """Say what a Job does whose image's name contains this; the last word counts. Without any it succeeds at once."""
        self._scripted.insert(0, _Scripted(part, work))

    def hold(self) -> None:
        """Let Jobs that are started from now on run until `release`."""
        self._held.clear()

    def release(self) -> None:
        """Let all Jobs that are held do their work."""
        self._held.set()

    def step(self) -> None:
        """Look at each Job once."""
        for job in self._api.select(BATCH, "jobs", "", {}):
            self._step(job)

    def _step(self, job: Document) -> None:
        status, spec = job.get("status") or {}, job["spec"]
        if status.get("conditions"):
            return
        uid, namespace = job["metadata"]["uid"], job["metadata"]["namespace"]
        pods = [one for one in self._api.select("v1", "pods", namespace, {}) if _is_of(one, uid)]
        phases = [(pod.get("status") or {}).get("phase") for pod in pods]
        failed, succeeded = phases.count("Failed"), phases.count("Succeeded")
        active = len(pods) - failed - succeeded
        since = self._started.setdefault(uid, time.monotonic())
        deadline = spec.get("activeDeadlineSeconds")
        ended: dict[str, Any] = {}
        if succeeded >= spec["completions"]:
            ended = {"conditions": [_condition("Complete")], "completionTime": now()}
        elif failed > spec["backoffLimit"]:
            message = "Job has reached the specified backoff limit"
            ended = {"conditions": [_condition("Failed", "BackoffLimitExceeded", message)]}
        elif deadline is not None and time.monotonic() > since + deadline * self._second:
            message = "Job was active longer than specified deadline"
            ended = {"conditions": [_condition("Failed", "DeadlineExceeded", message)]}
            self._end(pods)
            failed, active = failed + active, 0
        elif (
            spec.get("parallelism", 1)
            and active + succeeded < spec["completions"]
            and not over_quota(self._api, namespace, job["metadata"]["name"])
        ):
            active += self._start(job)
        numbers = {"active": active or None, "failed": failed or None, "succeeded": succeeded or None}
        start = status.get("startTime") or now()
        self._tell(job, startTime=start, **numbers, **ended)

    def _start(self, job: Document) -> int:
        document, uid, name = pod_of(job), job["metadata"]["uid"], job["metadata"]["name"]
        labels = {**(document["metadata"].get("labels") or {}), "job-name": name, "controller-uid": uid}
        document["metadata"]["labels"] = labels
        pod = self._api.create("v1", "pods", job["metadata"]["namespace"], document, manager=CONTROLLER)
        images = [container["image"] for container in pod["spec"]["containers"]]
        work = next((one.work for one in self._scripted if any(one.part in image for image in images)), None)
        threading.Thread(target=self._run, args=(job, pod, work), daemon=True).start()
        return 1

    def _run(self, job: Document, pod: Document, work: Work | None) -> None:
        metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]

        def log(line: str) -> None:
            with self._api.changed:
                before = self._api.logs.get((metadata["namespace"], metadata["name"]), "")
                self._api.set_log(metadata["namespace"], metadata["name"], f"{before}{line}\n")

        def tell(phase: str, state: Document) -> None:
            statuses = [{"name": container, "ready": phase == "Running", "restartCount": 0, "state": state}]
            # A Pod that was removed meanwhile, and one that its Job's deadline ended, are past telling.
            with contextlib.suppress(ApiError), self._api.changed:
                there = self._api.read("v1", "pods", metadata["namespace"], metadata["name"])
                if (there.get("status") or {}).get("phase") not in {"Failed", "Succeeded"}:
                    self._api.set_status("v1", "pods", metadata["namespace"], metadata["name"], phase=phase, containerStatuses=statuses)  # fmt: skip

        tell("Running", {"running": {"startedAt": now()}})
        self._held.wait()
        done = work(job, log) if work else True
        good, said = (done.good, done.said) if isinstance(done, JobDone) else (done, "")
        reason = "Completed" if good else "Error"
        ended = {
            "exitCode": 0 if good else 1,
            "reason": reason,
            "finishedAt": now(),
            **({"message": said} if said else {}),
        }
        tell("Succeeded" if good else "Failed", {"terminated": ended})

    def _end(self, pods: list[Document]) -> None:
        for pod in pods:
            self._api.delete("v1", "pods", pod["metadata"]["namespace"], pod["metadata"]["name"], None)

    def _tell(self, job: Document, **status: Any) -> None:
        self._api.set_status(BATCH, "jobs", job["metadata"]["namespace"], job["metadata"]["name"], **status)


def _condition(kind: str, reason: str = "", message: str = "") -> Document:
    words = {key: value for key, value in (("reason", reason), ("message", message)) if value}
    return {"type": kind, "status": "True", "lastProbeTime": now(), "lastTransitionTime": now(), **words}


def _is_of(pod: Document, uid: str) -> bool:
    return any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ())
