"""The table [release.gates]: safe by default, and wrong values named before anything runs."""

from typing import Any

import pytest
from pydantic import ValidationError

from core.environment_gates import Gates


def test_nothing_is_required_and_nothing_is_asked_without_an_address() -> None:
    gates = Gates()
    assert (gates.prometheus_url, gates.minimum_requests, gates.hold_minutes) == (None, 100, 15)


def test_the_default_selectors_are_valid_and_leave_out_health_probes() -> None:
    gates = Gates()
    again = Gates(requests=gates.requests, durations=gates.durations, targets=gates.targets)
    assert again == gates
    assert 'route!~"/health|/ready|/metrics"' in gates.requests


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"prometheus_url": "prometheus:9090"}, "begins with http"),
        ({"prometheus_url": "http://prometheus:99999"}, "Port out of range"),
        ({"prometheus_url": "https://me:secret@prometheus"}, "without user, password"),
        ({"requests": "sum(http_requests_total{pod=~'{pods}'})"}, "no function"),
        ({"requests": 'http_requests_total{status="200"}'}, "with {pods}"),
        ({"requests": 'increase(http_requests_total{pod=~"{pods}"}[5m])'}, "no function"),
        ({"requests": 'a{pod=~"{pods}"} or vector(0)'}, "no function"),
        ({"targets": 'up{pod="x"}'}, "with {pods}"),
        ({"durations": 'd_bucket{pod=~"{pods}",le="1"}'}, "without a matcher of le"),
        ({"error_values": "5["}, "a regular expression"),
        ({"error_values": ".*"}, "what failed"),
        ({"error_ratio_max": 0}, "greater than 0"),
        ({"error_ratio_max": 1.5}, "less than 1"),
        ({"error_ratio_max": float("nan")}, "less than 1"),
        ({"error_ratio_max": 0.0001}, "ratio_ignored is at most"),
        ({"error_ratio_factor": 0.5}, "greater than or equal to 1"),
        ({"minimum_requests": 1}, "greater than or equal to 10"),
        ({"fresh_seconds": 400}, "at most window_seconds"),
        ({"slow_seconds": float("inf")}, "less than or equal to 3600"),
        ({"prometheus_username": "env:A"}, "go together"),
        ({"prometheus_username": "env:A", "prometheus_password": "env:B", "prometheus_token": "env:C"}, "not both"),
        ({"prometheus_token": "a-token-itself"}, "not a secret reference"),
        ({"health_path": "health"}, "pattern"),
        ({"port": 0}, "greater than or equal to 1"),
        ({"queries": "x"}, "Extra inputs"),
    ],
)
def test_a_wrong_value_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Gates.model_validate(wrong)
    assert said in str(caught.value)


def test_empty_takes_a_comparison_or_a_query_away() -> None:
    gates = Gates.model_validate(
        {"error_ratio_factor": "", "durations": "", "targets": "", "port": "", "prometheus_url": ""}
    )
    assert (gates.error_ratio_factor, gates.durations, gates.targets, gates.port) == (None, None, None, None)
