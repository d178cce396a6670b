"""Annotations of Grafana: a release's hand-over and its watch, each once, with the tags that the dashboard shows; and whatever Grafana answers."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from core.environment_watch_grafana import WatchGrafana
from core.evidence import Finding
from core.grafana_annotation import Annotation, handed_over, watched
from deployments.local.data_folder import CHECKOUT
from tasks.grafana_annotations import annotate
from tests.fix_web_script import Asked, Reply, WebScript

FIRST = datetime(2026, 11, 26, 10, 5, tzinfo=UTC)
RELEASE = "r-0123456789ab"
WATCHED = watched("production", RELEASE, FIRST, FIRST + timedelta(days=1), "healthy: 288 of 288 buckets seen")


class Grafana:
    """As far as annotations go (pkg/api/annotations.go): found by all tags that are asked for, refused without a text. `lost`: made, but nobody is told."""

    def __init__(self, script: WebScript) -> None:
        self.kept: list[dict[str, Any]] = []
        self.lost = False
        script.reply = self._reply

    def _reply(self, asked: Asked) -> Reply:
        if asked.method == "GET":
            tags = set(asked.query["tags"])
            return Reply([one for one in self.kept if tags <= set(one["tags"])])
        if not asked.document["text"]:
            return Reply({"message": "Failed to save annotation"}, 400)
        self.kept.append({"id": len(self.kept) + 1, **asked.document})
        return Reply(status=0) if self.lost else Reply({"message": "Annotation added", "id": len(self.kept)})


def settings(web: WebScript, **more: Any) -> WatchGrafana:
    return WatchGrafana(url=web.address, **more)


def dashboard_tags() -> list[str]:
    dashboard = json.loads((CHECKOUT / "deployments/observability/platform-dashboard.json").read_text())
    [shown] = [one for one in dashboard["annotations"]["list"] if one["target"]["type"] == "tags"]
    assert shown["target"]["matchAny"] is False
    tags: list[str] = shown["target"]["tags"]
    return tags


def test_a_hand_over_is_a_moment_and_a_watch_a_region_with_the_tags_that_the_dashboard_shows(
    web_script: WebScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", "glsa-token-1")
    grafana = Grafana(web_script)
    signed = settings(web_script, token="env:GRAFANA_TOKEN", tags=("team-a",), dashboard_uid="nightshift-platform")
    notes = [annotate(signed, one) for one in (handed_over("production", RELEASE, FIRST, "api 2.1"), WATCHED)]
    assert [one.severity for one in notes] == ["note", "note"]
    moment, region = grafana.kept
    assert (moment["time"], "timeEnd" in moment, moment["text"]) == (1_795_687_500_000, False, "api 2.1")
    assert (region["time"], region["timeEnd"]) == (1_795_687_500_000, 1_795_773_900_000)
    assert region["text"] == "healthy: 288 of 288 buckets seen"
    for one in grafana.kept:
        assert {*dashboard_tags(), RELEASE, "production", "team-a"} <= set(one["tags"])
        assert one["dashboardUID"] == "nightshift-platform"
    assert {asked.headers["authorization"] for asked in web_script.asked} == {"Bearer glsa-token-1"}


def test_the_same_again_makes_no_second_one(web_script: WebScript) -> None:
    grafana = Grafana(web_script)
    texts = [annotate(settings(web_script), WATCHED).text for _ in range(3)]
    assert len(grafana.kept) == 1
    assert texts == [
        f"Grafana shows the watch of {RELEASE} (annotation 1)",
        *[f"Grafana showed already the watch of {RELEASE} (annotation 1)"] * 2,
    ]


def test_another_release_and_another_kind_are_others(web_script: WebScript) -> None:
    grafana = Grafana(web_script)
    for one in (WATCHED, handed_over("production", RELEASE, FIRST, "x"), handed_over("production", "r-2", FIRST, "y")):
        annotate(settings(web_script), one)
    assert len(grafana.kept) == 3


def test_one_that_was_made_without_an_answer_is_found_and_not_made_again(web_script: WebScript) -> None:
    grafana = Grafana(web_script)
    grafana.lost = True
    assert annotate(settings(web_script), WATCHED).severity == "note"
    assert len(grafana.kept) == 1


def test_a_server_that_ignores_the_tags_does_not_pass_another_release_off_as_this_one(web_script: WebScript) -> None:
    other = [{"id": 7, "tags": ["nightshift", "release", "r-other"]}, {"id": 8, "tags": None}]
    web_script.reply = lambda asked: Reply(other if asked.method == "GET" else {"id": 9})
    assert annotate(settings(web_script), WATCHED).text.endswith("(annotation 9)")


def test_a_text_from_outside_is_masked_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    told = handed_over("production", RELEASE, FIRST, "https://u:pa55@h/ " + "x" * 2000)
    assert ("pa55" in told.text, len(told.text)) == (False, 500)
    assert handed_over("production", RELEASE, FIRST, "").text == f"production: release {RELEASE}"


def _only_get(content: Any) -> Callable[[Asked], Reply]:
    return lambda asked: Reply([]) if asked.method == "GET" else Reply(content)


@pytest.mark.parametrize(
    "reply",
    [
        lambda _asked: Reply(b"<html>sign in</html>"),
        lambda _asked: Reply({}),
        lambda asked: Reply({} if asked.method == "GET" else {"id": 3}),
        lambda _asked: Reply([7]),
        lambda _asked: Reply([{"tags": [["a"]]}]),
        lambda _asked: Reply([{"tags": list(WATCHED.identity), "id": "x"}]),
        lambda _asked: Reply(b"", 302, {"Location": "/login"}),
        lambda _asked: Reply({"message": "Unauthorized"}, 401),
        lambda _asked: Reply({"message": "Dashboard not found"}, 404),
        lambda _asked: Reply(b"", 500),
        lambda _asked: Reply(status=0),
        _only_get({"message": "Annotation added"}),
        _only_get([]),
        _only_get(None),
        _only_get(b"[" * 100_000),
        lambda asked: Reply([]) if asked.method == "GET" else Reply({"message": "Permission denied"}, 403),
    ],
)
def test_whatever_it_answers_is_a_finding(web_script: WebScript, reply: Callable[[Asked], Reply]) -> None:
    web_script.reply = reply
    finding = annotate(settings(web_script), WATCHED)
    assert finding.severity == "warning"
    assert finding.text.startswith(f"Grafana does not show the watch of {RELEASE}: could not ask Grafana")
    assert "\n" not in finding.text
    assert sum(asked.method == "POST" for asked in web_script.asked) <= 1


@pytest.mark.parametrize("more", [{"token": "env:NO_SUCH_TOKEN"}, {"ca_file": "/no/such.pem"}])
def test_a_secret_or_file_that_is_missing_is_a_finding(web_script: WebScript, more: dict[str, str]) -> None:
    finding = annotate(settings(web_script, **more), WATCHED)
    assert (finding.severity, web_script.asked) == ("warning", [])


def test_one_that_is_away_is_a_finding(web_script: WebScript) -> None:
    web_script.close()
    assert isinstance(annotate(settings(web_script), WATCHED), Finding)


def test_tags_fit_what_grafana_keeps() -> None:
    longest = WatchGrafana(url="http://g", tags=tuple(f"{n}{'t' * 39}" for n in range(5)))
    environment = "e" * 40
    told: Annotation = watched(environment, RELEASE, FIRST, FIRST, "x")
    assert len(json.dumps([*told.identity, *longest.tags])) <= 500
    for wrong in ({"tags": ["a b"]}, {"tags": ["x", "x"]}, {"dashboard_uid": "../admin"}, {"url": "grafana"}):
        with pytest.raises(ValidationError):
            WatchGrafana(**{"url": "http://g", **wrong})
