"""A release in a forked child, without Prefect's engine, so that it can be killed at any of its writes in a fraction of a second."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.logging import disable_run_logger
from prefect.states import Crashed

import tasks.release_plans
import tasks.report_steps
from core.errors import NightshiftError
from flows.release import go_through
from flows.release import release as release_flow
from flows.release_recovery import recover
from tasks.environments import load_environment
from tasks.recording import Record, RunRecord
from tasks.release_plans import ReleaseRequest
from tasks.release_recovery_steps import left_open
from tests.fix_kill_proxy import Counts, KillProxy, every_write
from tests.fix_release import NEXT_COMMIT, SKIPPED, Stage


def crashed_run(name: str = "release") -> str:
    """A flow run that Prefect knows to have crashed; its id."""
    with get_client(sync_client=True) as prefect:
        run = prefect.create_flow_run(
            release_flow, parameters={}, state=Crashed(message="killed by the test"), name=name
        )
    return str(run.id)


def request_of(stage: Stage, run_id: str, image: str, **more: Any) -> ReleaseRequest:
    """What a release of an image asks for."""
    given: dict[str, Any] = {
        "environment": "stage",
        "flow_run_id": run_id,
        "image": stage.digest(image),
        "commit": NEXT_COMMIT,
        "schema_compatibility": "backward",
        "migrate": False,
        "requested_by": "the test",
        "skip_checks": SKIPPED,
        **more,
    }
    return ReleaseRequest.model_validate(given)


def release_in_child(stage: Stage, request: ReleaseRequest, *, kubeconfig: str) -> int:
    """Fork a child that carries a release out, and return its process id. It ends with 0 when the release came to its end in whatever way, and `end_of` tells it."""
    stage.write()

    def work() -> None:
        os.environ["KUBECONFIG"] = kubeconfig
        run = RunRecord(load_environment("stage"), flow="release", run_id=request.flow_run_id, run_name="in a child")
        with disable_run_logger():
            try:
                end = str(go_through(run, request, Record(request.release_id), {"dry_run": False}).message)
            except NightshiftError as error:
                end = f"{type(error).__name__}: {error}"
            (stage.folder / f"{request.release_id}.end").write_text(end)

    return forked(work)


def end_of(stage: Stage, request: ReleaseRequest) -> str:
    """How a release in a child ended: its message, or the error that it raised."""
    return (stage.folder / f"{request.release_id}.end").read_text()


def recovery_in_child(stage: Stage, *, kubeconfig: str = "", run_id: str = "") -> int:
    """Fork a child that brings to its end whatever was left open, as release-recovery does, and return its process id. It ends with 0 when nothing is open any more."""
    stage.write()

    def work() -> None:
        if kubeconfig:
            os.environ["KUBECONFIG"] = kubeconfig
        environment, own_id = load_environment("stage"), run_id or str(uuid4())
        ends = time.monotonic() + 90
        with disable_run_logger():
            while found := left_open("stage"):
                for left in found:
                    end = recover(environment, Record(left.release_id), left, own_id)
                    assert end.how != "held", end.told
                assert time.monotonic() < ends, "the recovery came to no end"

    return forked(work)


def ended(child: int) -> bool:
    """Wait for a child; whether it came to its end well. Its traceback says why it did not."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def send_to_sleep(
    stage: Stage, proxy: KillProxy, number: int, request: ReleaseRequest, *, counts: Counts = every_write
) -> int:
    """Release in a child that is stopped with its write of this number (of those that count) on the way; return the child's process id.

    `proxy.stopped` tells whether it came so far.
    """
    proxy.arm(number, "asleep", 0, counts)
    child = release_in_child(stage, request, kubeconfig=str(proxy.kubeconfig))
    proxy.process = child
    while not proxy.stopped.wait(0.02) and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        pass
    return child


def forked(work: Callable[[], None]) -> int:
    """Run a function in a forked child, with Prefect's tasks as plain functions; return the child's process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        Task.__call__ = lambda self, *arguments, **named: self.fn(*arguments, **named)  # type: ignore[method-assign,assignment]
        for module in (tasks.report_steps, tasks.release_plans):
            module.create_markdown_artifact = lambda *_a, **_n: UUID(int=0)  # type: ignore[attr-defined]
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - past this a forked child would go on as pytest: it ends here, whatever it was, an exit too
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def kill_at_write(
    stage: Stage,
    proxy: KillProxy,
    number: int,
    when: str,
    image: str = "v2",
    *,
    run_id: str = "",
    counts: Counts = every_write,
    **more: Any,
) -> tuple[str, bool]:
    """Release an image in a child that is killed before or after its write of this number (of those that count).

    Return the run's id and whether it was killed (else: it ended).

    run_id: of a flow run that Prefect knows or a test speaks for; else one is made that crashed.
    """
    run_id = run_id or crashed_run()
    request = request_of(stage, run_id, image, **more)
    proxy.arm(number, when, 0, counts)
    child = release_in_child(stage, request, kubeconfig=str(proxy.kubeconfig))
    proxy.process = child
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed, see its traceback"
    return run_id, os.WIFSIGNALED(status)
