"""The alerts of a watch, asked of a real Alertmanager: posted, silenced, inhibited, resolved, fired again; killed and back."""

from datetime import UTC, datetime, timedelta

import pytest

from core.errors import PermanentError, TemporaryError
from core.watch_alerts import AlertsLook, alerts_after, alerts_findings
from tasks.watch_alerts import look_at_alerts
from tests.fix_alertmanager import Alertmanager
from tests.waiting import wait_until

pytestmark = pytest.mark.services
BEGUN = datetime.now(UTC) - timedelta(minutes=10)
BEFORE, SINCE, LATER = (BEGUN + timedelta(minutes=minutes) for minutes in (-60, 2, 6))


def look(server: Alertmanager, **more: object) -> AlertsLook:
    return look_at_alerts(server.settings(**more), begun=BEGUN)


def states(server: Alertmanager) -> dict[str, str]:
    return {one.name: one.state for one in look(server).alerts}


def test_new_old_silenced_and_inhibited_alerts_are_told_apart(alertmanager: Alertmanager) -> None:
    alertmanager.fire("Old", BEFORE)
    seen = alerts_after(None, look(alertmanager), bucket=1)
    for name in ("HighErrorRate", "Quiet", "Cause", "Symptom"):
        alertmanager.fire(name, SINCE, severity="page")
    alertmanager.silence("Quiet")
    expected = {"Old": "active", "HighErrorRate": "active", "Quiet": "silenced", "Cause": "active"} | {
        "Symptom": "inhibited"
    }
    wait_until(lambda: states(alertmanager) == expected, "the states are told")
    seen = alerts_after(seen, look(alertmanager), bucket=2)
    told = [(one.severity, one.text) for one in alerts_findings(seen)]
    began = f"since the release, began {SINCE:%Y-%m-%d %H:%M} UTC, first seen in bucket 2, still firing (severity=page, namespace=production)"
    assert sorted(told[:2]) == [
        ("warning", f'alert Cause {began}: "Cause it is"'),
        ("warning", f'alert HighErrorRate {began}: "HighErrorRate it is"'),
    ]
    assert [severity for severity, _ in told[2:]] == ["note", "note"]
    assert "2 new alerts nobody is told of" in told[2][1]
    assert "Quiet (silenced)" in told[2][1]
    assert "Symptom (inhibited)" in told[2][1]
    assert told[3][1] == "1 alert fired before the release already: Old"


def test_one_that_resolves_and_fires_again_is_one_with_two_episodes(alertmanager: Alertmanager) -> None:
    alertmanager.fire("Flaps", SINCE)
    seen = alerts_after(None, look(alertmanager), bucket=1)
    alertmanager.resolve("Flaps", SINCE)
    wait_until(lambda: not states(alertmanager), "it is over")
    seen = alerts_after(seen, look(alertmanager), bucket=2)
    assert "gone after bucket 1" in alerts_findings(seen)[0].text
    # Alertmanager takes the earlier begin for as long as the two episodes touch.
    again = datetime.now(UTC) + timedelta(seconds=1)
    alertmanager.fire("Flaps", again)
    seen = alerts_after(seen, look(alertmanager), bucket=3)
    [finding] = alerts_findings(seen)
    assert "2 episodes, still firing" in finding.text
    assert len(seen.alerts) == 1


def test_one_that_was_killed_and_came_back_changes_nothing(alertmanager: Alertmanager) -> None:
    alertmanager.fire("Old", BEFORE)
    alertmanager.fire("Stays", SINCE)
    alertmanager.silence("Old")
    wait_until(lambda: states(alertmanager).get("Old") == "silenced", "the silence is in force")
    seen = alerts_after(None, look(alertmanager), bucket=1)
    alertmanager.kill()
    with pytest.raises(TemporaryError, match="no answer"):
        look(alertmanager)
    alertmanager.start()
    # It keeps silences, not alerts: until Prometheus sends them again there are none.
    seen = alerts_after(seen, look(alertmanager), bucket=2)
    assert "gone after bucket 1" in alerts_findings(seen)[0].text
    alertmanager.fire("Old", BEFORE)
    alertmanager.fire("Stays", SINCE)
    seen = alerts_after(seen, look(alertmanager), bucket=3)
    [stays, old] = alerts_findings(seen)
    assert (stays.severity, "still firing" in stays.text, "episodes" in stays.text) == ("warning", True, False)
    assert (old.severity, old.text) == ("note", "1 alert fired before the release already: Old")


def test_matchers_narrow_and_a_missing_watchdog_is_seen(alertmanager: Alertmanager) -> None:
    alertmanager.fire("Ours", SINCE)
    alertmanager.fire("Theirs", SINCE, namespace="staging")
    alertmanager.fire("Watchdog", BEFORE)
    found = look(alertmanager, matchers=('namespace=~"prod.*"', 'severity!="none"'), heartbeat="Watchdog")
    assert ([one.name for one in found.alerts], found.heartbeat) == (["Ours"], True)
    assert look(alertmanager, heartbeat="DeadMansSwitch").heartbeat is False
    with pytest.raises(PermanentError, match=r"400.*watch\.alerts\.matchers"):
        look(alertmanager, matchers=('namespace=~"("',))
