"""From the inbox to runs: one thread makes them, in the order in which they were received, each under its key, so that whatever is done twice makes one run."""

import threading
import time
from collections.abc import Callable, Mapping

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from core.errors import ConfigurationError, NightshiftError, TemporaryError
from deployments.webhook.audit import Audit
from deployments.webhook.figures import Figures
from deployments.webhook.github_status import GitHubDeployments
from deployments.webhook.inbox import Delivery, Inbox
from deployments.webhook.prefect_runs import NotDeployedError, Runs

ATTEMPTS = 3
# So many that fail one after the other: the server is away, and the rest need not be tried in this round.
FAILURES = 3
ROUND_SECONDS = 5.0
KEPT_DAYS = 90
FORGET_SECONDS = 3600.0
# While nothing waits: whether the server would take it.
ASK_SECONDS = 60.0


class Dispatcher:
    """`wake` it when something was accepted. `start_within` says by environment for how many seconds a delivery may wait; 0: it is not listened to any more."""

    def __init__(
        self,
        inbox: Inbox,
        runs: Runs,
        githubs: Callable[[], Mapping[str, GitHubDeployments]],
        start_within: Callable[[str], float],
        *,
        audit: Audit,
        figures: Figures,
        round_seconds: float = ROUND_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inbox, self._runs, self._githubs, self._start_within = inbox, runs, githubs, start_within
        self._audit, self._figures, self._round_seconds, self._clock = audit, figures, round_seconds, clock
        self._wake, self._ending = threading.Event(), threading.Event()
        self._retrying = Retrying(
            retry=retry_if_exception_type(TemporaryError),
            stop=lambda state: stop_after_attempt(ATTEMPTS)(state) or self._ending.is_set(),
            wait=wait_exponential_jitter(multiplier=0.2, max=2, jitter=0.2),
            sleep=self._rest,
            before_sleep=self._note,
            reraise=True,
        )
        self._forgetting = self._asking = 0.0
        self._away = ""
        self.beat = time.monotonic()

    def wake(self) -> None:
        """Something waits."""
        self._wake.set()

    def end(self) -> None:
        """End after the run that is being made."""
        self._ending.set()
        self._wake.set()

    def work(self) -> None:
        """Make runs until the end. Nothing that is raised ends it: the delivery is tried again in the next round."""
        while not self._ending.is_set():
            self._wake.clear()
            # Also where nothing waits: who has no work is not stuck.
            self.beat = time.monotonic()
            try:
                self.once()
                if self._clock() >= self._asking:
                    self._asking = self._clock() + ASK_SECONDS
                    self.ask()
                if self._clock() >= self._forgetting:
                    self._forgetting = self._clock() + FORGET_SECONDS
                    self._inbox.forget(self._clock() - KEPT_DAYS * 86400, self._clock())
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._audit.tell("dispatcher failed", reason=f"{type(error).__name__}: {error}")
            self._wake.wait(self._round_seconds)

    def ask(self) -> None:
        """Ask the Prefect server whether it is there and knows us; tell when that becomes otherwise. A delivery is no less accepted."""
        try:
            self._runs.ask()
            away = ""
        except (TemporaryError, ConfigurationError) as error:
            away = str(error)
        self._figures.server_up.set(0 if away else 1)
        if bool(away) != bool(self._away):
            self._audit.tell("prefect away" if away else "prefect back", **({"reason": away} if away else {}))
        self._away = away

    def once(self) -> None:
        """One round through what waits."""
        failed = 0
        # Flows of environments that the server has no deployment of: what else waits for them need not be tried in this round, and holds nobody up.
        lacking: set[tuple[str, str]] = set()
        for delivery in self._inbox.open("waiting"):
            self.beat = time.monotonic()
            if self._ending.is_set() or failed >= FAILURES:
                return
            wanted = (delivery.start.flow, delivery.start.environment)
            if self._waits_too_long(delivery) or wanted in lacking:
                continue
            try:
                failed = 0 if self._dispatch(delivery) else failed + 1
            except NotDeployedError as error:
                lacking.add(wanted)
                self._postpone(delivery, error)
            except Exception as error:  # noqa: BLE001 - told, tried again in the next round, and no reason to keep the others waiting
                failed += 1
                self._audit.tell("dispatcher failed", key=delivery.start.key, reason=f"{type(error).__name__}: {error}")

    def _waits_too_long(self, delivery: Delivery) -> bool:
        """Whether it was given up, since nobody reckons with it any more."""
        waited, most = self._clock() - delivery.received, self._start_within(delivery.start.environment)
        if waited <= most:
            return False
        late = f"it waited {waited / 3600:.1f} h, longer than start_within_hours"
        self._give_up(delivery, late if most else f"{delivery.start.environment} is not listened to any more")
        return True

    def _dispatch(self, delivery: Delivery) -> bool:
        """Whether the delivery is dealt with. Raise NotDeployedError when the server has no deployment for it."""
        start, waited = delivery.start, self._clock() - delivery.received
        try:
            run_id = self._retrying(self._runs.make, start)
        except NotDeployedError:
            raise
        except (TemporaryError, ConfigurationError) as error:
            # A wrong password is the operator's to mend, not the delivery's fault.
            self._figures.server_up.set(0)
            self._postpone(delivery, error)
            return False
        except NightshiftError as error:
            self._give_up(delivery, str(error))
            return True
        self._figures.server_up.set(1)
        self._figures.runs.labels("made").inc()
        self._audit.tell("run made", key=start.key, run_id=run_id, waited_seconds=round(waited, 1))
        if self._followed(delivery):
            self._inbox.set_started(start.key, run_id)
        else:
            self._inbox.set_made(start.key, run_id, self._clock())
        return True

    def _followed(self, delivery: Delivery) -> bool:
        """Whether somebody is told of its end: the job that asked, GitHub's deployment, or by a rollback those that it takes back."""
        if delivery.start.asked_by_job:
            return True
        told = delivery.start.environment in self._githubs()
        return told and (delivery.start.deployment_id is not None or delivery.start.flow == "rollback")

    def _postpone(self, delivery: Delivery, error: NightshiftError) -> None:
        self._figures.runs.labels("postponed").inc()
        self._audit.tell("run postponed", key=delivery.start.key, reason=str(error))

    def _give_up(self, delivery: Delivery, reason: str) -> None:
        self._figures.runs.labels("not made").inc()
        self._audit.tell("run not made", key=delivery.start.key, reason=reason)
        if delivery.start.deployment_id is not None and self._followed(delivery):
            self._inbox.set_never_made(delivery.start.key, reason)
        else:
            self._inbox.set_ended(delivery.start.key, reason, self._clock())

    def _rest(self, seconds: float) -> None:
        self._ending.wait(seconds)

    def _note(self, _state: RetryCallState) -> None:
        self._figures.server_up.set(0)
        self.beat = time.monotonic()
