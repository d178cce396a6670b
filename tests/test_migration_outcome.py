"""What a migration did is judged by the table and the catalogue; unknown is never retried, and only what is clean is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.environment_migration import Migration
from core.migration_attempts import AttemptPlan, first_attempt, next_attempt
from core.migration_end import JobEnd, LockReport, is_lock_timeout
from core.migration_outcome import MigrationSession, judge
from tests.fix_migration import end, settings, state

BEFORE = state("1")
SESSION = MigrationSession(
    pid=7, application_name="nightshift-migrate-r1-1", client="10.0.0.1", state="active", why="has a migration's name"
)
NOT_NAMED = LockReport(held=True, named=False, lost=False)
REFUSED = LockReport(held=False, named=False, lost=False, holder="pid 9, application 'knex', client 10.0.0.9")


@pytest.mark.parametrize(
    ("after", "job", "outcome", "again", "good", "sentence"),
    [
        (state("1", "2"), end("succeeded"), "applied", "", True, "1 migration was applied: 2"),
        (state("1"), end("succeeded"), "nothing-to-do", "", True, "no migration was to be applied"),
        (state("1"), end(), "clean", "", False, "failed (exit code 1); nothing was changed"),
        (state("1"), end(lock_timeout=True), "clean", "lock-timeout", False, "did not get a lock within lock_timeout"),
        (state("1", "2"), end(lock_timeout=True), "partial", "", False, "the migration table has 2 names, and had 1"),
        (state("1", fingerprint="b" * 64), end(), "partial", "", False, "the schema is another one"),
        (state("1", invalid_indexes=("public.i",)), end(), "partial", "", False, "indexes are invalid: public.i"),
        (state("1", "2", invalid_indexes=("public.i",)), end("succeeded"), "partial", "", False, "left invalid indexes: public.i"),
        (state("2"), end("succeeded"), "partial", "", False, "has lost or reordered names"),
        (state(table_exists=False), end("succeeded"), "unknown", "", False, "there is no table knex_migrations"),
        (state("1", fingerprint="b" * 64), end("succeeded"), "unknown", "", False, "recorded no migration in knex_migrations"),
        (state("1", sessions=(SESSION,)), end(), "unknown", "", False, "still runs in the server: pid 7"),
        (state("1"), JobEnd(state="gone"), "unknown", "", False, "was removed while it ran"),
        (state("1"), JobEnd(state="never created"), "clean", "", False, "was never created; nothing was changed"),
        (state("1"), end(exit_code=75, started=False, lock=REFUSED), "clean", "", False, "another migrator holds its lock (pid 9"),
        (state("1", sessions=(SESSION,)), end(exit_code=75, started=False, lock=REFUSED), "clean", "", False, "another migrator holds its lock (pid 9"),
        (state("1", "2"), end(exit_code=75, started=False, lock=REFUSED), "unknown", "", False, "and meanwhile the migration table has 2 names"),
        (state("1"), end(exit_code=137, reason="OOMKilled: exit code 137", lock=NOT_NAMED), "unknown", "", False, "none of its name was ever seen"),
        (state("1"), end(exit_code=None, reason="DeadlineExceeded: x", lock=NOT_NAMED), "unknown", "", False, "none of its name"),
        (state("1"), end(exit_code=137, reason="OOMKilled: exit code 137"), "clean", "", False, "nothing was changed"),
        (state("1"), end(pods=2), "unknown", "", False, "may have been run more than once"),
    ],
)  # fmt: skip
def test_an_end_and_two_states_say_what_came_of_it(
    after: Any, job: JobEnd, outcome: str, again: str, *, good: bool, sentence: str
) -> None:
    judgement = judge(BEFORE, after, job, settings())
    assert (judgement.outcome, judgement.again, judgement.good) == (outcome, again, good), judgement
    assert sentence in judgement.sentence
    assert judgement.good or judgement.next_step


@pytest.mark.parametrize(("before", "after"), [(None, BEFORE), (BEFORE, None)])
def test_a_state_that_is_not_known_makes_the_outcome_unknown(before: Any, after: Any) -> None:
    assert judge(before, after, end("succeeded"), settings()).outcome == "unknown"


@pytest.mark.parametrize(
    ("names", "job", "outcome", "again"),
    [
        (("1", "2"), {"pending": ()}, "applied", ""),
        (("1", "2"), {"pending": ("3",)}, "applied", "pending"),
        (("1",), {"pending": ("2",)}, "clean", ""),
        (("1", "2"), {"pending": None, "pending_exit_code": 1}, "unknown", ""),
        (("1", "2"), {"pending": None}, "unknown", ""),
    ],
)
def test_pending_migrations_after_a_job_that_succeeded(
    names: tuple[str, ...], job: Any, outcome: str, again: str
) -> None:
    judgement = judge(BEFORE, state(*names), end("succeeded", **job), settings(pending_command="list"))
    assert (judgement.outcome, judgement.again) == (outcome, again)
    assert judgement.good == (job["pending"] == ())


def findings(job: JobEnd, after: Any = None, **changed: Any) -> dict[str, tuple[str, str]]:
    found = judge(BEFORE, after or state("1", "2"), job, settings(**changed)).findings
    return {one.name: (one.state, one.found) for one in found}


def test_what_was_not_proven_is_said() -> None:
    assert findings(end("succeeded"))["pending"] == ("warning", "whether migrations are still pending was not checked")
    assert findings(end("succeeded"))["lock_timeout"][0] == "passed"
    assert findings(end("succeeded", lock=NOT_NAMED))["lock_timeout"][0] == "warning"
    assert findings(end("succeeded", lock=LockReport()))["advisory lock"] == (
        "warning",
        "whether it was held to the end was not told",
    )
    assert "was lost" in findings(end("succeeded", lock=LockReport(held=True, lost=True)))["advisory lock"][1]
    assert (
        findings(end(), state("1", locked=True))["migrator's lock"][1]
        == "knex_migrations_lock was left set by this migration"
    )
    assert findings(end(), state("1", invalid_indexes=("public.i",)))["invalid index"][0] == "failed"


def test_a_migrators_own_lock_and_tables_alone_are_no_change() -> None:
    before = state(table_exists=False)
    assert judge(before, state(locked=True), end(), settings()).outcome == "clean"


def test_lock_timeouts_are_tried_again_with_a_pause_and_longer_at_the_end() -> None:
    chosen = settings(lock_attempts=3)
    clean = judge(BEFORE, BEFORE, end(lock_timeout=True), chosen)
    plans = [first_attempt(chosen)]
    while following := next_attempt(plans[-1], clean, chosen, 0.5):
        plans.append(following)
    assert [(one.attempt, one.lock_try, one.lock_timeout_ms, one.pause_ms) for one in plans] == [
        (1, 1, 2000, 0),
        (2, 2, 2000, 3750),
        (3, 3, 10_000, 7500),
    ]


def test_the_job_is_run_again_while_migrations_are_pending_up_to_a_bound() -> None:
    chosen = settings(pending_command="list", runs=3)
    pending = judge(BEFORE, state("1", "2"), end("succeeded", pending=("3",)), chosen)
    plans = [first_attempt(chosen)]
    while following := next_attempt(plans[-1], pending, chosen, 0.5):
        plans.append(following)
    assert [(one.attempt, one.run) for one in plans] == [(1, 1), (2, 2), (3, 3)]


ENDS = st.builds(
    lambda how, code, started, named, pods, timeout, pending: end(
        how,
        exit_code=code,
        started=started,
        lock=LockReport(held=True, named=named),
        pods=pods,
        lock_timeout=timeout,
        pending=pending,
    ),
    st.sampled_from(["succeeded", "failed", "gone", "never created"]),
    st.sampled_from([None, 0, 1, 75, 137]),
    st.sampled_from([None, True, False]),
    st.booleans(),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([None, (), ("3",)]),
)
STATES = st.builds(
    lambda names, exists, letter, invalid, sessions: state(
        *names, table_exists=exists, fingerprint=letter * 64, invalid_indexes=invalid, sessions=sessions
    ),
    st.sampled_from([(), ("1",), ("1", "2"), ("2",)]),
    st.booleans(),
    st.sampled_from("ab"),
    st.sampled_from([(), ("public.i",)]),
    st.sampled_from([(), (), (SESSION,)]),
)
SETTINGS = st.sampled_from([settings(), settings(pending_command="list")])


@given(STATES, STATES, ENDS, SETTINGS, st.integers(1, 30))
def test_nothing_is_called_good_or_tried_again_that_may_not_be(
    before: Any, after: Any, job: JobEnd, chosen: Migration, tries: int
) -> None:
    judgement = judge(before, after, job, chosen)
    changed = (before.names, before.fingerprint, before.invalid_indexes) != (
        after.names,
        after.fingerprint,
        after.invalid_indexes,
    )
    if judgement.outcome == "clean":
        assert not changed
    if judgement.good:
        assert job.state == "succeeded"
        assert after.table_exists
        assert not after.sessions
        assert not set(after.invalid_indexes) - set(before.invalid_indexes)
        assert not job.pending
        assert chosen.pending_command is None or job.pending == ()
    following = next_attempt(
        AttemptPlan(attempt=tries, run=tries, lock_try=tries, lock_timeout_ms=1), judgement, chosen, 0.0
    )
    if following is not None:
        assert judgement.outcome in {"clean", "applied"}
        assert following.attempt == tries + 1
        assert following.pause_ms <= 60_000


def test_a_lock_timeout_is_known_in_a_log() -> None:
    assert is_lock_timeout("ERROR:  canceling statement due to lock timeout")
    assert is_lock_timeout("error: code: '55P03'")
    assert not is_lock_timeout("canceling statement due to statement timeout")
