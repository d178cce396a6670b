"""Waiting for the end of a migration's Job: its Pods are watched, its log is passed on line by line, and what cannot start is ended with the cause."""

import time
from collections.abc import Callable
from typing import Any

from core.errors import NightshiftError, PermanentError, TemporaryError
from core.migration_end import JobEnd, finished, hopeless, is_lock_timeout, job_end, migrating_container, waiting_for
from core.redaction import redact_output
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.kubernetes_watch import NotInTimeError, wait_for_object
from tasks.migration_job import end_job, events_of, pods_of
from tasks.pod_log import LogPosition, log_lines

Document = dict[str, Any]

# After a silence of so long, Job, Pod and lease are looked at.
SILENCE_SECONDS = 20.0
# For so long a trouble that may pass is looked at before the Job is ended for it: a kubelet tries again after 10 to 20 s.
PATIENCE_SECONDS = 30.0
# A Pod that is ended has 30 s (terminationGracePeriodSeconds) and the kubelet's own time.
SETTLE_SECONDS = 90.0
_PAUSE_SECONDS = 0.5


def wait_for_job(
    client: KubernetesClient,
    namespace: str,
    name: str,
    *,
    seconds: float,
    on_line: Callable[[str], None],
    still_ours: Callable[[], None],
    start_seconds: float = 300.0,
) -> JobEnd:
    """Given a Job that was made, return how it ended. Each line of the migration's log is given to `on_line` once, without secrets.

    A Pod that cannot start (30 s where a next try of the kubelet's may help), does not within `start_seconds`, or is made a second time, has its Job ended, and the
    cause is the end's reason. `still_ours` is called at least each 20 s, and ends the waiting by raising. Raise TemporaryError when the Job did not end in so many
    seconds, or the API server stays away as long.
    """
    return _Wait(client, namespace, name, on_line, still_ours).until_the_end(seconds, start_seconds)


class _Wait:
    """What was seen of one Job so far."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        name: str,
        on_line: Callable[[str], None],
        still_ours: Callable[[], None],
    ) -> None:
        self._client, self._namespace, self._name = client, namespace, name
        self._on_line, self._still_ours = on_line, still_ours
        self._pods: dict[str, Document] = {}
        self._position = LogPosition()
        self._lock_timeout, self._cause, self._asked_at = False, "", 0.0
        self._troubled_since: float | None = None

    def until_the_end(self, seconds: float, start_seconds: float) -> JobEnd:
        begun, told = time.monotonic(), ""
        while time.monotonic() - begun < seconds:
            self._ask()
            try:
                end = self._look(late=time.monotonic() - begun > start_seconds)
            except TemporaryError as error:
                # The API server is away; the Job goes on without us.
                told = error.found
                time.sleep(_PAUSE_SECONDS)
                continue
            if end is not None:
                return end
        found = f"it did not end within {seconds:.0f} s{f': {told}' if told else ''}"
        raise TemporaryError(
            "wait for the migration's Job", self._name, found, "Look at the Job; whether it still runs is not known"
        )

    def _look(self, *, late: bool) -> JobEnd | None:
        try:
            job = self._client.get(find_kind(self._client, "Job").path(self._namespace, self._name))
        except MissingError:
            return JobEnd(state="gone", lock_timeout=self._lock_timeout, pods=len(self._pods))
        now = self._list()
        if finished(job):
            self._settle()
            return job_end(job, self._seen(), lock_timeout=self._lock_timeout, cause=self._cause)
        states = [migrating_container(pod)[1] for pod in now]
        if not self._cause:
            self._end_if_lost(now, states, late=late)
        if "running" in states and not self._cause:
            self._follow(now[states.index("running")])
        elif self._cause or (states and all(state == "terminated" for state in states)):
            self._await_the_job()
        else:
            self._watch(
                lambda pods: any(migrating_container(pod)[1] != "waiting" for pod in pods) or bool(hopeless(pods))
            )
        return None

    def _end_if_lost(self, pods: list[Document], states: list[str], *, late: bool) -> None:
        cause = hopeless(pods, stood=self._stood(pods))
        if not cause and len(self._pods) > 1:
            cause = "a second Pod was made, since the first was removed: a migration is not run twice"
        if not cause and late and "running" not in states and "terminated" not in states:
            cause = waiting_for(pods, events_of(self._client, self._namespace, self._name))
        if cause:
            self._ask()
            self._cause = cause
            end_job(self._client, self._namespace, self._name)

    def _stood(self, pods: list[Document]) -> bool:
        """Whether a trouble that may pass has stood for long without a break."""
        if not hopeless(pods, stood=True):
            self._troubled_since = None
            return False
        now = time.monotonic()
        self._troubled_since = self._troubled_since or now
        return now - self._troubled_since >= PATIENCE_SECONDS

    def _ask(self) -> None:
        self._asked_at = time.monotonic()
        self._still_ours()

    def _list(self) -> list[Document]:
        pods = pods_of(self._client, self._namespace, self._name)
        self._pods |= {pod["metadata"]["name"]: pod for pod in pods}
        return pods

    def _seen(self) -> list[Document]:
        return sorted(self._pods.values(), key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))

    def _follow(self, pod: Document, *, follow: bool = True) -> None:
        begun = time.monotonic()
        container = migrating_container(pod)[0]
        try:
            for line in log_lines(
                self._client,
                self._namespace,
                pod["metadata"]["name"],
                container,
                self._position,
                follow=follow,
                seconds=SILENCE_SECONDS,
            ):
                self._lock_timeout = self._lock_timeout or is_lock_timeout(line)
                self._on_line(redact_output(line))
                if time.monotonic() - self._asked_at > SILENCE_SECONDS:
                    self._ask()
        except (TemporaryError, MissingError):
            # Broken, silent, or gone: what is there now is seen next.
            pass
        except PermanentError as error:
            # Not readable yet (400: the container is not started), or not by us: the migration goes on unread.
            if not error.found.startswith("400"):
                self._tell(error)
        if follow and time.monotonic() - begun < _PAUSE_SECONDS:
            time.sleep(_PAUSE_SECONDS)

    def _tell(self, error: NightshiftError) -> None:
        if not self._position.refused:
            self._position.refused = True
            self._on_line(f"the log cannot be read: {error.found}")
        time.sleep(SILENCE_SECONDS / 4)

    def _await_the_job(self) -> None:
        jobs = find_kind(self._client, "Job").path(self._namespace)
        try:
            wait_for_object(
                self._client, jobs, self._name, lambda job: job is None or bool(finished(job)), seconds=SILENCE_SECONDS
            )
        except NotInTimeError:
            return

    def _settle(self) -> None:
        """Wait until no container of the Job's Pods runs any more, and read what is left of their log."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while any(_alive(pod) for pod in self._list()) and time.monotonic() < deadline:
            self._ask()
            self._watch(lambda pods: not any(_alive(pod) for pod in pods))
        for pod in self._list():
            self._follow(pod, follow=False)

    def _watch(self, enough: Callable[[list[Document]], bool]) -> None:
        """Follow the Job's Pods until it is enough, or for a while. Their last states are kept, of those that are removed meanwhile too."""
        path, chosen = find_kind(self._client, "Pod").path(self._namespace), {"labelSelector": f"job-name={self._name}"}
        listed = self._client.get(path, **chosen)
        current = {pod["metadata"]["name"]: pod for pod in listed.get("items") or ()}
        self._pods |= current
        if enough(list(current.values())):
            return
        version = str(listed["metadata"].get("resourceVersion") or "")
        for pod in self._client.watch(path, version, seconds=SILENCE_SECONDS, **chosen):
            name = pod["metadata"]["name"]
            if pod.pop("deleted", False):
                current.pop(name, None)
            else:
                current[name] = pod
            self._pods[name] = pod
            if enough(list(current.values())):
                return


def _alive(pod: Document) -> bool:
    status = pod.get("status") or {}
    if status.get("phase") in {"Succeeded", "Failed"}:
        return False
    statuses = status.get("containerStatuses") or ()
    # A Pod that never ran has none; one that is being removed may still start until its kubelet has heard of it.
    return not statuses or any("terminated" not in (one.get("state") or {}) for one in statuses)
