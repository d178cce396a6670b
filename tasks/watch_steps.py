"""The steps of a tick: read how the watch stands, look, judge, keep. Each is done once a tick; what fails is done by the next one."""

from __future__ import annotations

from datetime import datetime

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from core.environment import Environment
from core.errors import NightshiftError
from core.watch_days import LAG_DAYS
from core.watch_decision import ROLLBACK, Trouble, trouble_of
from core.watch_doubts import doubted, outside_doubts, scraped_doubts
from core.watch_notices import Sight
from core.watch_record import WatchTick, counts_of
from core.watch_report import watch_artifact_key
from core.watch_scraped import SCRAPED, scraped_findings
from core.watch_traffic import traffic_findings
from core.watch_verdict import Demands, Judgement, Verdict, judge
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.release_run import release_of
from tasks.retrying import step
from tasks.rollback_steps import choose_release
from tasks.watch_count import Counted, count
from tasks.watch_looks import PODS, PROBES, SOURCES, crash_loops_of, outside_of, ready_of, replica_sets_of
from tasks.watch_schedule import ROLLBACK as ROLLBACK_FLOW
from tasks.watch_schedule import start_run
from tasks.watch_sources import Looked, look_at_all
from tasks.watch_stand import Stand

# The next tick comes in five minutes, and does better than a retry within this one.
_NO_RETRIES = 0
# Told like another source: of the requests themselves, whether they came at all.
TRAFFIC = "traffic"


class Seen:
    """What a tick saw and what it says. Not a dataclass on purpose: Prefect hands it to tasks as it is."""

    def __init__(  # noqa: PLR0917 - the parts of a look
        self,
        tick: WatchTick,
        looked: Looked,
        counted: Counted,
        judgement: Judgement,
        trouble: Trouble | None,
        sight: Sight,
    ) -> None:
        self.tick, self.looked, self.counted, self.judgement, self.trouble = tick, looked, counted, judgement, trouble
        self.sight = sight


@step("read how the watch of {release_id} stands", retries=_NO_RETRIES)
def read_stand(environment: Environment, release_id: str) -> Stand:
    """How the watch stands. Raise PermanentError when there is none, IntegrityError when a record is forged."""
    return Stand.read(environment, release_id)


@step("look, and judge", retries=_NO_RETRIES)
def look(stand: Stand, run_id: str, now: datetime) -> Seen:
    """Look at every source, count the requests of what closed, and judge all that was seen until now."""
    last = stand.closed_by(now) - 1
    looked = look_at_all(stand, last, now, SOURCES)
    counted = count(stand, replica_sets_of(looked), now, ready=ready_of(looked, stand.start.deployments, last))
    counts = counts_of(counted.baseline, counted.metrics, counted.closed)
    scraped = counted.scraped
    if scraped is not None:
        looked.kept[SCRAPED] = scraped.model_dump(mode="json")
        looked.findings[SCRAPED] = scraped_findings(scraped)
    pods_unread, outside = looked.unread.get(PODS), outside_of(looked)
    some_failed = outside is not None and any(one.failed for one in outside.paths.values())
    sight = Sight(
        counts.values(),
        counted.closed,
        unread="; ".join(filter(None, (counted.unread, pods_unread and f"Pods: {pods_unread}"))),
        counting=stand.start.counts,
        outside=outside,
        failed_before=stand.failed_before() if some_failed else {},
        scraped=scraped,
    )
    judgement = doubted(judged(stand, counted), doubts_of(stand, sight, looked))
    for metric in list(counts)[:1]:
        looked.findings[TRAFFIC] = traffic_findings(metric, counts[metric], counted.closed)
    found = [one for findings in looked.findings.values() for one in findings]
    of_counts = {"requests": counted.unread, SCRAPED: counted.scraped_unread}
    unread = looked.unread | {source: why for source, why in of_counts.items() if why}
    tick = WatchTick(
        environment=stand.environment.name,
        release_id=stand.release_id,
        closed=counted.closed,
        at=now,
        flow_run_id=run_id,
        metrics=counted.metrics,
        sources=looked.kept,
        unread=unread,
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        findings=tuple(found),
    )
    return Seen(tick, looked, counted, judgement, trouble_of(judgement, *crash_loops_of(looked, last)), sight)


def doubts_of(stand: Stand, sight: Sight, looked: Looked) -> tuple[str, ...]:
    """Why the counts are not the whole."""
    coverage, found = stand.settings.coverage, scraped_doubts(sight.scraped, stand.settings.coverage)
    if PROBES in looked.not_asked:
        return found
    unread = looked.unread.get(PROBES, "")
    return (*outside_doubts(sight.outside, sight.failed_before or {}, coverage, unread, sight.closed), *found)


def judged(stand: Stand, counted: Counted) -> Judgement:
    """What the counts say; without any, that nothing was counted."""
    if not counted.metrics:
        # What was to be counted and was not is Prometheus that is away.
        verdict: Verdict = "blind" if stand.start.counts else "insufficient"
        return Judgement(verdict, (counted.unread or "no metric is counted",))
    counts = counts_of(counted.baseline, counted.metrics, counted.closed)
    ignored = release_of(stand.environment).gates.ratio_ignored
    demands = Demands(stand.settings.coverage, stand.settings.factor, ignored)
    young = counted.baseline is not None and counted.baseline.lags != LAG_DAYS
    advises = "it was compared with the days before, not with the same day of earlier weeks" if young else ""
    return judge(
        counts,
        closed=counted.closed,
        demands=demands,
        objective=stand.settings.objective,
        advises=advises,
        placebos=counted.baseline.largest_of_days if counted.baseline is not None else None,
    )


@step("keep what was seen until bucket {tick.closed}", retries=_NO_RETRIES)
def keep_tick(stand: Stand, tick: WatchTick) -> bool:
    """Keep a tick, and return whether it is new: of two that saw the same, one is kept."""
    return stand.records.keep(tick)


@step("look whether {stand.release_id} can be taken back", retries=_NO_RETRIES)
def why_no_way_back(stand: Stand) -> str:
    """Why a release cannot be taken back, "" when it can. Nothing is changed."""
    try:
        plan = choose_release.fn(stand.environment.name, stand.release_id)
        if plan.sides is None:
            return ""
        with KubernetesClient.open(release_of(stand.environment).context) as client:
            path = find_kind(client, "Deployment").path(plan.namespace, plan.sides.live_name)
            old = client.get(path)
    except NightshiftError as error:
        return str(error)
    return "" if (old.get("spec") or {}).get("replicas") else f"{plan.sides.live_name} was retired: it has no Pods"


@step("ask for the rollback of {stand.release_id}")
def ask_for_rollback(stand: Stand, trouble: Trouble, by: str) -> str:
    """Start the rollback, once for each release, and return the id of its run. What it does and whether it may is the rollback's own."""
    reason = f"the watch found the new version worse: {trouble.told}"[:1000]
    parameters = {"reason": reason, "release_id": stand.release_id, "requested_by": "post-deploy-watch"}
    run_id = start_run(ROLLBACK_FLOW, stand.environment.name, parameters, f"watch-{stand.release_id}")
    stand.records.keep_mark(ROLLBACK, f"run {run_id}: {trouble.told}", by)
    return str(run_id)


def show(environment: Environment, text: str) -> None:
    """Show how a watch stands in the UI; that this fails is nobody's trouble but the reader's."""
    try:
        create_markdown_artifact(text, key=watch_artifact_key(environment.name), description="How the watch stands")
    except Exception as error:  # noqa: BLE001 - the tick is kept
        get_run_logger().warning("how the watch stands could not be shown: %s", error)
