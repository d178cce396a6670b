"""The dispatcher's other half: follows the runs that were made, and tells GitHub's deployments how they go. A thread of its own: a GitHub that is slow keeps no run
from being made. What could not be told is told in a later round; a state that was told is kept, and not told again."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from core.errors import ConfigurationError, NightshiftError, TemporaryError
from core.webhook_report import NOT_STARTED, SUPERSEDED, TAKEN_BACK, Told
from deployments.webhook.audit import Audit
from deployments.webhook.figures import Figures
from deployments.webhook.github_status import GitHubDeployments
from deployments.webhook.inbox import Delivery, Inbox
from deployments.webhook.prefect_runs import Runs

ROUND_SECONDS = 5.0
# What GitHub refuses is tried again (a token may be mended), each time later, and given up after about a day.
MOST_REFUSALS, LONGEST_PAUSE_SECONDS = 40, 3600.0


class Reporter:
    """`githubs`: by environment, how GitHub is told."""

    def __init__(
        self,
        inbox: Inbox,
        runs: Runs,
        githubs: Callable[[], Mapping[str, GitHubDeployments]],
        *,
        audit: Audit,
        figures: Figures,
        round_seconds: float = ROUND_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._inbox, self._runs, self._githubs = inbox, runs, githubs
        self._audit, self._figures, self._round_seconds, self._clock = audit, figures, round_seconds, clock
        self._ending = threading.Event()
        # By delivery: how often it could not be told, and when it is tried again.
        self._refused: dict[str, tuple[int, float]] = {}
        # By delivery: when its run was last seen to go on.
        self._went_on: dict[str, float] = {}
        self.beat = time.monotonic()

    def end(self) -> None:
        """End after the status that is being sent."""
        self._ending.set()

    def work(self) -> None:
        """Report until the end. Nothing that is raised ends it."""
        while not self._ending.wait(self._round_seconds):
            self.beat = time.monotonic()
            try:
                self.once()
            except NightshiftError as error:
                self._audit.tell("not reported", reason=str(error))
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._audit.tell("reporter failed", reason=f"{type(error).__name__}: {error}")

    def once(self) -> None:
        """One round through the runs that go on."""
        followed, looked = self._inbox.open("started"), self._clock()
        for delivery, told in self._looked_at([one for one in followed if self._is_due(one)]):
            if self._ending.is_set():
                return
            self.beat = time.monotonic()
            if not told.final:
                self._went_on[delivery.start.key] = looked
            if told.state == "success" and delivery.reported == SUPERSEDED.kept:
                # A later one took its place before all of this one was told: GitHub is not to hear again that it is live.
                note = "a later release took its place, or a rollback took it back"
                self._inbox.set_ended(delivery.start.key, note, self._clock(), delivery.received)
                continue
            if told.kept != delivery.reported and not self._told(delivery, told):
                continue
            if told.final and self._closed(delivery, told):
                self._inbox.set_ended(
                    delivery.start.key, delivery.note or told.description, self._clock(), delivery.received
                )
                self._went_on.pop(delivery.start.key, None)

    def _is_due(self, delivery: Delivery) -> bool:
        """Whether no pause after a refusal goes on."""
        return self._refused.get(delivery.start.key, (0, 0.0))[1] <= self._clock()

    def _looked_at(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Told]]:
        runs = [(one.run_id, one.start) for one in deliveries if one.run_id]
        found = self._runs.look(runs) if runs else {}
        return [(one, found[one.run_id] if one.run_id else NOT_STARTED) for one in deliveries]

    def _closed(self, delivery: Delivery, told: Told) -> bool:
        """Whether those that are live no longer, by this run's success, were told so."""
        if told.state != "success" or delivery.start.flow not in {"release", "rollback"}:
            return True
        earlier = self._inbox.succeeded_before(delivery, self._went_on.get(delivery.start.key, 0.0))
        sentence = SUPERSEDED if delivery.start.flow == "release" else TAKEN_BACK
        # Each is told, also past one that could not be.
        untold = [one for one in earlier if not self._told(one, sentence)]
        return not untold

    def _told(self, delivery: Delivery, told: Told) -> bool:
        """Whether GitHub was told, or will never be."""
        start = delivery.start
        if not self._is_due(delivery):
            return False
        github = self._githubs().get(start.environment)
        if github is not None and start.deployment_id is not None:
            page = self._runs.page(start, delivery.run_id) if delivery.run_id else ""
            try:
                github.tell(start.repository, start.deployment_id, told, page)
            except NightshiftError as error:
                return self._postponed(delivery, error)
            self._figures.reports.labels("sent").inc()
            self._audit.tell("reported", key=start.key, run_id=delivery.run_id, state=told.state)
        self._refused.pop(start.key, None)
        self._inbox.set_reported(start.key, told.kept, delivery.received)
        return True

    def _postponed(self, delivery: Delivery, error: NightshiftError) -> bool:
        key = delivery.start.key
        refusals, _ = self._refused.get(key, (0, 0.0))
        lasting = not isinstance(error, TemporaryError | ConfigurationError)
        refusals += lasting
        self._figures.reports.labels("failed").inc()
        self._audit.tell("not reported", key=key, reason=str(error))
        if refusals >= MOST_REFUSALS:
            self._refused.pop(key, None)
            self._inbox.set_reported(key, "not told", delivery.received)
            self._inbox.set_ended(key, f"GitHub was not told: {error}", self._clock(), delivery.received)
            return False
        self._refused[key] = (refusals, self._clock() + min(self._round_seconds * 2**refusals, LONGEST_PAUSE_SECONDS))
        return False
