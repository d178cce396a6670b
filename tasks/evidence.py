"""The evidence of an environment in its bucket: appending a report to the chain, and verifying the chain from end to end."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from core.canonical import sha256_hex
from core.environment import Environment
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.evidence import Head, Report
from core.evidence_chain import ChainResult, ChainWalk, sequence_of
from core.keys import evidence_folder, evidence_head_key, evidence_key
from core.signature import SigningKey
from core.told_before import is_about
from tasks.object_store import ObjectExistsError, ObjectMissingError, ObjectStore
from tasks.sealed import open_sealed, read_record, sealed_bytes

logger = logging.getLogger(__name__)

Build = Callable[[int, str | None], Report]

# Each attempt is lost only to another run that wrote its report in between; there are never so many at once.
_ATTEMPTS = 20
# More runs than come between two sweeps that find the same.
_LOOKED_BACK = 20


@dataclass(frozen=True)
class _End:
    """The end of the chain as it is stored: the number of the last report, and the SHA-256 of its bytes."""

    sequence: int
    sha256: str | None


def append_report(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], build: Build
) -> tuple[str, Report]:
    """Append a report to an environment's chain: signed with the first key, written with If-None-Match under the next free number.

    `build` is given that number and the SHA-256 of the report before (None for the first), and called again when another run took the number meanwhile.
    Return the key and the report. Raise PermanentError when the chain is another environment's, IntegrityError when its head is forged or damaged.
    """
    attempts = Retrying(
        retry=retry_if_exception_type(ObjectExistsError),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random(0, 0.2),
        reraise=True,
    )
    return attempts(_append_once, store, environment, keys, build)


def verify_chain(store: ObjectStore, environment: Environment, keys: Sequence[SigningKey]) -> ChainResult:
    """Read every report of an environment, one after the other, and say what is wrong with the chain (see core.evidence_chain).

    One request a report and one per 1,000 for the list. An empty chain has no problem: whether something ought to be there, the caller knows.
    """
    prefix = environment.prefix
    head_key = evidence_head_key(prefix)
    # The head first: a report that is appended while this runs then lies after it, which is allowed.
    head = _head_or_problem(store, environment, keys)
    good_head = head if isinstance(head, Head) else None
    walk = ChainWalk(environment.name)
    for item in store.list(evidence_folder(prefix)):
        sequence = sequence_of(item.key, prefix)
        if sequence is not None:
            stored = store.get(item.key)
            walk.add(item.key, sequence, sha256_hex(stored), _report_or_problem(stored, keys, item.key), good_head)
    return walk.result(head_key, head)


def read_report(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], sequence: int | None = None
) -> tuple[str, Report]:
    """Return key and report of a number (None: the newest). Raise ObjectMissingError when there is none, IntegrityError when it is forged or changed."""
    if sequence is None:
        sequence = _find_end(store, environment, _read_head(store, environment, keys)).sequence
        if not sequence:
            raise ObjectMissingError(
                "read the newest report", _address(store, evidence_folder(environment.prefix)), "there is none"
            )
    key = evidence_key(environment.prefix, sequence)
    return key, _parse_report(store.get(key), keys, _address(store, key))


def newest_about(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], flow: str, subjects: Sequence[str]
) -> Report | None:
    """The newest report of a flow about these subjects and no others; None when there is none among the last. Raise IntegrityError when one is forged or changed."""
    end = _find_end(store, environment, _read_head(store, environment, keys)).sequence
    for sequence in range(end, max(0, end - _LOOKED_BACK), -1):
        key = evidence_key(environment.prefix, sequence)
        report = _parse_report(store.get(key), keys, _address(store, key))
        if is_about(report, flow, subjects):
            return report
    return None


def newest_reports(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], most: int
) -> Iterator[Report]:
    """Yield the environment's newest reports, newest first, one request each as they are consumed; those that are forged or missing are passed over.

    Raise IntegrityError when the head is forged or changed.
    """
    end = _find_end(store, environment, _read_head(store, environment, keys)).sequence
    for sequence in range(end, max(0, end - most), -1):
        key = evidence_key(environment.prefix, sequence)
        try:
            report = _parse_report(store.get(key), keys, _address(store, key))
        except PermanentError:
            # `nightshift evidence verify` names it.
            continue
        if report.environment == environment.name and report.sequence == sequence:
            yield report


def _append_once(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], build: Build
) -> tuple[str, Report]:
    head = _read_head(store, environment, keys)
    end = _find_end(store, environment, head)
    if head is None and end.sequence:
        _refuse_another_environments(store, environment, keys, end.sequence)
    report = build(end.sequence + 1, end.sha256)
    if (report.sequence, report.previous_sha256, report.environment) != (
        end.sequence + 1,
        end.sha256,
        environment.name,
    ):
        raise ValueError("the report does not hold the number, hash and environment that it was to be made with")
    key = evidence_key(environment.prefix, report.sequence)
    stored = sealed_bytes(report, keys[0])
    store.put_new(key, stored)
    _move_head(
        store,
        environment,
        keys,
        Head(environment=environment.name, sequence=report.sequence, sha256=sha256_hex(stored)),
    )
    return key, report


def _find_end(store: ObjectStore, environment: Environment, head: Head | None) -> _End:
    """The end of the chain: from the head on, or from the beginning when there is none.

    Where the head is beyond what is stored, the end is where the head says: the next report leaves the gap that shows what was removed.
    """
    prefix = environment.prefix
    last, last_key = head.sequence if head else 0, ""
    after = evidence_key(prefix, last) if head else ""
    for item in store.list(evidence_folder(prefix), start_after=after):
        sequence = sequence_of(item.key, prefix)
        if sequence is not None:
            last, last_key = sequence, item.key
    if last_key:
        return _End(last, sha256_hex(store.get(last_key)))
    return _End(last, head.sha256 if head else None)


def _move_head(store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], head: Head) -> None:
    """Write how far the chain goes, unless another run wrote a later head meanwhile.

    A TemporaryError is only logged: the report is written, the head may lag behind, and a retry of the step would append the same report again.
    """
    try:
        there = _read_head(store, environment, keys)
        if there is None or there.sequence < head.sequence:
            store.put(evidence_head_key(environment.prefix), sealed_bytes(head, keys[0]))
    except TemporaryError as error:
        logger.warning("the head of the evidence stays behind report %d until the next run: %s", head.sequence, error)


def _read_head(store: ObjectStore, environment: Environment, keys: Sequence[SigningKey]) -> Head | None:
    key = evidence_head_key(environment.prefix)
    try:
        stored = store.get(key)
    except ObjectMissingError:
        return None
    on = _address(store, key)
    try:
        head = read_record(
            open_sealed(stored, keys, what="the head of the evidence", on=on),
            Head,
            what="the head of the evidence",
            on=on,
        )
    except IntegrityError as error:
        mend = "Run `nightshift evidence verify`; once you know who changed it, delete the head, and the next run writes it anew"
        if "previous_keys" in error.next_step:
            # Mostly a replaced key, which is no reason to delete what keeps the chain's end from being cut off.
            mend = f"If the signing key was replaced, add the old one to signing.previous_keys, and delete nothing; else: {mend}"
        raise IntegrityError(error.attempted, error.on, error.found, mend) from error
    if head.environment != environment.name:
        raise _another_environments(on, head.environment, environment)
    return head


def _refuse_another_environments(
    store: ObjectStore, environment: Environment, keys: Sequence[SigningKey], sequence: int
) -> None:
    """Raise PermanentError when the last report is a good one of another environment; a bad one is what verify_chain tells of."""
    key = evidence_key(environment.prefix, sequence)
    report = _report_or_problem(store.get(key), keys, _address(store, key))
    if isinstance(report, Report) and report.environment != environment.name:
        raise _another_environments(_address(store, key), report.environment, environment)


def _another_environments(on: str, owner: str, environment: Environment) -> PermanentError:
    return PermanentError(
        "append to the evidence",
        on,
        f"it is the evidence of environment {owner!r}",
        f"Give environment {environment.name!r} another store.prefix or store.bucket",
    )


def _parse_report(stored: bytes, keys: Sequence[SigningKey], on: str) -> Report:
    return read_record(open_sealed(stored, keys, what="the report", on=on), Report, what="the report", on=on)


def _report_or_problem(stored: bytes, keys: Sequence[SigningKey], on: str) -> Report | str:
    try:
        return _parse_report(stored, keys, on)
    except PermanentError as error:
        return error.found


def _head_or_problem(store: ObjectStore, environment: Environment, keys: Sequence[SigningKey]) -> Head | str | None:
    try:
        return _read_head(store, environment, keys)
    except PermanentError as error:
        return error.found


def _address(store: ObjectStore, key: str) -> str:
    return f"s3://{store.bucket}/{key}"
