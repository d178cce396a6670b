"""Items monitoring and baseline: Prometheus answers, and with enough."""

from typing import Any

import pytest

from core.baseline import finite_values, summary
from tasks.check_monitoring import check_baseline, check_monitoring
from tests.fix_preflight import NOW, ScriptedWeb, preflight_for


def success(data: Any, **more: Any) -> tuple[int, Any]:
    return 200, {"status": "success", "data": data, **more}


def up(*values: str) -> tuple[int, Any]:
    series = [
        {"metric": {"instance": f"pod-{number}:3000"}, "value": [0, value]} for number, value in enumerate(values)
    ]
    return success({"resultType": "vector", "result": series})


def rule(name: str, health: str = "ok", error: str = "") -> dict[str, str]:
    return {"name": name, "health": health, "lastError": error, "type": "alerting"}


def script(web: ScriptedWeb, *rules: dict[str, str], targets: tuple[int, Any] | None = None) -> None:
    def query(asked: dict[str, str]) -> tuple[int, Any]:
        return up("1") if asked["query"] == "vector(1)" else (targets or up("1", "1"))

    web.answers = {
        "/api/v1/query": query,
        "/api/v1/rules": success({"groups": [{"rules": [rule("Other")]}, {"rules": [*rules]}]}),
    }


def tables(web: ScriptedWeb, **settings: Any) -> dict[str, Any]:
    return {"monitoring": {"prometheus": web.address, "rules": ["ApiDown"], "jobs": ["api"], **settings}}


def test_monitoring_that_answers_with_rules_and_targets_passes(web: ScriptedWeb) -> None:
    script(web, rule("ApiDown"))
    check = check_monitoring(preflight_for(**tables(web)))
    assert (check.state, check.found) == ("passed", f"{web.address} answers; 1 rule loaded, targets of 1 job up")
    assert web.requests[-1][1]["query"] == 'up{job="api"}'


@pytest.mark.parametrize(
    ("rules", "targets", "found"),
    [
        ([], None, "rule ApiDown is not loaded"),
        ([rule("ApiDown", "err", "division by zero")], None, "rule ApiDown is err: division by zero"),
        ([rule("ApiDown", "unknown")], None, "rule ApiDown is unknown: not evaluated yet"),
        ([rule("ApiDown"), rule("ApiDown", "err", "x")], None, "rule ApiDown is err"),
        ([rule("ApiDown")], up(), "job api has no target"),
        ([rule("ApiDown")], up("1", "0"), "job api: 1 of 2 targets down: pod-1:3000"),
        ([rule("ApiDown")], up("NaN"), "targets down"),
        ([rule("ApiDown")], success({"resultType": "matrix", "result": []}), "not a vector"),
    ],
)
def test_a_rule_or_target_that_is_not_well_fails(
    web: ScriptedWeb, rules: list[dict[str, str]], targets: tuple[int, Any] | None, found: str
) -> None:
    script(web, *rules, targets=targets)
    check = check_monitoring(preflight_for(**tables(web)))
    assert check.state == "failed"
    assert found in check.found


@pytest.mark.parametrize(
    "answer",
    [
        (401, {}),
        (403, {}),
        (404, {}),
        (503, {}),
        (200, "<html>sign in</html>"),
        (200, []),
        (200, {"status": "error", "error": "timed out"}),
        (200, {"status": "success", "data": {"resultType": "vector", "result": []}, "warnings": ["a store is away"]}),
    ],
)
def test_a_prometheus_that_cannot_be_asked_fails_both_items(web: ScriptedWeb, answer: tuple[int, Any]) -> None:
    script(web, rule("ApiDown"))
    web.answers["/api/v1/query"] = web.answers["/api/v1/query_range"] = answer
    baseline = {"queries": [{"name": "errors", "query": "up"}]}
    preflight = preflight_for(**tables(web), baseline=baseline)
    assert (check_monitoring(preflight).state, check_baseline(preflight).state) == ("failed", "failed")


@pytest.mark.parametrize("seconds", [2, None])
def test_a_prometheus_that_stays_away_fails_both_items(web: ScriptedWeb, seconds: float | None) -> None:
    web.seconds = seconds
    preflight = preflight_for(**tables(web), baseline={"queries": [{"name": "errors", "query": "up"}]})
    assert (check_monitoring(preflight).state, check_baseline(preflight).state) == ("failed", "failed")


def test_a_token_is_sent_and_its_reference_named_when_it_is_refused(
    web: ScriptedWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_TOKEN", "hidden-token")
    script(web, rule("ApiDown"))
    assert check_monitoring(preflight_for(**tables(web, token="env:PROMETHEUS_TOKEN"))).state == "passed"
    assert web.requests[-1][2]["Authorization"] == "Bearer hidden-token"
    web.answers["/api/v1/query"] = (403, "")
    check = check_monitoring(preflight_for(**tables(web, token="env:PROMETHEUS_TOKEN")))
    assert "env:PROMETHEUS_TOKEN" in check.next_step
    assert "hidden-token" not in check.model_dump_json()


def baseline_of(web: ScriptedWeb, *series: list[str], **settings: Any) -> Any:
    values = [{"metric": {}, "values": [[0, text] for text in one]} for one in series]
    web.answers = {"/api/v1/query_range": success({"resultType": "matrix", "result": values})}
    queries = [{"name": "errors", "query": "rate(errors[5m])"}]
    return check_baseline(preflight_for(**tables(web), baseline={"queries": queries, "samples": 4, **settings}))


def test_a_baseline_is_recorded_with_its_figures(web: ScriptedWeb) -> None:
    check = baseline_of(web, ["1", "2", "3"], ["10"], hours=48)
    assert check.state == "passed"
    figures = check.evidence["figures"]["errors"]
    assert figures == {"query": "rate(errors[5m])", "samples": 4, "least": 1, "median": 2.5, "p95": 10, "greatest": 10}
    asked = web.requests[-1][1]
    assert float(asked["end"]) == NOW.timestamp()
    assert float(asked["end"]) - float(asked["start"]) == 48 * 3600
    assert 48 * 3600 / float(asked["step"]) < 11_000


@pytest.mark.parametrize("series", [[], [["1", "2", "3"]], [["1", "2", "3", "NaN", "+Inf", "-Inf"]]])
def test_few_numbers_are_no_baseline_and_nan_is_no_number(web: ScriptedWeb, series: list[list[str]]) -> None:
    check = baseline_of(web, *series)
    assert check.state == "failed"
    assert "4 are asked for" in check.found


def test_what_nobody_configured_says_so() -> None:
    assert check_monitoring(preflight_for()).state == "not-configured"
    assert check_baseline(preflight_for()).state == "not-configured"


def test_a_summary_is_of_finite_numbers_by_nearest_rank() -> None:
    values = finite_values([{"values": [[0, str(number)] for number in range(1, 101)]}, {"values": [[0, "NaN"]]}, {}])
    assert summary(values) == {"samples": 100, "least": 1, "median": 50.5, "p95": 95, "greatest": 100}
    assert summary([]) == {"samples": 0}


def test_an_answer_that_says_itself_that_it_is_not_whole_is_no_answer(web: ScriptedWeb) -> None:
    script(web, rule("ApiDown"))
    assert check_monitoring(preflight_for(**tables(web))).state == "passed"
    targets = {"resultType": "vector", "result": [{"metric": {}, "value": [0, "1"]}]}
    script(web, rule("ApiDown"), targets=success(targets, warnings=["a store is away"]))
    check = check_monitoring(preflight_for(**tables(web)))
    assert (check.state, "not whole: a store is away" in check.found) == ("failed", True)
