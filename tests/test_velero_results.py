"""Velero's own words: the errors of a Backup or Restore are fetched from its bucket by a DownloadRequest; where they cannot be had, that and the reason are told."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.environment_restore import AppState
from core.redaction import redact, register_secret
from core.velero import VeleroRun, read_run
from core.velero_results import (
    LONGEST_RESULTS_BYTES,
    LONGEST_TEXT,
    SHOWN,
    VeleroErrors,
    download_request,
    download_url,
    error_findings,
    has_errors,
    read_errors,
)
from tasks.kubernetes_client import KubernetesClient
from tasks.velero_results import fetch_errors
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_velero import SIGNATURE, Velero

SETTINGS = AppState(namespaces=("shop",))
FEW_SECONDS = 0.8


def ended(kind: str = "Backup", phase: str = "PartiallyFailed", **status: Any) -> VeleroRun:
    metadata = {"name": "b", "creationTimestamp": "2026-11-22T03:00:00Z"}
    return read_run({"kind": kind, "metadata": metadata, "status": {"phase": phase, "errors": 2, **status}})


def packed(document: Any) -> bytes:
    return gzip.compress(json.dumps(document).encode(), mtime=0)


# The file


def test_errors_are_told_with_where_they_happened_and_warnings_are_not_among_them() -> None:
    found = read_errors(
        packed(
            {
                "errors": {
                    "velero": ["cannot reach the bucket"],
                    "cluster": ["no such kind"],
                    "namespaces": {"shop": ["pod api:\n  hook failed"], "b": ["x"]},
                },
                "warnings": {"velero": ["slow"]},
            }
        )
    )
    assert found == VeleroErrors(
        ("cannot reach the bucket", "cluster: no such kind", "b: x", "shop: pod api: hook failed")
    )


@pytest.mark.parametrize("document", [{}, {"errors": None}, {"errors": {}}, {"errors": {"namespaces": {"shop": None}}}])
def test_a_file_without_errors_has_none(document: Document) -> None:
    assert read_errors(packed(document)) == VeleroErrors()


@given(st.lists(st.text(min_size=1), max_size=30))
def test_all_errors_are_shown_or_counted(texts: list[str]) -> None:
    found = read_errors(packed({"errors": {"namespaces": {"shop": texts}}}))
    assert len(found.texts) + found.more == len(texts)
    assert len(found.texts) <= SHOWN
    assert all(len(text) <= LONGEST_TEXT and "\n" not in text for text in found.texts)


def test_a_secret_in_an_error_is_not_told_even_where_the_text_is_cut() -> None:
    register_secret("a-very-secret-word")
    (text,) = read_errors(packed({"errors": {"velero": ["x" * (LONGEST_TEXT - 8) + "a-very-secret-word"]}})).texts
    assert "a-very" not in text


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        (b"<Error/>", "another form"),
        (packed([1]), "another form"),
        (packed({"errors": {"velero": "no list"}}), "another form"),
        (packed({"errors": {"velero": ["x" * 100]}})[:-20], "cut off"),
        (b"\x1f\x8b" + bytes(20), "no gzip"),
    ],
)
def test_what_is_no_results_file_is_refused_without_showing_it(stored: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_errors(stored)


def test_a_small_file_that_unpacks_to_very_much_is_refused_and_not_unpacked() -> None:
    stored = gzip.compress(b" " * (8 * LONGEST_RESULTS_BYTES))
    assert len(stored) < LONGEST_RESULTS_BYTES / 50
    tracemalloc.start()
    with pytest.raises(ValueError, match="larger than"):
        read_errors(stored)
    assert tracemalloc.get_traced_memory()[1] < 3 * LONGEST_RESULTS_BYTES
    tracemalloc.stop()


# Which runs, and what is asked


@pytest.mark.parametrize(
    ("phase", "errors", "there"),
    [
        ("PartiallyFailed", 2, True),
        ("Failed", 0, True),
        ("Completed", 1, True),
        ("Completed", 0, False),
        ("FailedValidation", 0, False),
        ("Deleting", 0, False),
    ],
)
def test_errors_are_asked_for_where_velero_wrote_some_down(phase: str, errors: int, there: bool) -> None:
    assert has_errors(ended(phase=phase, errors=errors)) == there


@pytest.mark.parametrize(("kind", "target"), [("Backup", "BackupResults"), ("Restore", "RestoreResults")])
def test_the_request_names_the_results_of_its_run_and_is_ours(kind: str, target: str) -> None:
    made = download_request("staging", SETTINGS, ended(kind), "run-1", "abcd")
    assert made["spec"] == {"target": {"kind": target, "name": "b"}}
    assert made["metadata"]["labels"]["nightshift.dev/run"] == "run-1"
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("b-abcd", "velero")


def test_an_address_counts_once_velero_has_answered() -> None:
    assert download_url({}) == ""
    assert download_url({"status": {"phase": "New", "downloadURL": "http://x"}}) == ""
    assert download_url({"status": {"phase": "Processed", "downloadURL": "http://x"}}) == "http://x"


def test_more_errors_than_are_shown_are_counted_and_the_command_that_shows_them_is_named() -> None:
    findings = error_findings(ended(), VeleroErrors(("a", "b"), more=7), "velero")
    assert [finding.severity for finding in findings] == ["error", "error", "note"]
    assert findings[-1].text == "Backup b: 7 more errors → velero backup describe b --details -n velero"


# Fetching


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    with KubernetesClient.open(None) as opened:
        yield opened


def fetch(client: KubernetesClient, run: VeleroRun | None = None) -> VeleroErrors:
    return fetch_errors(client, SETTINGS, "staging", run or ended(), "run-1", answer_seconds=FEW_SECONDS)


def requests_left(kubernetes: KubernetesApi) -> list[Document]:
    return kubernetes.select("velero.io/v1", "downloadrequests", "velero", {})


@pytest.mark.parametrize("kind", ["Backup", "Restore"])
def test_errors_are_fetched_from_the_bucket_and_the_request_is_removed(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient, kind: str
) -> None:
    assert velero.bucket
    velero.bucket.put_results("b", errors={"namespaces": {"shop": ["hook failed"]}})
    assert fetch(client, ended(kind)) == VeleroErrors(("shop: hook failed",))
    assert kubernetes.count("POST", "/downloadrequests") == 1
    assert requests_left(kubernetes) == []
    # The address is a secret while it is valid.
    assert SIGNATURE not in redact(f"GET {velero.bucket.address}/b-results.gz?{SIGNATURE}")


def test_a_velero_that_does_not_answer_is_told_and_the_request_is_removed(
    kubernetes: KubernetesApi, velero: Velero, client: KubernetesClient
) -> None:
    velero.answers = False
    assert "Velero did not answer within" in fetch(client).why_not
    assert kubernetes.count("POST", "/downloadrequests") == 1
    assert requests_left(kubernetes) == []


def test_a_cluster_without_the_kind_is_told(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.absent = {"downloadrequests"}
    assert "has no DownloadRequest" in fetch(client).why_not


def test_a_right_that_is_lacking_is_told_with_where_the_role_is(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.fail("POST", "/downloadrequests", 403)
    assert "docs/app-state.md" in fetch(client).why_not


def test_an_api_server_that_is_away_is_told(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.fail("POST", "/downloadrequests", 500)
    assert fetch(client).why_not.startswith("500")


def test_a_file_that_is_not_in_the_bucket_is_told(velero: Velero, client: KubernetesClient) -> None:
    assert fetch(client).why_not == "Velero's results file is not readable: the bucket answers 404"


def test_a_file_that_is_no_results_is_told(velero: Velero, client: KubernetesClient) -> None:
    assert velero.bucket
    velero.bucket.files["/b-results.gz"] = b"something else"
    assert "another form" in fetch(client).why_not


def test_a_file_that_is_too_large_is_not_taken_in(velero: Velero, client: KubernetesClient) -> None:
    assert velero.bucket
    velero.bucket.files["/b-results.gz"] = bytes(LONGEST_RESULTS_BYTES + 1)
    assert "larger than" in fetch(client).why_not


def test_a_bucket_that_the_worker_cannot_reach_is_told_without_the_address_that_is_a_secret(
    velero: Velero, client: KubernetesClient
) -> None:
    assert velero.bucket
    velero.bucket.close()
    found = fetch(client).why_not
    assert "the worker cannot read Velero's bucket (ConnectError" in found
    assert SIGNATURE not in found
    velero.bucket = None


def test_why_errors_are_not_there_is_a_warning_beside_the_failure() -> None:
    (finding,) = error_findings(ended("Restore"), VeleroErrors(why_not="no answer"), "velero")
    assert finding.severity == "warning"
    assert "Restore b: its errors could not be fetched: no answer → velero restore describe b" in finding.text
