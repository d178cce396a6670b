"""The migration's Job on the API server: made once, found again, watched to its end, ended when it cannot start."""

import threading
from collections.abc import Callable, Iterator

import pytest

from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.fence import Document, FencedError
from core.migration_end import JobEnd
from core.migration_job import MigrationOrder, job_document
from core.redaction import register_secret
from tasks import migration_wait
from tasks.kubernetes_client import KubernetesClient
from tasks.migration_job import look_at_job, read_template, start_job
from tasks.migration_wait import wait_for_job
from tests.fix_kubernetes import KubernetesApi
from tests.fix_migration import RUNNING, WAITING, PlayedJob, settings
from tests.waiting import wait_until

BACK_OFF = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}


def order(release: str = "r1", attempt: int = 1, image: str = "registry.example.com/migrate@sha256:1") -> Document:
    return job_document(
        MigrationOrder(
            release=release,
            environment="lab",
            namespace="default",
            attempt=attempt,
            image=image,
            lock_timeout_ms=500,
            settings=settings(),
        )
    )


@pytest.fixture
def client(kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesClient]:
    monkeypatch.setattr(migration_wait, "SETTLE_SECONDS", 5.0)
    monkeypatch.setattr(migration_wait, "SILENCE_SECONDS", 1.0)
    with KubernetesClient.open(None) as opened:
        yield opened


class Waiter:
    """Waits for a Job in a thread."""

    def __init__(
        self,
        name: str,
        *,
        seconds: float = 20,
        start_seconds: float = 20,
        still_ours: Callable[[], None] = lambda: None,
    ) -> None:
        self.lines: list[str] = []
        self.end: JobEnd | None = None
        self.error: NightshiftError | None = None

        def wait() -> None:
            try:
                with KubernetesClient.open(None) as client:
                    self.end = wait_for_job(
                        client,
                        "default",
                        name,
                        seconds=seconds,
                        on_line=self.lines.append,
                        still_ours=still_ours,
                        start_seconds=start_seconds,
                    )
            except NightshiftError as error:
                self.error = error

        self.thread = threading.Thread(target=wait, daemon=True)
        self.thread.start()

    def result(self) -> JobEnd:
        self.thread.join(30)
        assert self.error is None, self.error
        assert self.end is not None, "it still waits"
        return self.end


def played(kubernetes: KubernetesApi, client: KubernetesClient, document: Document | None = None) -> PlayedJob:
    document = document or order()
    start_job(client, "default", document)
    return PlayedJob(kubernetes, document)


def test_a_job_is_made_once_and_found_again(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    first, second = start_job(client, "default", order()), start_job(client, "default", order())
    assert first["metadata"]["uid"] == second["metadata"]["uid"]
    assert kubernetes.count("POST", "/jobs") == 1


def test_a_job_whose_answer_was_lost_is_found(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.fail("POST", "/jobs", 0, after=True)
    assert start_job(client, "default", order())["metadata"]["name"] == "nightshift-migrate-r1-1"
    assert kubernetes.count("POST", "/jobs") == 1


def test_a_job_that_may_come_about_still_is_nobodys_success(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.fail("POST", "/jobs", 0)
    with pytest.raises(TemporaryError, match="whether it happened is not known"):
        start_job(client, "default", order())


def test_a_job_of_another_document_or_release_is_refused(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    start_job(client, "default", order())
    with pytest.raises(PermanentError, match="from another document"):
        start_job(client, "default", order(image="registry.example.com/migrate@sha256:2"))
    foreign = order("r2")
    foreign["metadata"]["annotations"]["nightshift.dev/release"] = "someone"
    kubernetes.put(foreign)
    with pytest.raises(PermanentError, match=r"is not this release's \(release: someone\)"):
        start_job(client, "default", order("r2"))
    with pytest.raises(PermanentError, match="is not this release's"):
        look_at_job(client, "default", "r2", 1)


def test_whoever_comes_later_sees_whether_it_was_made_runs_or_ended(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    assert look_at_job(client, "default", "r1", 1).state == "never created"
    job = played(kubernetes, client)
    assert look_at_job(client, "default", "r1", 1).state == "running"
    job.make_pod(migrate=BACK_OFF, lock=RUNNING)
    assert "image cannot be pulled" in look_at_job(client, "default", "r1", 1).waiting
    job.end("Failed", code=3, said="started=yes\ncode=3")
    look = look_at_job(client, "default", "r1", 1)
    assert look.end is not None
    assert (look.state, look.end.state, look.end.exit_code, look.end.started) == ("ended", "failed", 3, True)
    uid = kubernetes.read("batch/v1", "jobs", "default", job.name)["metadata"]["uid"]
    client.delete(f"/apis/batch/v1/namespaces/default/jobs/{job.name}", uid=uid)
    look = look_at_job(client, "default", "r1", 1)
    assert look.end is not None
    assert look.end.state == "gone"


def test_lines_come_once_over_a_cut_stream_and_without_secrets(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    register_secret("a password of the log")
    job = played(kubernetes, client)
    pod = job.make_pod(phase="Running", migrate=RUNNING, lock=RUNNING)
    stamp = "2026-01-01T00:00:0%d.%09dZ %s"
    first, second, third = (stamp % (1, 5, "one"), stamp % (1, 6, "two a password of the log"), stamp % (2, 0, "three"))
    kubernetes.scripted_logs[pod] = [[first, None], [first, second, None], [second, third]]
    waiter = Waiter(job.name)
    wait_until(lambda: len(waiter.lines) == 3, "all lines came")
    job.end("Complete", said="\nstarted=yes\ncode=0\nasked=\ncount=0")
    end = waiter.result()
    assert waiter.lines == ["one", "two *****", "three"]
    assert (end.state, end.exit_code, end.pending, end.lock.held, end.lock.named, end.addresses) == (
        "succeeded",
        0,
        None,
        True,
        True,
        ("10.1.2.3",),
    )
    assert any("sinceTime=2026-01-01T00%3A00%3A01Z" in path for _method, path in kubernetes.requests)


def test_a_lock_timeout_in_the_log_and_what_is_pending_are_told(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    pod = job.make_pod(phase="Running", migrate=RUNNING, lock=RUNNING)
    kubernetes.scripted_logs[pod] = [["2026-01-01T00:00:01Z ERROR:  canceling statement due to lock timeout"]]
    waiter = Waiter(job.name)
    wait_until(lambda: waiter.lines, "the line came")
    job.end("Failed", code=1, said="\npending:a=b\npending:c\nstarted=yes\ncode=1\nasked=0\ncount=5")
    end = waiter.result()
    assert (end.lock_timeout, end.pending, end.pending_exit_code) == (True, ("a=b", "c", "… and 3 more"), 0)


def test_an_image_that_cannot_be_pulled_ends_the_job_before_it_can_start(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    job.make_pod(migrate=BACK_OFF, lock=RUNNING)
    waiter = Waiter(job.name)
    wait_until(lambda: job.deadline() == 1, "the Job's deadline is over")
    kubernetes.delete("v1", "pods", "default", job.pods[0], None)
    job.finish("Failed", reason="DeadlineExceeded")
    end = waiter.result()
    assert end.reason == "ImagePullBackOff: container migrate: its image cannot be pulled (Back-off pulling image)"
    assert (end.state, end.started) == ("failed", False)


NO_SECRET = {"waiting": {"reason": "CreateContainerConfigError", "message": "failed to sync secret cache: timed out"}}


def test_a_secret_that_a_busy_kubelet_has_not_read_yet_ends_no_migration(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    job.make_pod(migrate=NO_SECRET, lock=RUNNING)
    waiter = Waiter(job.name)
    # Looked at, and looked at again.
    wait_until(lambda: kubernetes.count("GET", f"/jobs/{job.name}") > 2, "it waits")
    assert job.deadline() != 1
    job.set(phase="Running", migrate=RUNNING, lock=RUNNING)
    job.end("Complete")
    assert waiter.result().state == "succeeded"


def test_a_secret_that_is_still_not_there_after_a_while_ends_the_job_with_the_cause(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration_wait, "PATIENCE_SECONDS", 1.5)
    job = played(kubernetes, client)
    job.make_pod(migrate=NO_SECRET, lock=RUNNING)
    waiter = Waiter(job.name)
    wait_until(lambda: job.deadline() == 1, "the Job's deadline is over")
    job.finish("Failed", reason="DeadlineExceeded")
    end = waiter.result()
    assert end.reason == (
        "CreateContainerConfigError: container migrate: its container cannot be made (failed to sync secret cache: timed out)"
    )
    assert (end.state, end.started) == ("failed", False)


def test_a_pod_that_a_quota_keeps_from_being_made_is_told_after_the_time_to_start(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    kubernetes.put(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "e1", "namespace": "default"},
            "involvedObject": {"kind": "Job", "name": job.name},
            "reason": "FailedCreate",
            "message": "exceeded quota: small",
        }
    )
    waiter = Waiter(job.name, start_seconds=0.5)
    wait_until(lambda: job.deadline() == 1, "the Job's deadline is over")
    job.finish("Failed", reason="DeadlineExceeded")
    end = waiter.result()
    assert (end.reason, end.started) == ("FailedCreate: its Pod is not made: exceeded quota: small", False)


def test_a_second_pod_ends_the_job(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    job = played(kubernetes, client)
    job.make_pod(phase="Running", migrate=RUNNING, lock=RUNNING)
    waiter = Waiter(job.name)
    wait_until(lambda: kubernetes.count("GET", "/log") > 0, "the first Pod's log is read")
    kubernetes.delete("v1", "pods", "default", job.pods[0], None)
    job.make_pod(phase="Running", migrate=RUNNING, lock=RUNNING)
    wait_until(lambda: job.deadline() == 1, "the Job's deadline is over")
    job.end("Failed", code=143)
    end = waiter.result()
    assert (end.pods, end.reason.split(":")[0]) == (2, "a second Pod was made, since the first was removed")


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"reason": "OOMKilled"}, "OOMKilled: exit code 137"),
        ({"reason": "Error"}, "exit code 137"),
    ],
)
def test_a_killed_command_is_told_from_one_that_failed(
    kubernetes: KubernetesApi, client: KubernetesClient, status: dict[str, str], reason: str
) -> None:
    job = played(kubernetes, client)
    job.make_pod()
    job.end("Failed", code=137, said="started=yes", **status)
    end = Waiter(job.name).result()
    assert (end.reason, end.killed, end.started) == (reason, True, True)


def test_an_evicted_pod_and_a_deadline_are_told(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    job = played(kubernetes, client)
    pod = job.make_pod()
    kubernetes.set_status(
        "v1", "pods", "default", pod, phase="Failed", reason="Evicted", message="low on memory", containerStatuses=[]
    )
    job.finish("Failed", reason="BackoffLimitExceeded", message="Job has reached the limit")
    end = Waiter(job.name).result()
    assert (end.reason, end.killed, end.started) == ("Evicted: low on memory", True, None)
    other = played(kubernetes, client, order(attempt=2))
    other.finish("Failed", reason="DeadlineExceeded", message="Job was active longer than specified deadline")
    end = Waiter(other.name).result()
    assert end.reason == "DeadlineExceeded: Job was active longer than specified deadline"


def test_a_job_that_somebody_removes_is_gone_not_made_again(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    job.make_pod(phase="Running", migrate=RUNNING, lock=RUNNING)
    waiter = Waiter(job.name)
    wait_until(lambda: kubernetes.count("GET", "/log") > 0, "its log is read")
    kubernetes.delete("batch/v1", "jobs", "default", job.name, None)
    assert waiter.result().state == "gone"
    assert kubernetes.count("POST", "/jobs") == 1


def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    job.make_pod(phase="Running", migrate=RUNNING, lock=RUNNING)
    kubernetes.fail("GET", "/jobs", 503, times=6)
    kubernetes.fail("GET", "/log", 500, times=2)
    waiter = Waiter(job.name, seconds=60)
    wait_until(lambda: kubernetes.count("GET", "/log") > 2, "it reads again", seconds=40)
    job.end("Complete")
    assert waiter.result().state == "succeeded"


def test_waiting_ends_when_the_lease_is_lost(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    job = played(kubernetes, client)
    job.make_pod(migrate=BACK_OFF, lock=WAITING)

    def lost() -> None:
        raise FencedError("go on", "the lease", "another holds it")

    waiter = Waiter(job.name, still_ours=lost)
    waiter.thread.join(10)
    assert isinstance(waiter.error, FencedError)
    assert job.deadline() != 1


def test_a_job_that_does_not_end_in_time_is_not_known_to_have_ended(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    job = played(kubernetes, client)
    waiter = Waiter(job.name, seconds=1)
    waiter.thread.join(10)
    assert isinstance(waiter.error, TemporaryError)
    assert "whether it still runs is not known" in str(waiter.error)


def test_a_template_that_is_no_single_job_is_refused(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    assert read_template(None) is None
    with pytest.raises(ConfigurationError, match=r"release\.migration\.template = job\.yaml"):
        read_template("job.yaml")
