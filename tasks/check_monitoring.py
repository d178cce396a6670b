"""Items monitoring and baseline of the checklist: who would see that the new version is bad, and by what it is held (Prometheus' HTTP API v1)."""

import math
from typing import Any

from pydantic import JsonValue

from core.baseline import finite_values, summary
from core.environment_checks import MonitoringCheck
from core.errors import PermanentError
from core.release_checks import ReleaseCheck, not_configured, verdict
from core.secret_reference import shown_reference
from core.units import counted
from tasks.preflight_item import Preflight, asked
from tasks.secrets import resolve
from tasks.web_api import WebApi

# Prometheus answers with 11,000 points a series at most (web/api/v1, "exceeded maximum resolution").
_MOST_POINTS = 2000
_SHORTEST_STEP = 60
_NAMED = 5


@asked("monitoring")
def check_monitoring(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether Prometheus answers, its named rules are loaded and healthy, and the targets of its named jobs are up."""
    settings = preflight.release.checks.monitoring
    if settings is None:
        return not_configured("monitoring", "nobody asked Prometheus", "Write [release.checks.monitoring]")
    with _prometheus(settings) as api:
        # Not /-/ready: a query also tells that the data can be read, and what stands before Prometheus often passes only its API on.
        _data(api, "/api/v1/query", {"query": "vector(1)"})
        problems = [
            *_rule_problems(api, settings.rules),
            *(problem for job in settings.jobs for problem in _job_problems(api, job)),
        ]
    return verdict(
        "monitoring",
        problems,
        f"{settings.prometheus} answers; {counted(len(settings.rules), 'rule')} loaded, targets of {counted(len(settings.jobs), 'job')} up",
        "Look at Prometheus: /rules and /targets",
        prometheus=settings.prometheus,
        rules=list(settings.rules),
        jobs=list(settings.jobs),
    )


@asked("baseline")
def check_baseline(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return how the running version did in the last hours; a query with too few numbers fails. The figures are in the evidence."""
    settings, monitoring = preflight.release.checks.baseline, preflight.release.checks.monitoring
    if settings is None or monitoring is None:
        return not_configured(
            "baseline", "nobody recorded how the running version does", "Write [release.checks.baseline]"
        )
    end = math.floor(preflight.clock().timestamp())
    seconds = settings.hours * 3600
    step = max(_SHORTEST_STEP, math.ceil(seconds / _MOST_POINTS))
    figures: dict[str, JsonValue] = {}
    problems = []
    with _prometheus(monitoring) as api:
        for one in settings.queries:
            query: dict[str, str | int] = {"query": one.query, "start": end - seconds, "end": end, "step": step}
            data = _data(api, "/api/v1/query_range", query)
            if data.get("resultType") != "matrix":
                raise PermanentError(
                    "ask Prometheus", one.query, f"the answer is a {data.get('resultType')}, not a matrix"
                )
            values = finite_values(data["result"])
            figures[one.name] = {"query": one.query, **summary(values)}
            if len(values) < settings.samples:
                problems.append(
                    f"{one.name} has {counted(len(values), 'number')} in {settings.hours} h; {settings.samples} are asked for"
                )
    return verdict(
        "baseline",
        problems,
        f"{', '.join(one.name for one in settings.queries)} of the last {settings.hours} h recorded",
        "Look at the query and at how long Prometheus keeps its data",
        hours=settings.hours,
        step_seconds=step,
        figures=figures,
    )


def _prometheus(settings: MonitoringCheck) -> WebApi:
    headers, known = {}, "release.checks.monitoring.token is not set"
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {resolve(settings.token).get_secret_value().strip()}"
        known = f"release.checks.monitoring.token = {shown_reference(settings.token)}"
    steps = dict.fromkeys((401, 403), f"Give a token that may query: {known}")
    return WebApi(settings.prometheus, what="Prometheus", headers=headers, next_steps=steps)


def _data(api: WebApi, path: str, parameters: dict[str, str | int] | None = None) -> dict[str, Any]:
    """The `data` of an answer. Raise PermanentError unless it says success, and without a warning that it is not whole."""
    document = api.json(path, parameters)
    on = str((parameters or {}).get("query") or f"{api.address}{path}")
    if (
        not isinstance(document, dict)
        or document.get("status") != "success"
        or not isinstance(document.get("data"), dict)
    ):
        told = document.get("error") if isinstance(document, dict) else None
        raise PermanentError("ask Prometheus", on, str(told or "the answer is not Prometheus'"), "Look at the address")
    if document.get("warnings"):
        # Thanos and others so tell of a store that is away.
        raise PermanentError(
            "ask Prometheus", on, f"the answer is not whole: {'; '.join(map(str, document['warnings']))[:200]}"
        )
    return dict(document["data"])


def _rule_problems(api: WebApi, names: tuple[str, ...]) -> list[str]:
    if not names:
        return []
    rules = [rule for group in _data(api, "/api/v1/rules")["groups"] for rule in group["rules"]]
    problems = []
    for name in names:
        found = [rule for rule in rules if rule.get("name") == name]
        bad = next((rule for rule in found if rule.get("health") != "ok"), None)
        if not found:
            problems.append(f"rule {name} is not loaded")
        elif bad is not None:
            problems.append(f"rule {name} is {bad.get('health')}: {bad.get('lastError') or 'not evaluated yet'}")
    return problems


def _job_problems(api: WebApi, job: str) -> list[str]:
    quoted = job.replace("\\", "\\\\").replace('"', '\\"')
    data = _data(api, "/api/v1/query", {"query": f'up{{job="{quoted}"}}'})
    if data.get("resultType") != "vector":
        raise PermanentError(
            "ask Prometheus", f"up of job {job}", f"the answer is a {data.get('resultType')}, not a vector"
        )
    if not data["result"]:
        return [f"job {job} has no target"]
    down = [str(one["metric"].get("instance")) for one in data["result"] if float(one["value"][1]) != 1]
    more = f" and {len(down) - _NAMED} more" if len(down) > _NAMED else ""
    return (
        [f"job {job}: {len(down)} of {len(data['result'])} targets down: {', '.join(down[:_NAMED])}{more}"]
        if down
        else []
    )
