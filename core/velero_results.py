"""What went wrong in a Backup or Restore in Velero's own words: its results file, which Velero keeps in its bucket and hands out by a DownloadRequest (velero.io/v1).

Sources: Velero's pkg/apis/velero/v1/download_request_types.go (targets, phases), pkg/controller/download_request_controller.go (who writes status.downloadURL),
pkg/persistence/object_store_layout.go (the file: gzip) and pkg/util/results/result.go (its JSON: {"errors": {"velero", "cluster", "namespaces"}, "warnings": …}).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from core.environment_restore import AppState
from core.evidence import Finding
from core.redaction import redact
from core.velero import API_VERSION, Document, VeleroRun, owner_labels

# Some tell what it is; all of them are for `velero describe`.
SHOWN = 10
LONGEST_TEXT = 400
LONGEST_RESULTS_BYTES = 16 * 1024 * 1024
# A Backup that was refused has no results; one that is being deleted loses them.
_WITH_RESULTS = frozenset({"Completed", "PartiallyFailed", "Failed"})


class _Result(BaseModel):
    """Messages of one severity; Go writes null for what is empty."""

    velero: tuple[str, ...] | None = None
    cluster: tuple[str, ...] | None = None
    namespaces: dict[str, tuple[str, ...] | None] | None = None


class _Results(BaseModel):
    errors: _Result | None = None


@dataclass(frozen=True)
class VeleroErrors:
    """The first errors of a Backup or Restore, how many more there are, and, where they could not be had, why."""

    texts: tuple[str, ...] = ()
    more: int = 0
    why_not: str = ""


def has_errors(run: VeleroRun) -> bool:
    """Whether Velero wrote down errors of a run that ended."""
    return run.phase in _WITH_RESULTS and not run.well


def download_request(environment: str, settings: AppState, run: VeleroRun, run_id: str, mark: str) -> Document:
    """The DownloadRequest for the results of a Backup or Restore. `mark`, something random, makes its name its own."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DownloadRequest",
        "metadata": {
            "name": f"{run.name}-{mark}",
            "namespace": settings.velero_namespace,
            "labels": owner_labels(environment, run_id),
        },
        "spec": {"target": {"kind": f"{run.kind}Results", "name": run.name}},
    }


def download_url(document: Document) -> str:
    """Where a DownloadRequest says that the file is; "" while Velero has not answered."""
    status = document.get("status") or {}
    return str(status.get("downloadURL") or "") if status.get("phase") == "Processed" else ""


def read_errors(stored: bytes) -> VeleroErrors:
    """Given a results file as it is stored, return its errors. Raise ValueError when it is none, or too large."""
    texts = [redact(" ".join(text.split()))[:LONGEST_TEXT] for text in _errors(_unpacked(stored))]
    return VeleroErrors(tuple(texts[:SHOWN]), max(0, len(texts) - SHOWN))


def error_findings(run: VeleroRun, errors: VeleroErrors, velero_namespace: str) -> tuple[Finding, ...]:
    """What an operator is told of the errors: each of the first ones, and how to see the others; or why they are not here."""
    noun = run.kind.lower()
    describe = f"velero {noun} describe {run.name} --details -n {velero_namespace}"
    if errors.why_not:
        text = f"{run.kind} {run.name}: its errors could not be fetched: {errors.why_not} → {describe}"
        return (Finding(severity="warning", text=text),)
    found = [Finding(severity="error", text=f"{run.kind} {run.name}: {text}") for text in errors.texts]
    if errors.more:
        found.append(Finding(severity="note", text=f"{run.kind} {run.name}: {errors.more} more errors → {describe}"))
    return tuple(found)


def _unpacked(stored: bytes) -> bytes:
    """The file's content. A server that unpacks it on the way is taken as it is."""
    if not stored.startswith(b"\x1f\x8b"):
        return stored
    unpacking = zlib.decompressobj(wbits=31)
    try:
        content = unpacking.decompress(stored, LONGEST_RESULTS_BYTES)
    except zlib.error as error:
        raise ValueError("it is no gzip file") from error
    if unpacking.unconsumed_tail:
        raise ValueError(f"it is larger than {LONGEST_RESULTS_BYTES} bytes")
    if not unpacking.eof:
        raise ValueError("it is cut off")
    return content


def _errors(content: bytes) -> Iterator[str]:
    try:
        result = _Results.model_validate_json(content).errors or _Result()
    except ValidationError as error:
        # Not quoted: it is not ours to show.
        raise ValueError("it has another form than Velero's results") from error
    yield from result.velero or ()
    yield from (f"cluster: {text}" for text in result.cluster or ())
    for namespace, texts in sorted((result.namespaces or {}).items()):
        yield from (f"{namespace}: {text}" for text in texts or ())
