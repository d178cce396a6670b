"""The alerts of a watch: new, already there, or told to nobody; one alert however often it ends and begins; and whatever Alertmanager answers."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from core.environment_watch_alerts import WatchAlerts
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.watch_alerts import Alert, AlertsLook, AlertsSeen, State, alerts_after, alerts_findings, fitted
from tasks.watch_alerts import look_at_alerts
from tests.fix_web_script import Asked, Reply, WebScript

BEGUN = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def alert(name: str, minutes: float, state: State = "active", *, fingerprint: str = "", summary: str = "") -> Alert:
    """An alert that began so many minutes after the watch."""
    return Alert(fingerprint or f"{name}-f", name, "job=api", summary, BEGUN + minutes * MINUTE, state)


def look(*alerts: Alert, heartbeat: bool | None = None) -> AlertsLook:
    return AlertsLook(BEGUN, alerts, heartbeat)


def seen_after(*looks: AlertsLook) -> AlertsSeen:
    """What is seen after looks at buckets 1, 2, …"""
    seen = None
    for bucket, one in enumerate(looks, start=1):
        seen = alerts_after(seen, one, bucket=bucket)
    assert seen is not None
    return seen


def told(seen: AlertsSeen) -> list[tuple[str, str]]:
    return [(one.severity, one.text) for one in alerts_findings(seen)]


def test_an_alert_that_begins_after_the_release_is_a_warning_with_its_begin_labels_and_summary() -> None:
    seen = seen_after(look(), look(alert("HighErrorRate", 7, summary="12 % fail")))
    assert told(seen) == [
        (
            "warning",
            'alert HighErrorRate since the release, began 2026-11-26 10:07 UTC, first seen in bucket 2, still firing (job=api): "12 % fail"',
        )
    ]


def test_one_that_fires_in_the_first_minutes_is_new_although_it_is_there_at_the_first_look() -> None:
    assert told(seen_after(look(alert("HighErrorRate", 2))))[0][0] == "warning"


def test_one_that_was_there_before_is_a_note_whenever_it_is_first_seen() -> None:
    for looks in ([look(alert("Old", -30))], [look(), look(), look(alert("Old", -30))]):
        assert told(seen_after(*looks)) == [("note", "1 alert fired before the release already: Old")]


def test_a_prometheus_that_was_restarted_makes_no_old_alert_new() -> None:
    seen = seen_after(look(alert("Old", -30)), look(alert("Old", 6)))
    assert [one for one, _ in told(seen)] == ["note", "note"]
    assert "alert Old, which fired before the release already, began again" in told(seen)[0][1]


def test_an_alert_that_resolves_and_fires_again_is_one_with_two_episodes() -> None:
    seen = seen_after(look(), look(alert("Flaps", 7)), look(), look(alert("Flaps", 17)))
    [(severity, text)] = told(seen)
    assert (severity, "began 2026-11-26 10:17 UTC, first seen in bucket 2, 2 episodes, still firing" in text) == (
        "warning",
        True,
    )


def test_an_alertmanager_that_lost_its_alerts_for_a_moment_makes_no_episode() -> None:
    seen = seen_after(look(alert("Stays", 7)), look(), look(alert("Stays", 7)))
    assert "episodes" not in told(seen)[0][1]


def test_one_that_is_over_says_until_when() -> None:
    seen = seen_after(look(), look(alert("Short", 7)), look(), look())
    assert "gone after bucket 2" in told(seen)[0][1]


@pytest.mark.parametrize("state", ["silenced", "inhibited"])
def test_one_that_nobody_is_told_of_is_a_note_and_says_why(state: State) -> None:
    assert told(seen_after(look(alert("Quiet", 7, state)))) == [
        ("note", f"1 new alert nobody is told of: Quiet ({state})")
    ]


def test_one_that_is_silenced_after_it_fired_stays_a_warning_and_says_so() -> None:
    [(severity, text)] = told(seen_after(look(alert("Loud", 7)), look(alert("Loud", 7, "silenced"))))
    assert (severity, "now silenced" in text) == ("warning", True)


def test_one_that_was_silenced_first_and_then_fires_is_a_warning() -> None:
    seen = seen_after(look(alert("Late", 7, "silenced")), look(alert("Late", 7)), look(alert("Late", 7, "inhibited")))
    [(severity, text)] = told(seen)
    assert (severity, "now inhibited" in text) == ("warning", True)


def test_of_one_fingerprint_twice_in_a_look_the_active_counts() -> None:
    seen = seen_after(look(alert("Twice", 7), alert("Twice", 7, "silenced")))
    assert [(one.severity) for one in alerts_findings(seen)] == ["warning"]


def test_none_at_all_is_a_note_since_it_may_be_the_matchers() -> None:
    assert [severity for severity, _ in told(seen_after(look(), look()))] == ["note"]
    assert "name none rightly" in told(seen_after(look()))[0][1]


def test_without_the_alert_that_always_fires_none_is_no_good_sign() -> None:
    seen = seen_after(look(heartbeat=True), look(heartbeat=False), look(heartbeat=False), look(heartbeat=True))
    [(severity, text), _] = told(seen)
    assert (severity, "first in bucket 2, last in bucket 3" in text) == ("warning", True)


def test_a_storm_is_counted_where_it_is_not_kept() -> None:
    storm = [alert(f"A{n:03}", 7, fingerprint=f"{n:016x}") for n in range(500)]
    findings = told(seen_after(look(*storm)))
    assert len(findings) == 9
    assert findings[-1] == ("warning", "492 or more further alerts since the release")


times = st.floats(-60, 1440).map(lambda minutes: BEGUN + minutes * MINUTE)
words = st.text(max_size=80) | st.sampled_from(["\U0001f4a5" * 90, '"\\' * 200, "ä" * 300, "\x00\x1b[31m", "\ud800"])
# Few fingerprints, so that alerts come again; and some hundred, so that there is no room.
prints = st.integers(0, 6).map(lambda n: f"{n:016x}") | st.integers(0, 600).map(lambda n: f"{n:016x}")
alerts = st.builds(Alert, prints, words, words, words, times, st.sampled_from(["active", "silenced", "inhibited"]))
looks_in_turn = st.lists(
    st.builds(
        AlertsLook, st.just(BEGUN), st.lists(alerts, max_size=40).map(tuple), st.sampled_from([None, True, False])
    ),
    min_size=1,
    max_size=5,
)


@examples(max_examples=40)
@given(looks_in_turn)
def test_the_same_look_again_changes_nothing_and_the_record_stays_small(looks: list[AlertsLook]) -> None:
    seen = None
    for bucket, one in enumerate(looks, start=1):
        seen = alerts_after(seen, one, bucket=bucket)
        assert alerts_after(seen, one, bucket=bucket) == seen
        stored = seen.model_dump_json()
        assert AlertsSeen.model_validate_json(stored) == seen
        assert len(json.dumps(seen.model_dump(mode="json"))) <= 20_000
        findings = alerts_findings(seen)
        assert len(findings) <= 18
        assert all(len(finding.text) <= 900 for finding in findings)


@examples(max_examples=40)
@given(looks_in_turn)
def test_whatever_began_after_the_watch_and_was_not_there_before_is_told(looks: list[AlertsLook]) -> None:
    seen = seen_after(*looks)
    before = {one.fingerprint for one in looks[0].alerts if one.starts <= BEGUN}
    fresh = {one.fingerprint for one in looks[0].alerts if one.starts > BEGUN and one.state == "active"} - before
    severities = [one.severity for one in alerts_findings(seen)]
    assert not fresh or "warning" in severities


def test_the_fullest_record_stays_within_its_bound() -> None:
    long = "\U0001f4a5" * 200
    many = [
        Alert(f"{n:016x}", long, long, long, BEGUN + MINUTE * (n % 900 - 400), "active" if n % 3 else "silenced")
        for n in range(2000)
    ]
    again = [Alert(f"{n:016x}", long, long, long, BEGUN + MINUTE * 5, "active") for n in range(2000)]
    seen = seen_after(look(*many), look(*again), look(*again), look(*many))
    assert len(seen.alerts) == 20
    assert len(json.dumps(seen.model_dump(mode="json"))) <= 20_000


@given(st.text(max_size=400), st.integers(20, 200))
def test_a_text_is_cut_to_its_bytes_on_one_line(text: str, size: int) -> None:
    found = fitted(text, size)
    assert len(json.dumps(found)) - 2 <= size
    assert found.isprintable()
    assert found.endswith("…") or found == "".join(one for one in " ".join(text.split()) if one.isprintable())


# --- Alertmanager's answers


def answered(name: str = "HighErrorRate", **more: Any) -> dict[str, Any]:
    """An alert as API v2 writes it."""
    return {
        "annotations": {"summary": "12 % fail"},
        "endsAt": "2026-11-26T10:12:00.000Z",
        "fingerprint": "9a1c5c3e0b7d2f44",
        "receivers": [{"name": "web"}],
        "startsAt": "2026-11-26T10:07:00.123456789Z",
        "status": {"inhibitedBy": [], "silencedBy": [], "state": "active"},
        "updatedAt": "2026-11-26T10:08:00.000Z",
        "labels": {"alertname": name, "job": "api", "severity": "page", "namespace": "production"},
        **more,
    }


def settings(web: WebScript, **more: Any) -> WatchAlerts:
    return WatchAlerts(url=web.address, **more)


def test_the_look_asks_for_all_states_by_the_matchers_and_signs_in(
    web_script: WebScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALERT_TOKEN", "alert-token-1")
    web_script.always([answered()])
    matchers = ('namespace="production"', 'severity=~"page|critical"')
    found = look_at_alerts(settings(web_script, token="env:ALERT_TOKEN", matchers=matchers), begun=BEGUN)
    [asked] = web_script.asked
    assert (asked.method, asked.path, asked.headers["authorization"]) == (
        "GET",
        "/api/v2/alerts",
        "Bearer alert-token-1",
    )
    assert asked.query["filter"] == list(matchers)
    assert [asked.query[name] for name in ("active", "silenced", "inhibited")] == [["true"]] * 3
    [one] = found.alerts
    assert (one.name, one.about, one.summary, one.state) == (
        "HighErrorRate",
        "severity=page, job=api, namespace=production",
        "12 % fail",
        "active",
    )
    assert one.starts == datetime(2026, 11, 26, 10, 7, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({"state": "suppressed", "silencedBy": ["x"], "inhibitedBy": ["y"]}, "silenced"),
        ({"state": "suppressed", "silencedBy": [], "inhibitedBy": ["y"]}, "inhibited"),
        ({"state": "unprocessed", "silencedBy": [], "inhibitedBy": []}, "active"),
    ],
)
def test_the_states_of_the_api(web_script: WebScript, status: dict[str, Any], state: str) -> None:
    web_script.always([answered(status=status)])
    assert look_at_alerts(settings(web_script), begun=BEGUN).alerts[0].state == state


def test_secrets_in_labels_and_annotations_are_masked(web_script: WebScript, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_USER", "alert-user")
    monkeypatch.setenv("ALERT_PASSWORD", "hunter2-alerts")
    labels = {"alertname": "Leak", "url": "https://user:pa55word@db/", "note": "hunter2-alerts"}
    web_script.always([answered(labels=labels, annotations={"message": "password=letmein hunter2-alerts"})])
    signed = settings(web_script, username="env:ALERT_USER", password="env:ALERT_PASSWORD")
    shown = repr(look_at_alerts(signed, begun=BEGUN))
    assert not any(secret in shown for secret in ("pa55word", "hunter2-alerts", "letmein"))


def test_the_alert_that_always_fires_is_asked_for_by_itself_and_is_none_of_the_others(web_script: WebScript) -> None:
    def reply(asked: Asked) -> Reply:
        by_name = asked.query.get("filter") == ['alertname="Watchdog"']
        return Reply([answered("Watchdog")] if by_name else [answered("Watchdog"), answered()])

    web_script.reply = reply
    found = look_at_alerts(settings(web_script, heartbeat="Watchdog"), begun=BEGUN)
    assert (found.heartbeat, [one.name for one in found.alerts]) == (True, ["HighErrorRate"])
    web_script.always([])
    assert look_at_alerts(settings(web_script, heartbeat="Watchdog"), begun=BEGUN).heartbeat is False


RUBBISH = {
    "no JSON": b"<html>sign in</html>",
    "empty": b"",
    "an empty object": {},
    "an object": {"status": "success", "data": []},
    "null": None,
    "a number": 7,
    "texts": ["a", "b"],
    "lists": [[]],
    "no labels": [answered(labels=None)],
    "labels of numbers": [answered(labels={"alertname": 7})],
    "no begin": [answered(startsAt=None)],
    "a begin without a zone": [answered(startsAt="2026-11-26T10:07:00")],
    "a begin at the end of time": [answered(startsAt="9999-12-31T23:59:59-10:00")],
    "no status": [answered(status="active")],
    "a state of no API": [answered(status={"state": "asleep"})],
    "no fingerprint": [answered(fingerprint=None)],
    "deep": b"[" * 100_000,
    "many digits": b"[" + b"9" * 5000 + b"]",
    "bytes": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("content", RUBBISH.values(), ids=RUBBISH.keys())
def test_rubbish_is_one_sentence(web_script: WebScript, content: Any) -> None:
    web_script.always(content)
    with pytest.raises(PermanentError, match="Alertmanager") as caught:
        look_at_alerts(settings(web_script), begun=BEGUN)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_odd_texts_are_alerts_like_any_other(web_script: WebScript) -> None:
    odd = b'[{"labels":{"alertname":"\\ud800\\u202e\\u0000<b>"},"annotations":{},"fingerprint":"\\ud83d","startsAt":"2026-11-26T10:07:00Z","status":{"state":"active"}}]'
    web_script.always(odd)
    seen = alerts_after(None, look_at_alerts(settings(web_script), begun=BEGUN), bucket=1)
    assert seen.alerts[0].name == "<b>"
    assert len(seen.alerts[0].fingerprint) == 16


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (302, PermanentError, "302"),
        (400, PermanentError, "watch.alerts.matchers"),
        (401, PermanentError, "watch.alerts.token"),
        (404, PermanentError, "watch.alerts.url"),
        (429, TemporaryError, "429"),
        (500, TemporaryError, "500"),
        (503, TemporaryError, "503"),
    ],
)
def test_an_error_says_what_can_be_done(
    web_script: WebScript, status: int, kind: type[NightshiftError], said: str
) -> None:
    web_script.always(b"no", status, headers={"Location": "http://127.0.0.1:9/"})
    with pytest.raises(kind, match=said):
        look_at_alerts(settings(web_script), begun=BEGUN)
    assert len(web_script.asked) == (2 if kind is TemporaryError else 1)


def test_one_failure_is_asked_again(web_script: WebScript) -> None:
    replies = [Reply(status=0), Reply([])]
    web_script.reply = lambda _asked: replies.pop(0)
    assert look_at_alerts(settings(web_script), begun=BEGUN).alerts == ()


def test_who_asks_to_be_left_alone_for_long_is_not_waited_for(web_script: WebScript) -> None:
    web_script.always(b"busy", 429, headers={"Retry-After": "20"})
    begun = datetime.now(UTC)
    with pytest.raises(TemporaryError, match="wait 20 s"):
        look_at_alerts(settings(web_script), begun=BEGUN)
    assert datetime.now(UTC) - begun < timedelta(seconds=2)


def test_an_answer_without_end_is_not_read_to_its_end(web_script: WebScript) -> None:
    web_script.always(b"[" + b" " * 9 * 1024 * 1024 + b"]")
    with pytest.raises(PermanentError, match="larger than 8 MiB"):
        look_at_alerts(settings(web_script), begun=BEGUN)


def test_one_that_is_away_is_temporary(web_script: WebScript) -> None:
    web_script.close()
    with pytest.raises(TemporaryError, match="no answer"):
        look_at_alerts(settings(web_script), begun=BEGUN)


@pytest.mark.services
@pytest.mark.parametrize(
    "reply",
    [Reply([], seconds=5), Reply(b" " * 400, drip=0.1), Reply(header_drip=0.1)],
    ids=["silent", "drop by drop", "header by letter"],
)
def test_a_slow_one_costs_a_tick_some_seconds_at_most(web_script: WebScript, reply: Reply) -> None:
    web_script.reply = lambda _asked: reply
    begun = datetime.now(UTC)
    with pytest.raises(TemporaryError):
        look_at_alerts(settings(web_script), begun=BEGUN)
    assert datetime.now(UTC) - begun < timedelta(seconds=10)


@pytest.mark.parametrize(
    "url", ["http://[", "http://127.0.0.1:99999999", "http://127.0.0.1:0", "ftp://x", "http://u:p@x"]
)
def test_an_address_that_is_none_is_refused_by_the_settings(url: str) -> None:
    with pytest.raises(ValueError, match="url"):
        WatchAlerts(url=url)


@pytest.mark.parametrize("url", ["http://ex%zzample"])
def test_an_address_that_is_none_is_an_error_of_ours(url: str) -> None:
    with pytest.raises(NightshiftError):
        look_at_alerts(WatchAlerts(url=url), begun=BEGUN)


def test_a_ca_file_that_is_none_is_named(web_script: WebScript) -> None:
    with pytest.raises(ConfigurationError, match=r"watch\.alerts\.ca_file"):
        look_at_alerts(settings(web_script, ca_file="/no/such.pem"), begun=BEGUN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"matchers": ["namespace=production"]},
        {"matchers": ['up{namespace="x"}']},
        {"matchers": ['a="b"&active="false"']},
        {"url": "ftp://alerts"},
        {"url": "https://user:secret@alerts"},
        {"token": "env:A", "username": "env:B", "password": "env:C"},
        {"username": "env:B"},
        {"heartbeat": 'x"}'},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WatchAlerts(**{"url": "http://alerts:9093", **wrong})
