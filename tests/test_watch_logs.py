"""What a watch keeps of the logs: each bucket once, a small record however long it goes, and sentences that say what is known and what is not."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.log_lines import SHOWN_BYTES, told
from core.log_signatures import KnownSignatures
from core.new_signatures import SeenError, by_turns, new_signatures, pods_pattern
from core.watch_counts import BUCKETS
from core.watch_logs import BucketLogs, LogLook, LogSeen, NewSignature, due_buckets, logs_after, logs_findings

FIRST = datetime(2026, 11, 26, 10, tzinfo=UTC)


def new(
    template: str = "redis is away", hits: int = 5, pods: tuple[str, ...] = ("api-a", "api-b"), bucket: int = 0
) -> NewSignature:
    return NewSignature(template=template, hits=hits, pods=pods, bucket=bucket, example=f"{template}!")


def look(*buckets: BucketLogs, **more: object) -> LogLook:
    facts = {"days": 7, "whole": True, "hits": 5, "pods": 2, "pods_read": 2, "pods_all": 2, **more}
    return LogLook.model_validate({"kind": "pods", "first": FIRST, "buckets": buckets, **facts})


def logs(bucket: int, *news: NewSignature, lines: int = 100, errors: int = 10, looked_at: int = 10) -> BucketLogs:
    return BucketLogs(bucket=bucket, lines=lines, errors=errors, looked_at=looked_at, new=news)


def told_by(*looks: LogLook, closed: int = BUCKETS) -> list[tuple[str, str]]:
    seen = None
    for one in looks:
        seen = logs_after(seen, one, bucket=closed - 1)
    assert seen is not None
    return [(one.severity, one.text) for one in logs_findings(seen)]


def test_a_new_error_is_a_warning_with_all_that_one_needs_at_night() -> None:
    assert told_by(look(logs(7, new(bucket=7, hits=37)))) == [
        (
            "warning",
            (
                'New in the logs since 10:35 UTC (bucket 7): "redis is away", 37 times, on api-a, api-b; '
                "for example: redis is away!. It was not there in the 7 days before"
            ),
        )
    ]


def test_hits_and_pods_add_up_over_the_buckets() -> None:
    first = look(logs(0, new(hits=3, pods=("api-a",))))
    second = look(logs(1, new(hits=2, pods=("api-b",), bucket=1)))
    assert told_by(first) == []
    assert told_by(second) == []
    assert told_by(look(logs(0, new(hits=4)))) == []
    (finding,) = told_by(first, second)
    assert "since 10:00 UTC (bucket 0)" in finding[1] and "5 times, on api-a, api-b" in finding[1]


def test_errors_that_differ_in_a_word_become_one() -> None:
    looks = [
        look(logs(number, new(f"login of {name} went wrong", hits=2, bucket=number)))
        for number, name in enumerate(("alice", "bob", "carol"))
    ]
    (finding,) = told_by(*looks)
    assert '"login of <*> went wrong", 6 times' in finding[1]


def test_one_pod_is_not_enough_unless_there_is_only_one() -> None:
    alone = new(hits=50, pods=("api-a",))
    assert told_by(look(logs(0, alone))) == []
    assert told_by(look(logs(0, alone), pods_all=1)) != []
    # It had more once.
    assert told_by(look(logs(0)), look(logs(1, alone), pods_all=1)) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"days": 3}, "only 3 days could be compared with"),
        ({"days": 0}, "only less than a day could be compared with"),
        (
            {"whole": False, "why": "5 of 9 lines were read"},
            "only a part of 7 days could be compared with (5 of 9 lines were read)",
        ),
    ],
)
def test_with_little_to_compare_with_it_is_a_note_that_says_so(facts: dict[str, object], words: str) -> None:
    ((severity, text),) = told_by(look(logs(0, new()), **facts))
    assert (severity, words in text) == ("note", True), text


def test_without_days_before_nothing_is_new_and_that_is_told() -> None:
    ((severity, text),) = told_by(look(logs(0), days=None, whole=False))
    assert severity == "note"
    assert text.startswith("Nothing is known of the logs before the release")


def test_no_line_at_all_is_not_no_error() -> None:
    ((severity, text),) = told_by(look(logs(0, lines=0, errors=0, looked_at=0)))
    assert severity == "note"
    assert "Not one line" in text and "not the same as no error" in text
    assert told_by(look(logs(0, errors=0, looked_at=0))) == []
    ((_, some),) = told_by(look(logs(0), logs(1, lines=0, errors=0, looked_at=0)))
    assert some.startswith("In 1 of 2 looks at five minutes there was not one line")


def test_lines_that_nobody_looked_at_are_told_and_what_was_counted_is_a_least() -> None:
    found = told_by(look(logs(0, new(), errors=5000, looked_at=2000)))
    assert "5 times at least" in found[0][1]
    assert found[1] == (
        "note",
        "3000 of 5000 error lines were counted only, not looked at for new ones: there were too many at once",
    )


def test_what_was_not_read_is_told_to_the_end() -> None:
    found = told_by(look(logs(0), short="2 Pods were not read in time"), look(logs(1)))
    assert found == [("note", "At least once a part of the logs was not read: 2 Pods were not read in time")]


def test_more_kinds_than_a_person_reads_are_told_as_more() -> None:
    many = [new(f"trouble{'x' * number} everywhere", hits=100 - number) for number in range(30)]
    found = told_by(look(logs(0, *many)))
    assert len(found) == 7
    assert [one[0] for one in found] == ["warning"] * 6 + ["note"]
    assert found[0][1].startswith('New in the logs since 10:00 UTC (bucket 0): "trouble everywhere", 100 times')
    assert found[-1][1] == "4 or more further kinds of errors are new in the logs, too; look at the logs themselves"


def test_a_bucket_that_is_not_over_does_not_count() -> None:
    seen = logs_after(None, look(logs(0), logs(1, new())), bucket=0)
    assert seen.errors == (10,)
    assert due_buckets(seen, 2, 12) == (1,)


def test_the_newest_buckets_that_nobody_looked_at_are_due() -> None:
    seen = logs_after(None, look(logs(0), logs(3)), bucket=3)
    assert due_buckets(seen, 6, 12) == (1, 2, 4, 5)
    assert due_buckets(seen, 6, 2) == (4, 5)
    assert due_buckets(None, 0, 12) == ()
    assert due_buckets(None, 500, 2) == (286, 287)


def test_before_the_first_bucket_is_over_nothing_was_seen() -> None:
    seen = logs_after(None, look(logs(0)), bucket=-1)
    assert (seen.errors, seen.days, logs_findings(seen)) == ((), 7, ())


TEMPLATES = st.sampled_from(["redis is away", "disk is full", "disk is broken", "a b c <NUM>", "x"])
SIGNATURES = st.builds(
    new,
    TEMPLATES,
    st.integers(1, 9),
    st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map(sorted).map(tuple),
    st.integers(0, 9),
)
BUCKET_LOGS = st.builds(
    BucketLogs,
    bucket=st.integers(0, 9),
    lines=st.integers(0, 50),
    errors=st.integers(0, 50),
    looked_at=st.integers(0, 50),
    new=st.lists(SIGNATURES, max_size=4).map(tuple),
)
LOOKS = st.lists(BUCKET_LOGS, max_size=4, unique_by=lambda one: one.bucket).map(lambda some: look(*some))


@given(st.lists(LOOKS, min_size=1, max_size=6), st.data())
@settings(max_examples=25)
def test_a_look_that_is_folded_in_again_changes_nothing(looks: list[LogLook], data: st.DataObject) -> None:
    seen = None
    for one in looks:
        seen = logs_after(seen, one, bucket=9)
    assert logs_after(seen, data.draw(st.sampled_from(looks)), bucket=9) == seen


@given(st.lists(LOOKS, min_size=1, max_size=5).flatmap(lambda some: st.tuples(st.just(some), st.permutations(some))))
@settings(max_examples=25)
def test_the_counts_are_the_same_in_any_order(both: tuple[list[LogLook], list[LogLook]]) -> None:
    counted = []
    for looks in both:
        seen = None
        # Of each bucket the same look comes first in both orders.
        kept = {one.bucket: one for each in both[0] for one in each.buckets}
        for each in looks:
            seen = logs_after(seen, look(*(kept[one.bucket] for one in each.buckets)), bucket=9)
        assert seen is not None
        counted.append((seen.errors, seen.lines, seen.silent, seen.unexamined, sum(one.hits for one in seen.new)))
    assert counted[0] == counted[1]


def test_the_record_stays_small_however_long_it_goes_and_whatever_is_logged() -> None:
    seen: LogSeen | None = None
    for number in range(0, BUCKETS, 8):
        rubbish = ['"\\' * 200, "\U0001f600" * 300, "\x00" * 400, "<" * 400]
        errors = [
            SeenError(bucket, f"api-{'p' * 240}-{pod}", told(f"{'z' * (bucket % 40)} {text} {pod * 'k'}"))
            for bucket in range(number, number + 8)
            for pod, text in enumerate(rubbish * 3)
        ]
        fresh = new_signatures(errors, KnownSignatures(()))
        buckets = [
            logs(bucket, *fresh[bucket], errors=9_999_999, lines=99_999_999) for bucket in range(number, number + 8)
        ]
        seen = logs_after(seen, look(*buckets, hits=1, pods=1, why="w" * 900, short="s" * 900), bucket=BUCKETS - 1)
    assert seen is not None
    assert len(seen.model_dump_json().encode()) <= 20_000
    findings = logs_findings(seen)
    assert len(findings) <= 12
    assert all(len(one.text.encode()) < 1500 for one in findings)
    assert LogSeen.model_validate_json(seen.model_dump_json()) == seen


def test_examples_are_cut() -> None:
    assert len(told("x" * 5000).shown.encode()) <= SHOWN_BYTES


def test_new_errors_are_grouped_by_bucket_with_their_pods() -> None:
    errors = [
        SeenError(number % 2, f"api-{number}", told(f"login of {name} went wrong"))
        for number, name in enumerate("abcdefgh")
    ]
    found = new_signatures(errors, KnownSignatures(()))
    assert [(one.template, one.hits, one.pods, one.more) for one in found[1]] == [
        ("login of <*> went wrong", 4, ("api-1", "api-3", "api-5", "api-7"), False)
    ]
    assert new_signatures(errors, KnownSignatures(("login of <*> went wrong",))) == {}


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("api-server-7f5d9c6b8-x2x4z", True),
        ("api-server-x2x4z", True),
        ("api-server-worker-7f5d9c6b8-x2x4z", False),
        ("my-api-server-7f5d9c6b8-x2x4z", False),
        ("api-server", False),
        ("v1.api-7f5d9c-x2x4z", True),
        ("v1xapi-7f5d9c-x2x4z", False),
    ],
)
def test_pods_are_told_by_the_name_of_their_deployment(name: str, is_one: bool) -> None:
    assert (re.fullmatch(pods_pattern(["api-server", "v1.api"]), name) is not None) == is_one


@given(st.sets(st.integers(0, 999).map(str), min_size=1, max_size=30), st.integers(1, 6))
@settings(max_examples=25)
def test_the_pods_that_are_read_change_by_turns_until_each_had_its_turn(names: set[str], most: int) -> None:
    rounds = -(-len(names) // most)
    chosen = [by_turns(names, bucket, most) for bucket in range(rounds)]
    assert all(len(one) == min(most, len(names)) for one in chosen)
    assert set().union(*chosen) == names
    assert by_turns(names, 5, most) == by_turns(sorted(names, reverse=True), 5, most)
