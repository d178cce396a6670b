"""The chain of evidence: appended by runs side by side, and every edit found."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from core.canonical import canonical_bytes, sha256_hex
from core.errors import IntegrityError, PermanentError
from core.evidence import Head, Report
from core.evidence_chain import MOST_PROBLEMS_TOLD, ChainWalk
from core.keys import evidence_head_key, evidence_key
from core.signature import SigningKey, seal
from tasks.evidence import append_report, read_report, verify_chain
from tasks.object_store import ObjectExistsError, ObjectMissingError
from tests.fix_keeping import KEY, STRANGE_KEY, Keeping, keeping_at
from tests.fix_object_store import FaultProxy, S3Server

NOW = datetime(2026, 11, 22, 2, tzinfo=UTC)
HEAD = evidence_head_key("local")


def report(sequence: int, previous_sha256: str | None, run: str = "run", environment: str = "local") -> Report:
    return Report(
        sequence=sequence,
        previous_sha256=previous_sha256,
        flow="nightly-backup",
        environment=environment,
        run_id=run,
        run_name="quiet-owl",
        inputs={},
        tools={},
        started=NOW,
        finished=NOW,
        steps=(),
        verdict="passed",
    )


def append(keeping: Keeping, run: str = "run") -> Report:
    name = keeping.environment.name
    return append_report(
        keeping.store, keeping.environment, keeping.keys, lambda number, sha256: report(number, sha256, run, name)
    )[1]


def problems(keeping: Keeping) -> list[str]:
    return verify_chain(keeping.store, keeping.environment, (KEY,)).problems


@pytest.fixture
def chain(keeping: Keeping) -> Keeping:
    """Five good reports."""
    for number in range(5):
        append(keeping, f"run-{number + 1}")
    return keeping


def test_reports_are_numbered_from_one_and_hold_the_hash_of_the_one_before(chain: Keeping):
    result = verify_chain(chain.store, chain.environment, (KEY,))
    assert (result.reports, result.problems) == (5, [])
    key, newest = read_report(chain.store, chain.environment, (KEY,))
    assert (key, newest.run_id) == ("local/evidence/00000005.json", "run-5")
    fourth = chain.store.get(evidence_key("local", 4))
    assert newest.previous_sha256 == sha256_hex(fourth)
    assert read_report(chain.store, chain.environment, (KEY,), 1)[1].previous_sha256 is None


def test_after_the_key_was_replaced_the_remedy_is_told_before_anything_is_deleted(chain: Keeping):
    with pytest.raises(IntegrityError, match=r"does not know.*signing\.previous_keys, and delete nothing; else: "):
        read_report(chain.store, chain.environment, (STRANGE_KEY,))
    assert read_report(chain.store, chain.environment, (STRANGE_KEY, KEY))[1].sequence == 5


def test_an_environment_without_reports_has_no_problem_and_no_report(keeping: Keeping):
    result = verify_chain(keeping.store, keeping.environment, (KEY,))
    assert (result.reports, result.problems) == (0, [])
    with pytest.raises(ObjectMissingError):
        read_report(keeping.store, keeping.environment, (KEY,))


def test_the_end_is_found_by_the_head_not_by_reading_the_whole_chain(s3_faults: FaultProxy, bucket: str):
    keeping = keeping_at(bucket, s3_faults)
    for _ in range(3):
        append(keeping)
    s3_faults.requests.clear()
    append(keeping)
    assert s3_faults.count("GET", "list-type") == 1
    assert s3_faults.count("GET", "start-after=local%2Fevidence%2F00000003.json") == 1
    assert s3_faults.count("GET", "/evidence/") == 0  # no report is read
    keeping.close()


def test_eight_runs_that_append_at_once_make_one_whole_chain(keeping: Keeping):
    together = threading.Barrier(8)

    def run(number: int) -> int:
        together.wait()
        return append(keeping, f"run-{number}").sequence

    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(pool.map(run, range(8)))
    assert numbers == list(range(1, 9))
    assert problems(keeping) == []
    runs = {read_report(keeping.store, keeping.environment, (KEY,), number)[1].run_id for number in numbers}
    assert len(runs) == 8


def test_a_run_that_loses_its_number_takes_the_next_with_the_others_hash(keeping: Keeping):
    append(keeping)
    asked: list[int] = []

    def build(number: int, sha256: str | None) -> Report:
        asked.append(number)
        if number == 2:
            append(keeping, "the other run")
        return report(number, sha256)

    _, mine = append_report(keeping.store, keeping.environment, (KEY,), build)
    assert asked == [2, 3]
    assert mine.previous_sha256 == sha256_hex(keeping.store.get(evidence_key("local", 2)))
    assert problems(keeping) == []


def test_a_slow_run_does_not_move_the_head_back(
    keeping: Keeping, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    other = keeping_at(bucket, s3_server)
    write = keeping.store.put_new

    def overtaken(key: str, body: bytes) -> None:
        write(key, body)
        append(other, "the other run")

    monkeypatch.setattr(keeping.store, "put_new", overtaken)
    assert append(keeping).sequence == 1
    assert b'"sequence":2' in keeping.store.get(HEAD)


def test_a_number_that_is_never_free_is_given_up(keeping: Keeping):
    def build(number: int, sha256: str | None) -> Report:
        keeping.store.put(evidence_key("local", number), b"in the way")
        return report(number, sha256)

    with pytest.raises(ObjectExistsError):
        append_report(keeping.store, keeping.environment, (KEY,), build)


def test_a_report_with_another_number_than_it_was_given_is_refused(keeping: Keeping):
    with pytest.raises(ValueError, match="number, hash and environment"):
        append_report(keeping.store, keeping.environment, (KEY,), lambda number, sha256: report(number + 1, sha256))


def test_a_head_that_cannot_be_written_just_now_stays_behind_and_is_caught_up(s3_faults: FaultProxy, bucket: str):
    keeping = keeping_at(bucket, s3_faults)
    append(keeping)
    # A TemporaryError that botocore does not try again by itself.
    s3_faults.refuse("PUT", "evidence-head.json", status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")
    append(keeping)
    assert b'"sequence":1' in keeping.store.get(HEAD)
    assert problems(keeping) == []
    append(keeping)
    assert b'"sequence":3' in keeping.store.get(HEAD)
    assert problems(keeping) == []
    keeping.close()


def test_a_key_that_was_replaced_still_verifies_what_it_signed(chain: Keeping):
    new = SigningKey("hmac-sha256", "the new key, which has come in place of the old")
    chain.keys = (new, KEY)
    append(chain)
    assert verify_chain(chain.store, chain.environment, (new, KEY)).problems == []
    assert len(verify_chain(chain.store, chain.environment, (new,)).problems) == 5


def edit(keeping: Keeping, number: int, key: SigningKey, **changes: object) -> None:
    """Change fields of a stored report and sign it with this key."""
    stored = read_report(keeping.store, keeping.environment, (KEY,), number)[1]
    document = stored.model_copy(update=changes).model_dump(mode="json")
    keeping.store.put(evidence_key("local", number), canonical_bytes(seal(document, key)))


def edit_without_signing(keeping: Keeping) -> None:
    key = evidence_key("local", 3)
    keeping.store.put(key, keeping.store.get(key).replace(b'"passed"', b'"failed"'))


def sign_with_a_strange_key(keeping: Keeping) -> None:
    edit(keeping, 3, STRANGE_KEY, verdict="failed")


def sign_an_edit_with_the_good_key(keeping: Keeping) -> None:
    edit(keeping, 3, KEY, verdict="failed")


def sign_an_edit_of_the_last_with_the_good_key(keeping: Keeping) -> None:
    edit(keeping, 5, KEY, verdict="failed")


def remove_from_the_middle(keeping: Keeping) -> None:
    keeping.store.delete([evidence_key("local", 2), evidence_key("local", 3)])


def remove_the_first(keeping: Keeping) -> None:
    keeping.store.delete([evidence_key("local", 1)])


def remove_the_end(keeping: Keeping) -> None:
    keeping.store.delete([evidence_key("local", 5)])


def remove_all_but_the_head(keeping: Keeping) -> None:
    keeping.store.delete([evidence_key("local", number) for number in range(1, 6)])


def exchange_two(keeping: Keeping) -> None:
    one, other = evidence_key("local", 2), evidence_key("local", 3)
    first, second = keeping.store.get(one), keeping.store.get(other)
    keeping.store.put(one, second)
    keeping.store.put(other, first)


def remove_the_head(keeping: Keeping) -> None:
    keeping.store.delete([HEAD])


def forge_the_head(keeping: Keeping) -> None:
    head = Head(environment="local", sequence=3, sha256="0" * 64)
    keeping.store.put(HEAD, canonical_bytes(seal(head.model_dump(mode="json"), STRANGE_KEY)))


def put_another_environments_report(keeping: Keeping) -> None:
    edit(keeping, 3, KEY, environment="production")


@pytest.mark.parametrize(
    ("tamper", "found"),
    [
        (edit_without_signing, ["00000003.json: the signature does not match", "00000004.json: it holds another SHA"]),
        (sign_with_a_strange_key, ["00000003.json: signed with a key", "00000004.json: it holds another SHA-256"]),
        (sign_an_edit_with_the_good_key, ["00000004.json: it holds another SHA-256 of report 3"]),
        (sign_an_edit_of_the_last_with_the_good_key, ["00000005.json: it is not the report that the chain's head"]),
        (remove_from_the_middle, ["00000004.json: reports 2 to 3 are missing before it"]),
        (remove_the_first, ["00000002.json: report 1 is missing before it"]),
        (remove_the_end, ["evidence-head.json: the chain went to report 5, but ends at 4: its end was removed"]),
        (remove_all_but_the_head, ["evidence-head.json: the chain went to report 5, but ends at 0"]),
        (exchange_two, ["00000002.json: it says that it is report 3", "00000003.json: it says that it is report 2"]),
        (remove_the_head, ["evidence-head.json: missing"]),
        (forge_the_head, ["evidence-head.json: signed with a key that this environment does not know"]),
        (put_another_environments_report, ["00000003.json: it is a report of environment 'production'"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_every_edit_is_found_and_named(chain: Keeping, tamper: Callable[[Keeping], None], found: list[str]):
    assert problems(chain) == []
    tamper(chain)
    told = problems(chain)
    for part in found:
        assert any(part in problem for problem in told), told


def test_a_removed_end_stays_visible_after_the_next_run_has_appended(chain: Keeping):
    remove_the_end(chain)
    assert append(chain).sequence == 6
    assert any("report 5 is missing" in problem for problem in problems(chain))


def test_a_forged_head_stops_the_next_append_with_what_to_do(chain: Keeping):
    forge_the_head(chain)
    with pytest.raises(IntegrityError, match="nightshift evidence verify"):
        append(chain)


def test_a_lost_head_is_written_anew_by_the_next_run(chain: Keeping):
    remove_the_head(chain)
    assert append(chain).sequence == 6
    assert problems(chain) == []


@pytest.mark.parametrize("with_head", [True, False])
def test_the_evidence_of_another_environment_is_never_appended_to(
    chain: Keeping, s3_server: S3Server, bucket: str, with_head: bool
):
    if not with_head:
        remove_the_head(chain)
    other = keeping_at(bucket, s3_server, name="production", prefix="local")
    with pytest.raises(PermanentError, match="evidence of environment 'local'"):
        append(other)
    assert problems(other) != []
    other.close()


def test_what_is_not_a_report_is_passed_over(chain: Keeping):
    chain.store.put("local/evidence/readme.txt", b"hello")
    chain.store.put("local/evidence/app/00000009.json", b"{}")
    assert problems(chain) == []
    assert append(chain).sequence == 6


def test_only_so_many_problems_are_told_and_the_rest_is_counted():
    walk = ChainWalk("local")
    for number in range(1, 301):
        walk.add(f"local/evidence/{number:08d}.json", number, "0" * 64, "unsigned", None)
    told = walk.result(HEAD, Head(environment="local", sequence=300, sha256="0" * 64)).problems
    assert len(told) == MOST_PROBLEMS_TOLD + 1
    assert told[-1] == "and 200 more problems"
