"""Velero through the Kubernetes API: is it ready, make a Backup or Restore once, wait for it."""

from collections.abc import Callable
from datetime import datetime, timedelta

from core.access_right import AccessRight
from core.checks import Check
from core.environment_restore import AppState
from core.errors import PermanentError
from core.velero import (
    API_VERSION,
    RUN_LABEL,
    Document,
    VeleroRun,
    is_made_by,
    read_run,
    stuck_error,
)
from tasks.access_review import lacking_rights
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_watch import NotInTimeError, wait_for_object

# Velero looks at each location every minute unless told otherwise; one not looked at for an hour means that nobody looks.
_VALIDATION_AGE = timedelta(hours=1)
# What the flow needs in Velero's namespace, as (verb, resource); for a rehearsal the second, and the third in the whole cluster (namespaces by name).
_RIGHTS = (("get", "backupstoragelocations"), ("create", "backups"), ("get", "backups"), ("list", "backups"), ("watch", "backups"))  # fmt: skip
_DRILL_RIGHTS = (("create", "restores"), ("get", "restores"), ("list", "restores"), ("watch", "restores"))
# Only to tell why a Backup failed: without them it can be made all the same.
_ERROR_RIGHTS = (("create", "downloadrequests"), ("get", "downloadrequests"), ("delete", "downloadrequests"))
_SCRATCH_RIGHTS = (("create", ""), ("get", "drill"), ("list", "drill"), ("watch", "drill"), ("delete", "drill"))

KINDS = {"backups": "Backup", "restores": "Restore"}
OnChange = Callable[[VeleroRun], None]


def collection(settings: AppState, plural: str, name: str = "") -> str:
    """The path of Velero's Backups, Restores or storage locations, or of one of them."""
    path = f"/apis/{API_VERSION}/namespaces/{settings.velero_namespace}/{plural}"
    return f"{path}/{name}" if name else path


def check_velero(client: KubernetesClient, settings: AppState, now: datetime, *, drill: bool) -> tuple[Check, ...]:
    """Given the settings, check all that a Backup needs: our rights, and with them the storage location and the namespaces. Nothing is written."""
    rights = check_rights(client, settings, drill=drill)
    if rights.state == "failed":
        return (rights,)
    return (
        rights,
        *_check_error_rights(client, settings),
        check_location(client, settings, now),
        *(_check_namespace(client, namespace) for namespace in settings.namespaces),
    )


def check_location(client: KubernetesClient, settings: AppState, now: datetime) -> Check:
    """Whether the BackupStorageLocation is there, takes backups and is Available."""
    name = f"storage location {settings.storage_location}"
    look = f"kubectl -n {settings.velero_namespace} get backupstoragelocations"
    try:
        location = client.get(collection(settings, "backupstoragelocations", settings.storage_location))
    except MissingError as error:
        return Check(
            name=name,
            state="failed",
            found=error.found,
            next_step=f"Install Velero, or correct app_state.velero_namespace and storage_location: {look}",
        )
    status = location.get("status") or {}
    phase = status.get("phase") or "no phase yet"
    if phase != "Available":
        found = ": ".join(filter(None, (phase, status.get("message"))))
        return Check(
            name=name,
            state="failed",
            found=found,
            next_step=f"Velero cannot reach its bucket: check the bucket and Velero's credentials, then {look}",
        )
    if (location.get("spec") or {}).get("accessMode") == "ReadOnly":
        return Check(
            name=name,
            state="failed",
            found="it is ReadOnly",
            next_step="Set its accessMode to ReadWrite, or name another one",
        )
    seen = status.get("lastValidationTime")
    age = now - datetime.fromisoformat(seen) if seen else timedelta()
    if age > _VALIDATION_AGE:
        return Check(
            name=name,
            state="warning",
            found=f"Available, but Velero last looked at {seen}",
            next_step=f"Does Velero run? kubectl -n {settings.velero_namespace} get pods",
        )
    return Check(name=name, state="passed", found="Available")


def make_backup(
    client: KubernetesClient, settings: AppState, document: Document, environment: str
) -> tuple[VeleroRun, bool]:
    """Create a Backup, or find the one that this run (its label) made before it was killed. Return it, and whether it was there already.

    A lost answer to the creation is a TemporaryError: the step is tried again, and finds what it made. Raise PermanentError when the name is another's.
    """
    for there in find_own(client, settings, "backups", environment, document["metadata"]["labels"][RUN_LABEL]):
        return read_run(there), True
    return create_once(client, settings, "backups", document, environment)


def create_once(
    client: KubernetesClient, settings: AppState, plural: str, document: Document, environment: str
) -> tuple[VeleroRun, bool]:
    """Create a Backup or Restore. When its name is taken: return the one that is there if this run made it (True), else raise PermanentError."""
    name = document["metadata"]["name"]
    try:
        return read_run(client.create(collection(settings, plural), document)), False
    except ExistsError as error:
        there = client.get(collection(settings, plural, name))
        if is_made_by(there, environment, document["metadata"]["labels"][RUN_LABEL]):
            return read_run(there), True
        raise PermanentError(
            f"create the {document['kind']}",
            f"{settings.velero_namespace}/{name}",
            "one of this name exists and is not of this run",
            "Start the run again: a new one takes another name",
        ) from error


def find_own(
    client: KubernetesClient, settings: AppState, plural: str, environment: str, run_id: str
) -> tuple[Document, ...]:
    """The Backups or Restores that a run of an environment made, oldest first."""
    items = client.list(collection(settings, plural), labelSelector=f"{RUN_LABEL}={run_id}")
    ours = [{"kind": KINDS[plural], **item} for item in items if is_made_by(item, environment, run_id)]
    return tuple(sorted(ours, key=lambda item: (item["metadata"]["creationTimestamp"], item["metadata"]["name"])))


def wait_for_end(
    client: KubernetesClient,
    settings: AppState,
    plural: str,
    name: str,
    *,
    on_change: OnChange,
    seconds: float | None = None,
) -> VeleroRun:
    """Given the name of a Backup or Restore, return it once Velero has ended it, well or not; `on_change` is told of each phase and count.

    Raise PermanentError when it is deleted meanwhile, or stuck: not at its end after `seconds` (None: app_state.timeout_minutes), naming its phase.
    """
    kind = KINDS[plural]
    told: list[str] = []

    def ended(document: Document | None) -> bool:
        if document is None:
            return True
        run = read_run({**document, "kind": kind})
        if not told or told[-1] != run.standing:
            told.append(run.standing)
            on_change(run)
        return run.finished

    lasting = settings.timeout_minutes * 60.0 if seconds is None else seconds
    try:
        document = wait_for_object(client, collection(settings, plural), name, ended, seconds=lasting)
    except NotInTimeError as error:
        if error.last is not None:
            run = read_run({**error.last, "kind": kind})
            raise stuck_error(run, settings.timeout_minutes, settings.velero_namespace, error.error) from error
        raise PermanentError(
            f"wait for the {kind}",
            f"{settings.velero_namespace}/{name}",
            f"it could not be seen in {settings.timeout_minutes} minutes: {error.error}",
            "Check that the worker reaches the API server; Velero goes on by itself",
        ) from error
    if document is None:
        raise PermanentError(
            f"wait for the {kind}",
            f"{settings.velero_namespace}/{name}",
            "it is not there any more: somebody deleted it",
            "Start the run again",
        )
    return read_run({**document, "kind": kind})


def _check_namespace(client: KubernetesClient, namespace: str) -> Check:
    name = f"namespace {namespace}"
    try:
        phase = (client.get(f"/api/v1/namespaces/{namespace}").get("status") or {}).get("phase", "Active")
    except MissingError:
        return Check(
            name=name, state="failed", found="it does not exist", next_step="Correct app_state.namespaces or .context"
        )
    if phase != "Active":
        return Check(name=name, state="failed", found=f"it is {phase}", next_step="It is being deleted: is that meant?")
    return Check(name=name, state="passed", found="there")


def check_rights(client: KubernetesClient, settings: AppState, *, drill: bool) -> Check:
    """The rights that our account lacks, as the API server's SelfSubjectAccessReview says. Rights to list kinds show when they are listed."""
    wanted = _of_velero(settings, _RIGHTS)
    wanted += [AccessRight("get", "namespaces", name=namespace) for namespace in settings.namespaces]
    if drill:
        wanted += _of_velero(settings, _DRILL_RIGHTS)
        wanted += [
            AccessRight(verb, "namespaces", name=which and settings.drill_namespace) for verb, which in _SCRATCH_RIGHTS
        ]
        wanted.append(AccessRight("create", "resourcequotas", namespace=settings.drill_namespace))
    lacking = [right.in_words() for right in lacking_rights(client, wanted)]
    if lacking:
        return Check(
            name="rights",
            state="failed",
            found=f"our account may not {', '.join(lacking)}",
            next_step="Apply the role in docs/app-state.md",
        )
    return Check(name="rights", state="passed", found=f"all {len(wanted)}")


def _check_error_rights(client: KubernetesClient, settings: AppState) -> tuple[Check, ...]:
    """A warning where Velero's own words on a failed Backup could not be read: better told tonight than when it failed."""
    lacking = [right.in_words() for right in lacking_rights(client, _of_velero(settings, _ERROR_RIGHTS))]
    if not lacking:
        return ()
    found = f"our account may not {', '.join(lacking)}: why a Backup failed could not be told"
    return (
        Check(name="Velero's errors", state="warning", found=found, next_step="Apply the role in docs/app-state.md"),
    )


def _of_velero(settings: AppState, rights: tuple[tuple[str, str], ...]) -> list[AccessRight]:
    return [AccessRight(verb, resource, "velero.io", settings.velero_namespace) for verb, resource in rights]
