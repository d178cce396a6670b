"""Signatures mined from earlier days: each line that was there is known afterwards, nothing is learned later, and their record stays small."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import log_signatures
from core.log_lines import told
from core.log_signatures import ANY, KnownSignatures, LogBaseline, grouped, train
from core.new_signatures import SeenError, new_signatures

NOW = datetime(2026, 11, 26, tzinfo=UTC)
WORDS = st.sampled_from(["order", "failed", "alice", "bob", "redis", "<NUM>", "timeout", "of", "the"])
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=40)


def trained(*lines: str) -> LogBaseline:
    return train([told(line).signature for line in lines], kind="pods", read_at=NOW, days=7)


def knows(baseline: LogBaseline, line: str) -> bool:
    return KnownSignatures(baseline.templates).knows(told(line).signature)


def test_a_word_that_differs_is_left_open_and_one_that_never_did_is_not() -> None:
    baseline = trained(*(f"user {name} was not found" for name in ("alice", "bob", "carol")), "disk is full now")
    assert "user <*> was not found" in baseline.templates
    assert knows(baseline, "user dave was not found")
    assert knows(baseline, "disk is full now")
    assert not knows(baseline, "disk is broken now")
    assert not knows(baseline, "user dave was not found twice")


def test_two_short_errors_of_one_kind_do_not_stand_for_all_others() -> None:
    baseline = trained(
        "Error: ENOSPC", "Error: EACCES", "2026-11-26T10:00:00Z ERROR timeout", "2026-11-26T10:00:01Z ERROR refused"
    )
    assert not knows(baseline, "Error: ECONNREFUSED")
    assert not knows(baseline, "2026-11-26T10:00:02Z ERROR unreachable")


@given(LINES)
@settings(max_examples=40)
def test_each_line_is_known_afterwards_and_its_record_can_be_kept(lines: list[str]) -> None:
    baseline = train(lines, kind="pods", read_at=NOW, days=7)
    again = LogBaseline.model_validate_json(baseline.model_dump_json())
    assert again == baseline
    assert again.whole
    assert again.lines == len(lines)
    known = KnownSignatures(again.templates)
    assert all(known.knows(line) for line in lines)


def test_looking_lines_up_teaches_nothing() -> None:
    known = KnownSignatures(trained("disk is full now").templates)
    errors = [SeenError(0, "api-1", told("redis is away now")) for _ in range(100)]
    assert [one.hits for one in new_signatures(errors, known)[0]] == [100]
    assert [one.hits for one in new_signatures(errors, known)[0]] == [100]


@given(LINES)
@settings(max_examples=40)
def test_a_group_s_signature_fits_all_of_it_and_keeps_more_than_half_of_its_words(lines: list[str]) -> None:
    for line, template in zip(lines, grouped(lines), strict=True):
        pairs = list(zip(line.split(), template.split(), strict=True))
        assert all(theirs in (ANY, ours) for ours, theirs in pairs)
        assert sum(theirs != ANY for _, theirs in pairs) * 2 > len(pairs)


def test_too_many_kinds_are_not_kept_and_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_signatures, "MOST_SIGNATURES", 20)
    lines = [f"kind{'x' * number} of trouble" for number in range(1, 31)]
    baseline = train([*lines, *lines[:20]], kind="pods", read_at=NOW, days=7)
    assert (baseline.whole, len(baseline.templates)) == (False, 20)
    assert baseline.why == "10 of 50 error lines are of too many kinds to be kept"
    # The most frequent ones are kept.
    assert all(KnownSignatures(baseline.templates).knows(line) for line in lines[:20])


def test_the_record_of_rubbish_stays_below_200_kb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_signatures, "MOST_DISTINCT", 1500)
    letters = [chr(0x4E00 + number) for number in range(2500)]
    baseline = train([f"{one * 40} {one}" for one in letters], kind="pods", read_at=NOW, days=7)
    assert not baseline.whole
    assert len(baseline.model_dump_json().encode()) < 200_000


def test_what_one_batch_did_not_fit_is_mined_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_signatures, "MOST_DISTINCT", 4)
    lines = [
        f"{first} is not there" for first in ("queue", "cache", "table", "file", "user", "key", "page", "disk", "host")
    ]
    baseline = train(lines, kind="pods", read_at=NOW, days=7)
    assert baseline.whole
    assert all(KnownSignatures(baseline.templates).knows(line) for line in lines)


def test_the_miner_is_not_loaded_where_nothing_is_mined() -> None:
    code = (
        "import sys, tasks.watch_logs, core.new_signatures as n, core.log_signatures as s;"
        "assert n.new_signatures([], s.KnownSignatures(())) == {}; assert s.grouped(['one']) == ['one'];"
        "assert not any(name.split('.')[0] in ('drain3', 'jsonpickle') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
