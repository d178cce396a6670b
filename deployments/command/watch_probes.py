"""What `nightshift check` looks at for watches: whether they could count, compare and act, and whether whom they ask answers. Nothing is changed."""

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

from core.checks import Check
from core.colour_pair import sides_of
from core.environment import Environment
from core.environment_gates import Gates
from core.environment_release import Release
from core.environment_watch import Watch
from core.environment_watch_alerts import WatchAlerts
from core.environment_watch_grafana import WatchGrafana
from core.environment_watch_logs import WatchLogs
from core.environment_watch_probes import WatchProbes
from core.new_signatures import pods_pattern
from core.units import counted
from core.watch_checks import POLICY, PROMETHEUS, days_check, policy_check, requests_check, retention_check
from core.watch_days import BUCKET, LAG_DAYS
from core.watch_queries import any_pods_pattern, metric_queries
from core.watch_scraped import scraped_query
from deployments.command.probe import LONG_SECONDS, Probe
from tasks.grafana_annotations import may_read
from tasks.prometheus import PrometheusClient
from tasks.watch_alerts import look_at_alerts
from tasks.watch_counts import scraped_by
from tasks.watch_health import REDIS, look_at_health
from tasks.watch_probes import look_at_probes
from tasks.watch_search_logs import search_logs

ALERTS, LOGS, GRAFANA, OUTSIDE, SERVERS = (
    "watch: Alertmanager",
    "watch: logs",
    "watch: Grafana",
    "watch: public address",
    "watch: Redis",
)
# Of a server that answers a look of a watch within a second.
_PATIENCE_SECONDS = 20.0


def watch_probes(environment: Environment) -> list[Probe]:
    """Given an environment, return what is tried for its table [watch]; nothing when it has none."""
    watch, release = environment.watch, environment.release
    if watch is None or release is None:
        return []
    found = [Probe(POLICY, partial(_of_settings, environment, watch, release.gates))]
    if release.gates.prometheus_url is not None and release.gates.metrics:
        found.append(Probe(PROMETHEUS, partial(_look_at_prometheus, watch, release), LONG_SECONDS))
    if watch.alerts is not None:
        found.append(Probe(ALERTS, partial(_look_at_alerts, watch.alerts)))
    if watch.logs.kind == "elasticsearch":
        found.append(Probe(LOGS, partial(_look_at_logs, watch.logs, release), LONG_SECONDS))
    if watch.grafana is not None:
        found.append(Probe(GRAFANA, partial(_look_at_grafana, watch.grafana)))
    if watch.probes.url is not None:
        found.append(Probe(OUTSIDE, partial(_look_from_outside, watch.probes), LONG_SECONDS))
    if watch.health.redis_url is not None:
        found.append(Probe(SERVERS, partial(_look_at_redis, environment, watch)))
    return found


def _of_settings(environment: Environment, watch: Watch, gates: Gates) -> Iterator[Check]:
    yield policy_check(watch, gates)
    yield days_check(watch, datetime.now(UTC), environment.zone)


def _look_at_prometheus(watch: Watch, release: Release) -> Iterator[Check]:
    with PrometheusClient.open(release.gates, patience=_PATIENCE_SECONDS) as client:
        now = time.time() - scraped_by(watch.scrape_seconds).total_seconds()
        lacking = list(_unanswered(client, release, now))
        yield retention_check(watch, client.retention())
        requests = metric_queries(release.gates, _pods(release))[0].requests
        ago = {lag: now - timedelta(days=lag).total_seconds() for lag in LAG_DAYS}
        weeks = [] if lacking else [lag for lag, at in ago.items() if _answered(client, requests, at)]
        yield requests_check(watch, lacking, weeks)


def _unanswered(client: PrometheusClient, release: Release, now: float) -> Iterator[str]:
    """Which of a tick's queries answer nothing now. That no request failed yet is no lack."""
    pods = _pods(release)
    for one in metric_queries(release.gates, pods):
        if not _answered(client, one.requests, now):
            yield f"{one.metric}: Prometheus has no requests of the api's Pods now"
        elif one.good and not _answered(client, one.bad, now):
            yield f"{one.metric}: its histogram has no bucket of {release.gates.slow_seconds:g} s"
    scraped = scraped_query(release.gates, pods)
    if scraped is not None and not _answered(client, scraped, now):
        yield "whether each Pod is scraped cannot be told: release.gates.targets answers nothing"


def _answered(client: PrometheusClient, query: str, at: float) -> bool:
    found = client.query_range(query, start=at, end=at, step=300)
    return any(math.isfinite(value) for one in found for _, value in one.points)


def _pods(release: Release) -> str:
    return any_pods_pattern(_names(release))


def _names(release: Release) -> list[str]:
    """Names that the api's Deployments have, or may have after a release."""
    names = [one.name for one in release.workloads if one.kind == "Deployment" and one.role == "api"]
    return [side for name in names for side in sides_of(name)]


def _look_at_alerts(settings: WatchAlerts) -> Iterator[Check]:
    look = look_at_alerts(settings, begun=datetime.now(UTC))
    found = f"{settings.url} answers: {counted(len(look.alerts), 'alert')} now"
    if look.heartbeat is False:
        lacking = f"{found}, and {settings.heartbeat} is not among them: alerts do not reach it"
        next_step = "Look at Prometheus' alerting, or correct watch.alerts.heartbeat"
        yield Check(name=ALERTS, state="warning", found=lacking, next_step=next_step)
    else:
        yield Check(name=ALERTS, state="passed", found=found)


def _look_at_logs(logs: WatchLogs, release: Release) -> Iterator[Check]:
    begin = datetime.now(UTC) - timedelta(seconds=logs.settle_seconds) - BUCKET
    pods = pods_pattern(_names(release))
    look = search_logs(logs, first=begin, buckets=(0,), pods=pods, baseline=None)
    lines = sum(one.lines for one in look.buckets)
    if lines:
        yield Check(
            name=LOGS, state="passed", found=f"{logs.address} answers: {counted(lines, 'line')} of the api's Pods"
        )
    else:
        found = f"{logs.address} answers, and has no line of the api's Pods in the last minutes"
        next_step = "Look at index, query, pod_field and timestamp_field of [watch.logs]"
        yield Check(name=LOGS, state="warning", found=found, next_step=next_step)


def _look_at_grafana(settings: WatchGrafana) -> Iterator[Check]:
    may_read(settings)
    found = f"{settings.url} answers; whether we may create annotations shows at the first release"
    yield Check(name=GRAFANA, state="passed", found=found)


def _look_from_outside(settings: WatchProbes) -> Iterator[Check]:
    failing = [f"{one.path}: {one.why}" for one in look_at_probes(settings).probes if not one.ok]
    if failing:
        found = f"{settings.url}: {'; '.join(failing)}: no watch ends healthy while it is so"
        yield Check(name=OUTSIDE, state="failed", found=found, next_step="Mend it, or correct [watch.probes]")
    else:
        yield Check(name=OUTSIDE, state="passed", found=f"{settings.url} answers {settings.expected_status}")


def _look_at_redis(environment: Environment, watch: Watch) -> Iterator[Check]:
    settings = watch.health.model_copy(update={"databases": False})
    for one in look_at_health(environment, settings, seconds=5).servers:
        if one.name == REDIS and one.state == "well":
            yield Check(name=SERVERS, state="passed", found=f"it answers in {one.answer_ms} ms")
        else:
            yield Check(name=SERVERS, state="failed", found=one.why, next_step="Look at watch.health.redis_url")
