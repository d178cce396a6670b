"""What the demo of releases runs through the platform's server: a good release, a bad one, and one whose process is killed.

Apart from demo_release.py, since it imports Prefect, which takes seconds.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import psutil
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterStartTime
from prefect.client.schemas.objects import FlowRun

from core.evidence import Report
from core.release_plan import release_id_of
from deployments.command.automations import ensure_automations
from deployments.command.demo_release_display import show_cluster, show_ends, show_report
from deployments.command.deploying import RECOVERY, RELEASING, deployment_file
from deployments.command.follow import RunView
from deployments.command.platform_runs import follow, newest_report, report_of, start
from deployments.command.prefect_api import Server, server_of
from deployments.command.terminal import console, tell_error
from deployments.local.demo_application import Namespaces, holder_and_journals, sides_of
from deployments.local.demo_cluster import DemoImages
from deployments.local.platform import Platform
from deployments.local.running import LOCAL
from tasks.environments import load_environment

__all__ = ("RELEASING", "demonstrate", "deployment_file")

# From the kill to the safe state. The automation takes about 15 s; where it does not come, the sweep is there within two minutes and a half.
_RECOVERY_SECONDS = 240.0
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class End:
    """What was to come of a release, and what came of it. `wrong`: what is not as it should be; empty: all is."""

    title: str
    wanted: str
    came: str
    seconds: float
    wrong: tuple[str, ...]


@dataclass
class _Killing:
    """Kills the process of a run once, as soon as its journal says that the new version's Pods are about to come."""

    run_id: UUID
    at: float = 0.0
    step: str = ""
    process_id: int = 0
    done: bool = False

    def __call__(self) -> None:
        if self.done:
            return
        _, journals = holder_and_journals(load_environment(LOCAL))
        journal = next((one for one in journals if one.release_id == release_id_of(str(self.run_id))), None)
        last = journal.entries[-1] if journal is not None and journal.entries else None
        if last is not None and last.event == "intent" and last.step.startswith("fill "):
            process = _process_of(self.run_id)
            process.send_signal(signal.SIGKILL)
            self.at, self.step, self.process_id, self.done = time.time(), last.step, process.pid, True


class Demonstration:
    """The releases of one demonstration."""

    def __init__(self, platform: Platform, server: Server, namespaces: Namespaces, images: DemoImages) -> None:
        self.platform, self.server, self.namespaces, self.images = platform, server, namespaces, images

    def good(self) -> End:
        """A release of a good version, which takes over the plain Deployment."""
        view = self._release(self.images.second, "2" * 40, adopt=True)
        report = self._told(view.run_id)
        wrong = self._not_as_it_should_be("released", self.images.second, report.run_id)
        if not view.well:
            wrong.append(f"the run is {view.state_name}: {view.message}")
        return End("a good version", "released", view.message, view.seconds, tuple(wrong))

    def bad(self) -> End:
        """A release of a version whose Pods end at once."""
        view = self._release(self.images.bad, "3" * 40)
        report = self._told(view.run_id)
        wrong = self._not_as_it_should_be("rolled back", self.images.second, report.run_id)
        if view.state_name != "RolledBack":
            wrong.append(f"the run is {view.state_name}: {view.message}")
        return End("a bad version", "rolled back, and its cause told", view.message, view.seconds, tuple(wrong))

    def killed(self) -> End:
        """A release whose process is killed before its Pods are ready; its recovery is started by the server."""
        title, wanted = "a killed release", "recovered without anybody's help"
        run_id = start(self.server, "release", self._parameters(self.images.first, "4" * 40))
        killing = _Killing(run_id)
        view = follow(self.platform, self.server, run_id, at_each_view=killing, every_seconds=_LOOK_SECONDS)
        if not killing.done:
            return End(title, wanted, view.message, view.seconds, ("it came to its end before it was killed",))
        console.print(f"process {killing.process_id} was killed by SIGKILL in the step: {killing.step}")
        self.show_cluster_now("left in the middle")
        ended = self._wait_until_safe(killing.at)
        if ended is None:
            return End(
                title, wanted, "nothing", _RECOVERY_SECONDS, (f"not safe {_RECOVERY_SECONDS:.0f} s after the kill",)
            )
        recovery, safe = ended
        self._told(recovery.id)
        began = recovery.start_time.timestamp() if recovery.start_time else safe
        by = "the sweep" if recovery.auto_scheduled else "its automation"
        came = f"{by} started the recovery {began - killing.at:.0f} s after the kill; safe {safe - began:.0f} s later"
        wrong = self._not_as_it_should_be("rolled back", self.images.second, str(run_id))
        if view.state_type != "CRASHED":
            wrong.append(f"the run is {view.state_name}, not Crashed")
        return End(title, wanted, came, safe - killing.at + view.seconds, tuple(wrong))

    def _release(self, image: str, commit: str, *, adopt: bool = False) -> RunView:
        run_id = start(self.server, "release", self._parameters(image, commit, adopt=adopt))
        return follow(self.platform, self.server, run_id)

    def _parameters(self, image: str, commit: str, *, adopt: bool = False) -> dict[str, object]:
        digest = image.rpartition("@")[2]
        return {
            "image": digest,
            "commit": commit,
            "migrate": False,
            "adopt": adopt,
            "requested_by": "nightshift demo-release",
        }

    def _told(self, run_id: UUID) -> Report:
        """Show a run's report and what the cluster then is like."""
        report = report_of(run_id)
        show_report(report, self.server.run_url(run_id))
        self.show_cluster_now("afterwards")
        return report

    def show_cluster_now(self, when: str) -> None:
        """Show what the cluster is like."""
        holder, journals = holder_and_journals(load_environment(LOCAL))
        show_cluster(when, sides_of(self.namespaces.application), self.images, holder, journals)

    def _not_as_it_should_be(self, outcome: str, image: str, run_id: str) -> list[str]:
        """What of the end is wrong: the journal's outcome, the lease, which version serves, and whether another has Pods."""
        holder, journals = holder_and_journals(load_environment(LOCAL))
        journal = next((one for one in journals if one.release_id == release_id_of(run_id)), None)
        serving = [one for one in sides_of(self.namespaces.application) if one.serves]
        found = {
            f"its journal says {journal.outcome or 'open' if journal else 'nothing'}, not {outcome}": journal
            is not None
            and journal.outcome == outcome,
            f"{holder.name if holder else 'nobody'} holds the lease": holder is None,
            "more or less than one side serves": len(serving) == 1,
            f"not the {self.images.label(image)} serves": all(one.image == image for one in serving),
            "what serves is not full": all(one.ready == one.replicas for one in serving),
        }
        return [sentence for sentence, holds in found.items() if not holds]

    def _wait_until_safe(self, killed: float) -> tuple[FlowRun, float] | None:
        """Show each recovery that begins after the kill until nothing is left open; return the one that did it, and when. None: not in time."""
        seen: set[UUID] = set()
        while time.time() < killed + _RECOVERY_SECONDS:
            self.platform.check()
            for run in self._recoveries(killed):
                if run.id not in seen:
                    seen.add(run.id)
                    follow(self.platform, self.server, run.id)
            if self._is_safe():
                _, report = newest_report()
                done = next((one for one in self._recoveries(killed) if str(one.id) == report.run_id), None)
                if done is not None and done.end_time is not None:
                    return done, done.end_time.timestamp()
            time.sleep(0.5)
        return None

    def _is_safe(self) -> bool:
        holder, journals = holder_and_journals(load_environment(LOCAL))
        return holder is None and all(not one.is_open for one in journals)

    def _recoveries(self, after: float) -> list[FlowRun]:
        started = FlowRunFilterStartTime(after_=datetime.fromtimestamp(after, UTC))
        with self.server.client() as client:
            found = client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[RECOVERY])),
                flow_run_filter=FlowRunFilter(start_time=started),
            )
        # For one that has not begun, the server takes the time at which it is due.
        return [one for one in found if one.start_time is not None]


def demonstrate(platform: Platform, namespaces: Namespaces, images: DemoImages) -> bool:
    """Given a running platform and the application at its first version, release it three times, show what comes of it, and return whether each ended as it should."""
    os.environ.update(platform.variables)
    server = server_of(platform.running)
    with server.client() as client:
        ensure_automations(client)
    console.rule("a backup first: a release wants a recovery point", align="left")
    backup = follow(platform, server, start(server, "nightly-backup", {}))
    if not backup.well:
        tell_error(f"nightly-backup is {backup.state_name}: {backup.message}. Logs: {platform.folder.logs}")
        return False
    show = Demonstration(platform, server, namespaces, images)
    ends = []
    acts: tuple[tuple[str, Callable[[], End]], ...] = (
        ("1 of 3: a good version (the second)", show.good),
        ("2 of 3: a bad version, whose Pods end as soon as they have begun", show.bad),
        ("3 of 3: a good version (the first again), and its process is killed in the middle", show.killed),
    )
    for title, act in acts:
        console.rule(title, align="left")
        show.show_cluster_now("before")
        end = act()
        ends.append(end)
        if end.wrong:
            break
    show_ends(ends)
    for end in ends:
        for sentence in end.wrong:
            tell_error(f"{end.title}: {sentence}. Logs: {platform.folder.logs}")
    return len(ends) == len(acts) and not any(end.wrong for end in ends)


def _process_of(run_id: UUID) -> psutil.Process:
    """The process in which a run is carried out: of those that carry its id, the one whose parent does not."""
    below = {one.pid: one for one in psutil.Process().children(recursive=True) if _carries(one, run_id)}
    return next(one for one in below.values() if one.ppid() not in below)


def _carries(process: psutil.Process, run_id: UUID) -> bool:
    try:
        carried: str | None = process.environ().get("PREFECT__FLOW_RUN_ID")
    except psutil.Error:
        return False
    return carried == str(run_id)
