"""Events of a watch: told within a run they name it; whatever happens to them, a tick goes on."""

import time
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.events.clients import AssertingEventsClient
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from core.redaction import register_secret
from tasks import watch_events
from tasks.watch_events import emit_watch_event, watch_resource
from tests.waiting import wait_until


@flow(name="post-deploy-watch")
def _tick(release_id: str) -> bool:
    register_secret("hunter2-events")
    return emit_watch_event("production", release_id, "tick", bucket=3, verdict="hunter2-events " + "x" * 1000)


@pytest.mark.services
@pytest.mark.xdist_group("prefect")
def test_an_event_of_a_run_is_in_the_servers_feed_and_names_run_and_flow(prefect_server: str) -> None:
    assert _tick("r-in-a-run")
    resource = watch_resource("production", "r-in-a-run")
    found: list[dict[str, Any]] = []

    def there() -> bool:
        query = {"filter": {"resource": {"id": [resource["prefect.resource.id"]]}}}
        found[:] = httpx.post(f"{prefect_server}/events/filter", json=query, timeout=20).json()["events"]
        return bool(found)

    wait_until(there, "the event", seconds=60)
    [event] = found
    assert (event["event"], event["resource"]) == ("nightshift.watch.tick", resource)
    assert resource["prefect.resource.id"] == "nightshift.watch.production.r-in-a-run"
    assert {one["prefect.resource.role"] for one in event["related"]} >= {"flow-run", "flow"}
    assert event["payload"]["bucket"] == 3
    assert ("hunter2" in event["payload"]["verdict"], len(event["payload"]["verdict"])) == (False, 300)


def test_without_a_server_nothing_is_told_and_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr("prefect.events.worker.EventsWorker.instance", lambda *_: started.append(1))
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert not emit_watch_event("production", "r-1", "tick")
    assert started == []


@pytest.mark.parametrize("broken", [RuntimeError("https://u:pa55@h/ is away"), ValueError("x" * 10_000)])
def test_whatever_prefect_raises_is_a_line_in_the_log(
    broken: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def emit_event(**_more: Any) -> None:
        raise broken

    monkeypatch.setattr("prefect.events.emit_event", emit_event)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), caplog.at_level("WARNING"):
        assert not emit_watch_event("production", "r-1", "began")
    assert ("pa55" in caplog.text, len(caplog.text) < 1000) == (False, True)


def test_one_that_hangs_costs_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_events, "LONGEST_SECONDS", 0.1)
    monkeypatch.setattr("prefect.events.emit_event", lambda **_more: time.sleep(6))
    begun = time.monotonic()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert not emit_watch_event("production", "r-1", "ended")
    assert time.monotonic() - begun < 5


def test_a_thousand_facts_are_twenty(monkeypatch: pytest.MonkeyPatch) -> None:
    AssertingEventsClient.reset()
    monkeypatch.setattr(EventsWorker, "_client_override", (AssertingEventsClient, ()))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert emit_watch_event("production", "r-1", "tick", **{f"fact{n}": n for n in range(1000)})
        EventsWorker.instance().drain()
    told = [event for client in AssertingEventsClient.all for event in client.events]
    assert [len(event.payload) for event in told] == [20]
