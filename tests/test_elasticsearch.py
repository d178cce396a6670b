"""The logs of a watch where they are shipped to: counted and compared by one search, from all of the data or not at all."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.environment_watch_logs import WatchLogs
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.log_search import UnusableError, checked, counts_of, hits_of
from core.log_signatures import LogBaseline, train
from core.watch_logs import LogLook, logs_after, logs_findings
from tasks import watch_search_logs
from tasks.watch_logs import look_at_logs, train_logs
from tests.fix_elasticsearch import ElasticsearchApi, refusal

FIRST = datetime(2026, 11, 26, 10, tzinfo=UTC)
POD_A, POD_B = "api-7f5d9c-aaaaa", "api-7f5d9c-bbbbb"
KNOWN = train(["order <NUM> failed"], kind="elasticsearch", read_at=FIRST, days=7)


def at(minutes: float) -> datetime:
    return FIRST + timedelta(minutes=minutes)


def setting(api: ElasticsearchApi, **more: Any) -> WatchLogs:
    return WatchLogs.model_validate({"kind": "elasticsearch", "address": api.address, "settle_seconds": 0, **more})


def looked(api: ElasticsearchApi, *, minutes: float = 10, baseline: LogBaseline | None = KNOWN, **more: Any) -> LogLook:
    logs = setting(api, **more)
    return look_at_logs(logs, first=FIRST, now=at(minutes), seen=None, baseline=baseline, workloads=["api"])


def test_lines_and_errors_are_counted_by_closed_bucket_and_new_ones_told(elasticsearch_api: ElasticsearchApi) -> None:
    for number in range(6):
        elasticsearch_api.log(at(5 + number / 2), f"redis {number} is away", pod=(POD_A, POD_B)[number % 2])
    elasticsearch_api.log(at(1), "order 17 failed")
    elasticsearch_api.log(at(2), "all is well", level="info")
    elasticsearch_api.log(at(11), "of a bucket that is not over")
    elasticsearch_api.log(at(3), "of the old version", pod="api-5c4b3a-ccccc-x")
    found = looked(elasticsearch_api)
    assert [(one.bucket, one.lines, one.errors, one.looked_at) for one in found.buckets] == [(0, 2, 1, 1), (1, 6, 6, 6)]
    ((signature,), pods) = found.buckets[1].new, found.pods_all
    assert (signature.template, signature.hits, signature.pods, pods) == ("redis <NUM> is away", 6, (POD_A, POD_B), 2)
    ((finding),) = logs_findings(logs_after(None, found, bucket=1))
    assert finding.severity == "warning"
    assert len(elasticsearch_api.asked) == 1


def test_the_search_asks_for_closed_buckets_at_explicit_times(elasticsearch_api: ElasticsearchApi) -> None:
    elasticsearch_api.log(at(1), "x")
    looked(elasticsearch_api, minutes=5.5, query='kubernetes.namespace:"production"', index="logs-a*,logs-b")
    ((path, body, _),) = elasticsearch_api.asked
    assert path.startswith("/logs-a*,logs-b/_search?")
    times = {"gte": "2026-11-26T10:00:00.000Z", "lt": "2026-11-26T10:05:00.000Z", "format": "strict_date_optional_time"}
    assert body["query"]["bool"]["filter"][0] == {"range": {"@timestamp": times}}
    assert body["query"]["bool"]["filter"][2]["query_string"]["query"] == 'kubernetes.namespace:"production"'
    assert body["aggs"]["spans"]["date_range"]["ranges"] == [{"key": "0", "from": times["gte"], "to": times["lt"]}]
    assert body["size"] == 2000


def test_a_bucket_is_looked_at_once_its_lines_have_come_in(elasticsearch_api: ElasticsearchApi) -> None:
    logs = setting(elasticsearch_api, settle_seconds=60)
    early = look_at_logs(logs, first=FIRST, now=at(5.5), seen=None, baseline=None, workloads=["api"])
    assert early.buckets == ()
    assert elasticsearch_api.asked == []
    elasticsearch_api.log(at(1), "x")
    found = look_at_logs(logs, first=FIRST, now=at(6), seen=None, baseline=None, workloads=["api"])
    assert [one.bucket for one in found.buckets] == [0]
    assert found.days is None and found.buckets[0].new == ()


def test_the_number_of_searches_does_not_grow_with_pods_and_missed_buckets(elasticsearch_api: ElasticsearchApi) -> None:
    for number in range(300):
        elasticsearch_api.log(at(number), "redis is away", pod=f"api-7f5d9c-{number:05d}")
    found = looked(elasticsearch_api, minutes=300)
    assert len(elasticsearch_api.asked) == 1
    assert len(found.buckets) == 48
    assert found.pods_all > 100
    assert sum(one.lines for one in found.buckets) == 240


def test_without_any_line_nothing_is_known_and_without_levels_it_is_an_error(
    elasticsearch_api: ElasticsearchApi,
) -> None:
    found = looked(elasticsearch_api)
    ((finding),) = logs_findings(logs_after(None, found, bucket=1))
    assert "Not one line" in finding.text
    elasticsearch_api.log(at(1), "ERROR of an application that writes text", level=None)
    with pytest.raises(PermanentError, match=r"none of 1 lines has a level in the field log\.level"):
        looked(elasticsearch_api)
    # Errors that are told otherwise need no level.
    assert looked(elasticsearch_api, errors="message:ERROR").buckets[0].lines == 1


def test_a_level_that_is_a_number_and_keys_with_dots_are_read(elasticsearch_api: ElasticsearchApi) -> None:
    elasticsearch_api.log(at(1), "redis is away", level=50)
    flat = {
        "@timestamp": FIRST.isoformat(),
        "log": {"level": "FATAL"},
        "kubernetes.pod.name": POD_B,
        "message": ["x y"],
    }
    elasticsearch_api.log(at(1), "redis is away")
    found = looked(elasticsearch_api)
    assert found.buckets[0].errors == 2
    flat["error"] = {"type": "TypeError", "message": "z"}
    hits = {"hits": {"hits": [{"_source": flat}, {"_source": {"@timestamp": 1_700_000_000_000, "message": "m"}}]}}
    read = hits_of(setting(elasticsearch_api), hits)
    assert [(one.pod, one.message) for one in read] == [(POD_B, "x y: TypeError: z"), ("", "m")]


def test_lines_beyond_the_bound_are_counted_only(elasticsearch_api: ElasticsearchApi) -> None:
    for number in range(150):
        elasticsearch_api.log(at(1 + number / 100), "redis is away")
    found = looked(elasticsearch_api, lines=100, minutes=5)
    assert (found.buckets[0].errors, found.buckets[0].looked_at) == (150, 100)


def test_lines_without_the_field_of_their_text_are_an_error(elasticsearch_api: ElasticsearchApi) -> None:
    elasticsearch_api.log(at(1), "redis is away")
    with pytest.raises(PermanentError, match="none of 1 lines has a text in the field msg"):
        looked(elasticsearch_api, message_field="msg")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"timed_out": True}, "from a part of the lines"),
        (
            {"_shards": {"total": 5, "failed": 2, "failures": [{"reason": {"type": "x", "reason": "disk broke"}}]}},
            r"2 of 5 shards failed \(disk broke\)",
        ),
        ({"_clusters": {"total": 2, "successful": 1, "skipped": 1}}, "other clusters"),
    ],
)
def test_an_answer_from_a_part_of_the_data_is_not_used(
    elasticsearch_api: ElasticsearchApi, extra: dict[str, Any], words: str
) -> None:
    elasticsearch_api.extra = extra
    with pytest.raises(TemporaryError, match=words):
        looked(elasticsearch_api)


def test_an_index_that_is_not_there_is_not_an_empty_one(elasticsearch_api: ElasticsearchApi) -> None:
    elasticsearch_api.extra = {"_shards": {"total": 0, "successful": 0, "failed": 0}}
    with pytest.raises(PermanentError, match="there is no such index"):
        looked(elasticsearch_api)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            refusal(400, "parsing_exception", "unknown field"),
            PermanentError,
            "400: parsing_exception: unknown field.*fields' names",
        ),
        (refusal(401, "security_exception", "missing credentials"), PermanentError, "401.*sign-in is not accepted"),
        (refusal(403, "security_exception", "unauthorized"), PermanentError, "403.*privilege read"),
        (
            refusal(404, "index_not_found_exception", "no such index [logs-*]"),
            PermanentError,
            "404: index_not_found.*index in",
        ),
        (refusal(429, "es_rejected_execution_exception", "full"), TemporaryError, "429.*too much to do"),
        (refusal(503, "search_phase_execution_exception", "all shards failed"), TemporaryError, "503.*health"),
        ((502, "<html>Bad gateway</html>", {}), TemporaryError, "502"),
        ((302, "", {"Location": "http://127.0.0.1:1/login"}), PermanentError, "302"),
        ((200, "<html>sign in</html>", {}), PermanentError, "no answer of a search"),
        ((200, "[" * 100_000, {}), PermanentError, "no answer of a search"),
        ((200, "", {}), PermanentError, "no answer of a search"),
        ((200, '{"timed_out": false}', {}), PermanentError, "without _shards"),
        ((400, json.dumps({"error": "old style"}), {}), PermanentError, "400: old style"),
        ((200, "{}", {"Content-Encoding": "gzip"}), TemporaryError, "no answer"),
        ((200, "\udcff\udcfe", {}), PermanentError, "no answer of a search"),
    ],
)
def test_each_bad_answer_is_an_error_in_a_sentence(
    elasticsearch_api: ElasticsearchApi, answer: tuple[int, str, dict[str, str]], kind: type[Exception], words: str
) -> None:
    elasticsearch_api.always = answer
    with pytest.raises(kind, match=words) as raised:
        looked(elasticsearch_api)
    assert len(str(raised.value)) < 600


def test_a_server_that_is_away_slow_or_endless_costs_no_more_than_its_time(elasticsearch_api: ElasticsearchApi) -> None:
    elasticsearch_api.slow_seconds = 6
    began = time.monotonic()
    with pytest.raises(TemporaryError, match="no answer"):
        looked(elasticsearch_api, seconds=0.3)
    elasticsearch_api.slow_seconds, elasticsearch_api.drip = 0, True
    with pytest.raises(TemporaryError, match="did not end in time"):
        looked(elasticsearch_api, seconds=0.3)
    with pytest.raises(TemporaryError, match="no answer"):
        looked(elasticsearch_api, address="http://127.0.0.1:1")
    assert time.monotonic() - began < 5.5


def test_the_sign_in_is_sent_and_never_told(
    elasticsearch_api: ElasticsearchApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "encodedkey1234==")
    monkeypatch.setenv("PASSWORD", "hunter2x9")
    monkeypatch.setenv("USER_NAME", "watcher")
    elasticsearch_api.log(at(1), "x")
    looked(elasticsearch_api, api_key="env:KEY")
    looked(elasticsearch_api, username="env:USER_NAME", password="env:PASSWORD")
    sent = [headers["authorization"] for _, _, headers in elasticsearch_api.asked]
    assert sent == ["ApiKey encodedkey1234==", "Basic d2F0Y2hlcjpodW50ZXIyeDk="]
    elasticsearch_api.always = refusal(400, "x", "you sent d2F0Y2hlcjpodW50ZXIyeDk= and hunter2x9 and encodedkey1234==")
    with pytest.raises(PermanentError) as raised:
        looked(elasticsearch_api, username="env:USER_NAME", password="env:PASSWORD")
    assert not any(secret in str(raised.value) for secret in ("hunter2x9", "d2F0Y2", "encodedkey1234"))


def test_the_days_before_are_learned_from(elasticsearch_api: ElasticsearchApi) -> None:
    for day in range(1, 8):
        for number in range(10):
            elasticsearch_api.log(FIRST - timedelta(days=day) + timedelta(hours=number), f"order {number} failed")
        elasticsearch_api.log(FIRST - timedelta(days=day), "fine", level="info", pod=POD_B)
    # After the release began: what the new version says is no guide.
    elasticsearch_api.log(FIRST - timedelta(minutes=1), "redis is away")
    baseline = train_logs(setting(elasticsearch_api), before=FIRST - timedelta(minutes=2), now=FIRST, workloads=["api"])
    assert baseline is not None
    assert (baseline.templates, baseline.days, baseline.whole) == (("order <NUM> failed",), 7, True)
    assert baseline.lines == 70
    assert len(elasticsearch_api.asked) <= 9


def test_a_day_without_a_line_does_not_count_and_what_was_not_read_is_told(
    elasticsearch_api: ElasticsearchApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_search_logs, "SEARCH_LINES", 20)
    monkeypatch.setattr(watch_search_logs, "MOST_PARTS", 1)
    for number in range(50):
        elasticsearch_api.log(FIRST - timedelta(hours=30, minutes=number), f"order {number} failed")
    baseline = train_logs(setting(elasticsearch_api), before=FIRST, now=FIRST, workloads=["api"])
    assert baseline is not None
    assert (baseline.days, baseline.whole, baseline.why) == (1, False, "20 of 50 error lines were read")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["buckets", "key", "doc_count", "hits", "spans", "errors"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@given(
    st.fixed_dictionaries(
        {
            "timed_out": st.just(False),
            "_shards": st.fixed_dictionaries({"total": JSON, "failed": JSON}),
            "aggregations": JSON,
            "hits": JSON,
        }
    )
    | JSON
)
@settings(max_examples=60)
def test_rubbish_is_of_no_use_and_nothing_else(answer: Any) -> None:
    logs = WatchLogs(kind="elasticsearch", address="http://x")
    for read in (lambda: checked(answer), lambda: counts_of(logs, answer, [0]), lambda: hits_of(logs, answer)):
        try:
            read()
        except ValueError as error:
            assert isinstance(error, UnusableError) or "shards failed" in str(error) or "part" in str(error)
        except (AttributeError, TypeError):
            # An answer that is no document does not come past `checked`.
            assert not isinstance(answer, dict)


@given(JSON)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_comes_is_an_error_of_ours(elasticsearch_api: ElasticsearchApi, answer: Any) -> None:
    good = {"timed_out": False, "_shards": {"total": 1, "failed": 0}, "aggregations": answer, "hits": answer}
    elasticsearch_api.always = (200, json.dumps(good), {})
    with pytest.raises(NightshiftError):
        looked(elasticsearch_api)


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"kind": "elasticsearch"}, "needs address"),
        ({"address": "http://me:secret@x:9200"}, "without user"),
        ({"address": "x:9200"}, "begins with http"),
        ({"username": "env:A"}, "go together"),
        ({"api_key": "env:A", "username": "env:A", "password": "env:B"}, "not both"),
        ({"pattern": "("}, "a regular expression"),
        ({"pattern": "a?"}, "not of the empty line"),
        ({"index": "a/_search"}, "index"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given_: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WatchLogs.model_validate(given_)
    with pytest.raises(PermanentError, match="they are off"):
        look_at_logs(WatchLogs(), first=FIRST, now=at(9), seen=None, baseline=None, workloads=["api"])
    assert train_logs(WatchLogs(), before=FIRST, now=FIRST, workloads=["api"]) is None
