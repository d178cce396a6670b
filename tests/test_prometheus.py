"""The client of Prometheus: a whole answer of the time that was asked for, or an error that says what to do."""

import base64
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.environment_gates import Gates
from core.errors import ConfigurationError, PermanentError, TemporaryError
from tasks.prometheus import PartialAnswerError, PrometheusClient
from tasks.prometheus_answers import Rule
from tests.fix_prometheus_api import PrometheusApi

AT = 1_764_000_000.0
BAD_QUERY = '{"status":"error","errorType":"bad_data","error":"invalid parameter \\"query\\": 1:3: parse error"}'


@pytest.fixture
def paused() -> list[float]:
    return []


@pytest.fixture
def client(prometheus_api: PrometheusApi, paused: list[float]) -> Iterator[PrometheusClient]:
    with PrometheusClient(prometheus_api.address, sleep=paused.append) as opened:
        yield opened


def vector(*values: str, at: float = AT) -> list[dict[str, object]]:
    return [{"metric": {"pod": f"p{n}"}, "value": [at, value]} for n, value in enumerate(values)]


def test_a_query_goes_by_post_with_its_time_and_answers_with_samples(
    prometheus_api: PrometheusApi, client: PrometheusClient
) -> None:
    prometheus_api.kind, prometheus_api.answer = "vector", lambda _query, at: vector("1.5", at=at)
    [sample] = client.query("up", AT)
    assert (sample.labels, sample.at, sample.value) == ({"pod": "p0"}, AT, 1.5)
    [(path, form, _)] = prometheus_api.asked
    assert (path, form["query"], form["time"], form["timeout"]) == ("/api/v1/query", "up", "1764000000.000", "30s")


def test_empty_zero_and_nan_are_three_things(prometheus_api: PrometheusApi, client: PrometheusClient) -> None:
    prometheus_api.kind = "vector"
    assert client.query("up", AT) == ()
    prometheus_api.answer = lambda _query, _at: vector("0", "NaN", "+Inf")
    zero, nan, infinite = (sample.value for sample in client.query("up", AT))
    assert (zero, math.isnan(nan), infinite) == (0, True, math.inf)


def test_a_scalar_is_one_sample_without_labels(prometheus_api: PrometheusApi, client: PrometheusClient) -> None:
    prometheus_api.kind, prometheus_api.answer = "scalar", lambda _query, at: [at, "1"]  # type: ignore[list-item]
    assert [(sample.labels, sample.value) for sample in client.query("1", AT)] == [({}, 1)]


def test_the_samples_themselves_come_from_a_range_selector(
    prometheus_api: PrometheusApi, client: PrometheusClient
) -> None:
    prometheus_api.answer = lambda _query, at: [{"metric": {"pod": "a"}, "values": [[at - 20, "1"], [at - 5, "3"]]}]
    [series] = client.samples('up{pod="a"}', seconds=300, at=AT)
    assert series.points == ((AT - 20, 1), (AT - 5, 3))
    assert prometheus_api.queries == ['up{pod="a"}[300s]']


def test_a_range_query_gives_series(prometheus_api: PrometheusApi, client: PrometheusClient) -> None:
    prometheus_api.answer = lambda _query, at: [{"metric": {}, "values": [[at - 60, "1"], [at, "NaN"]]}]
    [series] = client.query_range("up", start=AT - 60, end=AT, step=60)
    assert [time for time, _ in series.points] == [AT - 60, AT]
    assert prometheus_api.asked[0][1]["step"] == "60"


@pytest.mark.parametrize("away", [-400.0, -30.0, 30.0])
def test_an_answer_of_another_time_is_refused(
    prometheus_api: PrometheusApi, client: PrometheusClient, away: float
) -> None:
    prometheus_api.kind, prometheus_api.answer = "vector", lambda _query, at: vector("1", at=at + away)
    with pytest.raises(TemporaryError, match="of another time"):
        client.query("up", AT)
    prometheus_api.kind = "matrix"
    prometheus_api.answer = lambda _query, at: [{"metric": {}, "values": [[at - 400 if away < 0 else at + 30, "1"]]}]
    with pytest.raises(TemporaryError, match="of another time"):
        client.samples("up", seconds=300, at=AT)


def test_a_bad_query_is_permanent_and_says_what_prometheus_says(
    prometheus_api: PrometheusApi, client: PrometheusClient, paused: list[float]
) -> None:
    prometheus_api.always = (400, BAD_QUERY, {})
    with pytest.raises(PermanentError, match=r"400: invalid parameter .query.: 1:3: parse error"):
        client.query("up{", AT)
    assert paused == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (422, PermanentError),
        (401, ConfigurationError),
        (403, ConfigurationError),
        (404, ConfigurationError),
        (302, ConfigurationError),
    ],
)
def test_what_does_not_mend_itself_is_not_repeated(
    prometheus_api: PrometheusApi, client: PrometheusClient, code: int, kind: type[Exception]
) -> None:
    prometheus_api.always = (code, "no", {})
    with pytest.raises(kind):
        client.query("up", AT)
    assert len(prometheus_api.asked) == 1


@pytest.mark.parametrize("code", [0, 429, 499, 500, 502, 503, 504])
def test_what_may_mend_itself_is_asked_again_three_times_in_all(
    prometheus_api: PrometheusApi, client: PrometheusClient, code: int
) -> None:
    prometheus_api.kind = "vector"
    prometheus_api.failures = [(code, "busy", {})] * 2
    assert client.query("up", AT) == ()
    prometheus_api.asked.clear()
    prometheus_api.always = (code, "busy", {})
    with pytest.raises(TemporaryError):
        client.query("up", AT)
    assert len(prometheus_api.asked) == 3


def test_it_waits_as_long_as_it_is_told_to_within_bounds(
    prometheus_api: PrometheusApi, client: PrometheusClient, paused: list[float]
) -> None:
    prometheus_api.kind = "vector"
    prometheus_api.failures = [(429, "", {"Retry-After": "7"}), (503, "", {"Retry-After": "3600"})]
    client.query("up", AT)
    assert paused == [7.0, 10.0]


@pytest.mark.parametrize(
    "extra",
    [{"warnings": ["store 10.0.0.7 did not answer"]}, {"isPartial": True}, {"warnings": ["PromQL info: x", "y"]}],
)
def test_a_part_of_the_data_is_no_answer(
    prometheus_api: PrometheusApi, client: PrometheusClient, extra: dict[str, object]
) -> None:
    prometheus_api.kind, prometheus_api.extra = "vector", extra
    with pytest.raises(PartialAnswerError, match="only a part of the data"):
        client.query("up", AT)


def test_a_remark_on_the_query_is_no_warning(prometheus_api: PrometheusApi, client: PrometheusClient) -> None:
    prometheus_api.kind = "vector"
    prometheus_api.extra = {"warnings": ["PromQL info: metric might not be a counter"], "infos": ["also"]}
    assert client.query("up", AT) == ()


@pytest.mark.parametrize(
    "text",
    [
        "<html>sign in</html>",
        "[]",
        '{"status":"success"}',
        '{"status":"error","error":"x"}',
        '{"status":"success","data":{"resultType":"streams","result":[]}}',
        '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1764000000,1]}]}}',
        '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1764000000,"many"]}]}}',
        '{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1764000000,{}]}]}}',
        '{"status":"success","data":{"resultType":"vector","result":{}}}',
    ],
)
def test_an_answer_of_another_form_is_no_answer(
    prometheus_api: PrometheusApi, client: PrometheusClient, text: str
) -> None:
    prometheus_api.always = (200, text, {})
    with pytest.raises((PermanentError, TemporaryError)):
        client.query("up", AT)


def test_an_answer_without_end_is_cut_off(
    prometheus_api: PrometheusApi, client: PrometheusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.prometheus.LARGEST_ANSWER", 10_000)
    prometheus_api.always = (200, "x" * 20_000, {})
    with pytest.raises(PermanentError, match="larger than"):
        client.query("up", AT)


@pytest.mark.parametrize("drip", [False, True])
def test_a_client_never_waits_longer_than_its_patience(prometheus_api: PrometheusApi, drip: bool) -> None:
    prometheus_api.drip, prometheus_api.slow_seconds = drip, 0 if drip else 5
    prometheus_api.always = (200, " " * 2000, {})
    began = time.monotonic()
    with PrometheusClient(prometheus_api.address, patience=0.7) as client, pytest.raises(TemporaryError):
        client.query("up", AT)
    assert time.monotonic() - began < 4.5


def test_nobody_at_the_address_is_temporary() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            PrometheusClient(address, sleep=lambda _seconds: None) as client,
            pytest.raises(TemporaryError, match="ConnectError"),
        ):
            client.query("up", AT)


def test_rules_are_listed_with_their_health(prometheus_api: PrometheusApi, client: PrometheusClient) -> None:
    prometheus_api.rules = [
        {
            "name": "api",
            "rules": [{"name": "Errors", "type": "alerting", "health": "err", "lastError": "x", "state": "firing"}],
        }
    ]
    assert client.rules() == (Rule("api", "Errors", "alerting", "err", "x", "firing"),)
    prometheus_api.rules = [{"name": "api"}]
    with pytest.raises(PermanentError, match="unknown form"):
        client.rules()


def test_readiness_is_asked_and_where_there_is_no_such_path_a_number_is(
    prometheus_api: PrometheusApi, client: PrometheusClient
) -> None:
    client.ready()
    prometheus_api.failures = [(503, "Service Unavailable", {})] * 3
    with pytest.raises(TemporaryError, match="503: Service Unavailable"):
        client.ready()
    prometheus_api.failures = [(404, "", {})]
    prometheus_api.kind, prometheus_api.answer = "vector", lambda _query, at: vector("1", at=at)
    client.ready()
    assert prometheus_api.queries == ["vector(1)"]


def test_signing_in_by_token_or_password(prometheus_api: PrometheusApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P_USER", "reader-of-metrics")
    monkeypatch.setenv("P_SECRET", "shift-secret")
    prometheus_api.kind = "vector"
    basic = Gates(
        prometheus_url=prometheus_api.address, prometheus_username="env:P_USER", prometheus_password="env:P_SECRET"
    )
    bearer = Gates(prometheus_url=prometheus_api.address, prometheus_token="env:P_SECRET")
    for gates in (basic, bearer):
        with PrometheusClient.open(gates) as client:
            client.query("up", AT)
    sent = [headers["authorization"] for _, _, headers in prometheus_api.asked]
    encoded = base64.b64encode(b"reader-of-metrics:shift-secret").decode()
    assert sent == [f"Basic {encoded}", "Bearer shift-secret"]


def test_no_address_and_no_ca_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"release\.gates\.prometheus_url"):
        PrometheusClient.open(Gates())
    with pytest.raises(ConfigurationError, match="prometheus_ca_file"):
        PrometheusClient.open(Gates(prometheus_url="https://p", prometheus_ca_file=str(tmp_path / "none.pem")))
