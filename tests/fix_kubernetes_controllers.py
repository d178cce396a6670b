"""The controllers of the small Kubernetes API of the tests, in one thread: woken by changes, and quick, so that a rollout takes a fraction of a second."""

import threading
from typing import TYPE_CHECKING

from tests.fix_kubernetes_deployments import Deployments
from tests.fix_kubernetes_jobs import Jobs, Work
from tests.fix_kubernetes_pods import How, Kubelet
from tests.fix_kubernetes_traffic import Traffic

if TYPE_CHECKING:
    from tests.fix_kubernetes import KubernetesApi

# Seconds between two rounds while something is under way, and while nothing is (deadlines are looked at).
_BUSY, _IDLE = 0.004, 0.1


class Controllers:
    """What a test turns on by `kubernetes.run_controllers()`, and steers.

    `second`: how long a second of a spec (progressDeadlineSeconds, activeDeadlineSeconds) lasts. `ready_rounds`: after how many rounds a Pod is ready.
    """

    def __init__(self, api: "KubernetesApi", *, second: float, ready_rounds: int) -> None:
        self._api = api
        self._kubelet = Kubelet(api, ready_rounds=ready_rounds)
        self._deployments, self.jobs = Deployments(api, second=second), Jobs(api, second=second)
        self._traffic = Traffic(api)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        # What made the thread end, if anything did.
        self.error: Exception | None = None

    def mark(self, part: str, how: How, log: str = "") -> None:
        """Say how Pods fare whose image's name contains this, or that have this name, and what they log; the last word counts."""
        with self._api.changed:
            self._kubelet.mark(part, how, log)
            self._api.changed.notify_all()

    def script(self, part: str, work: Work) -> None:
        """Say what a Job does whose image's name contains this; see fix_kubernetes_jobs."""
        self.jobs.script(part, work)

    def answer_routes(self, *, accepts: bool | None) -> None:
        """Have the gateway accept routes, refuse them, or (None) say nothing of them."""
        with self._api.changed:
            self._traffic.accepts = accepts
            self._api.changed.notify_all()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and fail the test if a controller failed."""
        self._stopping.set()
        self.jobs.release()
        self._thread.join(5)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        seen = -1
        try:
            while not self._stopping.wait(_BUSY):
                with self._api.changed:
                    if self._api.version == seen:
                        self._api.changed.wait(_IDLE)
                    seen = self._api.version
                    moving = self._kubelet.step()
                    self._deployments.step()
                    self.jobs.step()
                    self._traffic.step()
                if moving:
                    seen = -1
        except Exception as error:  # noqa: BLE001 - of a thread nobody sees an error: `stop` raises it, whatever it is
            self.error = error
