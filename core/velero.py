"""What Velero is asked for and what its answers mean: the documents of Backup and Restore (velero.io/v1) and their phases.

Sources: Velero's pkg/apis/velero/v1/backup_types.go, restore_types.go and backupstoragelocation_types.go. A phase that is not known here counts as
"still at work": newer versions of Velero add phases in the middle, not at the end.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime

from core.environment_restore import AppState
from core.errors import PermanentError
from core.evidence import Finding
from core.manifest import Record

Document = dict[str, Any]
Kind = Literal["Backup", "Restore"]

API_VERSION = "velero.io/v1"
MANAGED_BY_LABEL, MANAGED_BY = "app.kubernetes.io/managed-by", "nightshift"
ENVIRONMENT_LABEL, RUN_LABEL = "nightshift.dev/environment", "nightshift.dev/run"
REHEARSES = "nightshift.dev/rehearses"  # annotation of the scratch namespace: which namespace's copy it holds

NEW, COMPLETED, PARTIALLY_FAILED = "New", "Completed", "PartiallyFailed"
FINAL_PHASES = frozenset({COMPLETED, PARTIALLY_FAILED, "Failed", "FailedValidation", "Deleting"})

# Where to look, by the phase in which a run is stuck; "" for every other.
_WHERE_IT_HANGS = {
    NEW: "Velero has not begun: does its Pod run, and does another backup go on? kubectl -n {namespace} get pods; "
    "kubectl -n {namespace} get backups,restores",
    "InProgress": "Look whether the items still grow, and at Velero's log: kubectl -n {namespace} logs deployment/velero --since=1h",
    "WaitingForPluginOperations": "Volume data is still being moved or a plugin hangs: kubectl -n {namespace} get datauploads,datadownloads,podvolumebackups",
    "": "Look at Velero's log: kubectl -n {namespace} logs deployment/velero --since=1h",
}


class VeleroRun(Record):
    """A Backup or Restore as it stands. `items` and `total_items` are best effort, as Velero says itself; `created` is the API server's time."""

    kind: Kind
    name: str
    phase: str
    created: AwareDatetime
    started: AwareDatetime | None = None
    completed: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    items: int = 0
    total_items: int = 0
    errors: int = 0
    warnings: int = 0
    failure_reason: str = ""
    validation_errors: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether Velero will do nothing more to it."""
        return self.phase in FINAL_PHASES

    @property
    def well(self) -> bool:
        """Whether it ended without a single error. PartiallyFailed is a failure: something is not in it, and nobody knows yet what."""
        return self.phase == COMPLETED and not self.errors and not self.validation_errors

    @property
    def standing(self) -> str:
        """Its phase and how far it is, in a few words: `InProgress, 12 of 40 items`."""
        counted = f"{self.items} of {self.total_items} items" if self.total_items else ""
        return ", ".join(filter(None, (self.phase, counted)))

    @property
    def why(self) -> str:
        """What Velero says of a bad end, in one line."""
        counts = f"{_many(self.errors, 'error')}, {_many(self.warnings, 'warning')}"
        return "; ".join(filter(None, (f"{self.standing}: {counts}", self.failure_reason, *self.validation_errors)))


def backup_name(environment: str, at: datetime, run_id: str) -> str:
    """Given an environment, a time and a run's id, return the name of its Backup: at most 63 characters, so that Velero's labels carry it uncut."""
    return f"{environment[:38]}-{at.astimezone(UTC):%Y%m%d%H%M%S}-{run_id[:8]}"


def restore_name(backup: str, namespace: str, attempt: int) -> str:
    """Given a Backup's name, the namespace that is rehearsed and the how-manieth time, return the name of the Restore (below 253 characters)."""
    return f"{backup}-{namespace}-{attempt}"


def owner_labels(environment: str, run_id: str) -> dict[str, str]:
    """The labels of everything that nightshift makes in a cluster: whose it is, and which run made it."""
    # An environment's name may end with '-', a label's value may not.
    return {MANAGED_BY_LABEL: MANAGED_BY, ENVIRONMENT_LABEL: environment.rstrip("-"), RUN_LABEL: run_id}


def is_made_by(document: Mapping[str, Any], environment: str, run_id: str | None = None) -> bool:
    """Whether an object carries our labels of this environment and, when one is given, of this run."""
    labels = (document.get("metadata") or {}).get("labels") or {}
    wanted = owner_labels(environment, run_id or labels.get(RUN_LABEL, ""))
    return all(labels.get(key) == value for key, value in wanted.items()) and bool(labels.get(RUN_LABEL))


def ttl_text(hours: int) -> str:
    """Given hours, return them as Go writes a duration, which is how Velero compares and shows them: `720h0m0s`."""
    return f"{hours}h0m0s"


def backup_document(environment: str, settings: AppState, name: str, run_id: str) -> Document:
    """The Backup that an environment asks for."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Backup",
        "metadata": {
            "name": name,
            "namespace": settings.velero_namespace,
            "labels": owner_labels(environment, run_id),
        },
        "spec": {
            "includedNamespaces": list(settings.namespaces),
            "excludedResources": list(settings.excluded_kinds),
            "storageLocation": settings.storage_location,
            "ttl": ttl_text(settings.ttl_hours),
        },
    }


def restore_document(
    environment: str,
    settings: AppState,
    *,
    backup: str,
    namespace: str,
    kinds: tuple[str, ...],
    run_id: str,
    attempt: int,
) -> Document:
    """The Restore that rehearses one namespace of a Backup: into the scratch namespace, these kinds only, no volumes and nothing of the whole cluster."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Restore",
        "metadata": {
            "name": restore_name(backup, namespace, attempt),
            "namespace": settings.velero_namespace,
            "labels": owner_labels(environment, run_id),
        },
        "spec": {
            "backupName": backup,
            "includedNamespaces": [namespace],
            "namespaceMapping": {namespace: settings.drill_namespace},
            "includedResources": list(kinds),
            "includeClusterResources": False,
            "restorePVs": False,
        },
    }


def read_run(document: Document) -> VeleroRun:
    """Given a Backup or Restore as the API server gives it, return how it stands. What Velero has not written yet counts as nothing."""
    metadata, status = document["metadata"], document.get("status") or {}
    progress = status.get("progress") or {}
    return VeleroRun(
        kind=document["kind"],
        name=metadata["name"],
        phase=status.get("phase") or NEW,
        created=metadata["creationTimestamp"],
        started=status.get("startTimestamp"),
        completed=status.get("completionTimestamp"),
        expires=status.get("expiration"),
        items=progress.get("itemsBackedUp") or progress.get("itemsRestored") or 0,
        total_items=progress.get("totalItems") or 0,
        errors=status.get("errors") or 0,
        warnings=status.get("warnings") or 0,
        failure_reason=status.get("failureReason") or "",
        validation_errors=tuple(status.get("validationErrors") or ()),
    )


def run_facts(run: VeleroRun) -> dict[str, Any]:
    """What the report holds of a Backup or Restore."""
    return run.model_dump(mode="json", exclude_none=True)


def run_findings(run: VeleroRun, velero_namespace: str, first_error: str = "") -> tuple[Finding, ...]:
    """Given a run that ended, return what an operator must know: an error with Velero's own reasons unless it is Completed, and its warnings.

    `first_error`: the first one of its results (core.velero_results), since a run's message tells the first finding only.
    """
    noun = run.kind.lower()
    look = f"velero {noun} describe {run.name} --details -n {velero_namespace}; velero {noun} logs {run.name} -n {velero_namespace}"
    if not run.well:
        first = f"; first error: {first_error}" if first_error else ""
        return (Finding(severity="error", text=f"{run.kind} {run.name} ended {run.why}{first} → {look}"),)
    found = []
    if run.warnings:
        # A restore warns of whatever is there already (kube-root-ca.crt, say): worth a note, no more.
        severity: Literal["note", "warning"] = "warning" if run.kind == "Backup" else "note"
        found.append(
            Finding(severity=severity, text=f"{run.kind} {run.name}: {_many(run.warnings, 'warning')} → {look}")
        )
    if run.kind == "Backup" and not run.items:
        found.append(
            Finding(
                severity="warning",
                text=f"Backup {run.name} is Completed and tells of no item: is there anything in these namespaces? → {look}",
            )
        )
    return tuple(found)


def stuck_error(run: VeleroRun, minutes: int, velero_namespace: str, last_error: str = "") -> PermanentError:
    """Given a run that did not end in time, return the error: in which phase it is, and where to look."""
    where = _WHERE_IT_HANGS.get(run.phase.removesuffix(PARTIALLY_FAILED), _WHERE_IT_HANGS[""])
    unseen = f"; when last asked, the API server did not answer: {last_error}" if last_error else ""
    return PermanentError(
        f"wait for the {run.kind}",
        f"{velero_namespace}/{run.name}",
        f"stuck: after {_many(minutes, 'minute')} it is {run.standing}{unseen}",
        where.format(namespace=velero_namespace),
    )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
