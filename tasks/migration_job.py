"""The migration's Job on the API server: made once, found again, ended when it cannot start, looked at by whoever comes later. Waiting: tasks.migration_wait."""

from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.fence import RELEASE
from core.migration_end import JobEnd, JobLook, finished, hopeless, job_end, waiting_for
from core.migration_job import BARRIER, DIGEST, document_digest, job_name, receiving
from tasks.environments import environments_folder
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind

Document = dict[str, Any]


def read_template(path: str | None) -> Document | None:
    """Given release.migration.template, return the Job that it holds; None when there is none. Raise ConfigurationError when it cannot be read."""
    if path is None:
        return None
    file = environments_folder() / path
    attempted, on = "read the migration's template", f"release.migration.template = {path}"
    try:
        documents = [one for one in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")) if one is not None]
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
        raise ConfigurationError(attempted, on, found, "Mend the file, or its path; nothing was changed") from error
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ConfigurationError(attempted, on, f"it holds {len(documents)} documents", "One Job is needed")
    template: Document = documents[0]
    return template


def require_no_traffic(client: KubernetesClient, namespace: str, document: Document) -> None:
    """Given a Job's document, raise PermanentError naming every Service that would send requests to its Pod."""
    if found := receiving(document, client.list(find_kind(client, "Service").path(namespace))):
        raise PermanentError(
            "run the migration beside the application",
            document["metadata"]["name"],
            f"its Pod would get requests, by the selector of Service {', '.join(found)}",
            "Give the Pod of release.migration.template other labels",
        )


def start_job(client: KubernetesClient, namespace: str, document: Document) -> Document:
    """Given a Job's document, return the Job: made now, or found when the same one was made before (an answer that was lost, a run that was killed).

    Raise PermanentError when another Job has its name, TemporaryError when nobody knows: called again, it looks first. Whoever knows that it was made must not
    call it again when it is gone: it would be run a second time (`look_at_job` only looks).
    """
    collection, name = find_kind(client, "Job").path(namespace), document["metadata"]["name"]
    found = _read(client, f"{collection}/{name}")
    if found is None:
        try:
            found = client.create(collection, document)
        except (ExistsError, TemporaryError) as error:
            found = _read(client, f"{collection}/{name}")
            if found is None:
                # Not there yet; it may come about still.
                raise TemporaryError("create the migration's Job", name, error.found, "Look again") from error
    _check_ours(found, document)
    return found


def end_job(client: KubernetesClient, namespace: str, name: str) -> None:
    """End a Job and its Pods, and keep it, so that its name stays taken: its deadline becomes one second, which is over. A Job that is gone is ended.

    activeDeadlineSeconds may be changed in a Job that exists (Kubernetes, pkg/apis/batch/validation: ValidateJobSpecUpdate); the Job controller then removes its Pods.
    """
    try:
        client.merge(find_kind(client, "Job").path(namespace, name), {"spec": {"activeDeadlineSeconds": 1}})
    except MissingError:
        return


def look_at_job(client: KubernetesClient, namespace: str, release: str, attempt: int) -> JobLook:
    """Given a release's id and an attempt, say how its Job stands. Whether it was never made or is gone, only its Pods could tell, and the caller's journal."""
    name = job_name(release, attempt)
    job = _read(client, find_kind(client, "Job").path(namespace, name))
    pods = pods_of(client, namespace, name)
    if job is None:
        if pods:
            return JobLook(state="ended", end=JobEnd(state="gone", pods=len(pods)))
        return JobLook(state="never created")
    if job["metadata"].get("annotations", {}).get(RELEASE) != release:
        raise _anothers(job, name)
    if BARRIER in job["metadata"]["annotations"]:
        return JobLook(state="never created", barred=True)
    if finished(job):
        return JobLook(state="ended", end=job_end(job, pods))
    return JobLook(state="running", waiting=hopeless(pods, stood=True) or waiting_for(pods, ()))


def pods_of(client: KubernetesClient, namespace: str, name: str) -> list[Document]:
    """The Pods of a Job, oldest first."""
    pods = client.list(find_kind(client, "Pod").path(namespace), labelSelector=f"job-name={name}")
    return sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"]))


def events_of(client: KubernetesClient, namespace: str, name: str) -> list[Document]:
    """The events of a Job, as the API server lists them."""
    chosen = f"involvedObject.kind=Job,involvedObject.name={name}"
    return list(client.list(find_kind(client, "Event").path(namespace), fieldSelector=chosen))


def _read(client: KubernetesClient, path: str) -> Document | None:
    try:
        return client.get(path)
    except MissingError:
        return None


def _check_ours(found: Document, document: Document) -> None:
    name, wanted = document["metadata"]["name"], document["metadata"]
    there = found["metadata"]
    same_release = (there.get("annotations") or {}).get(RELEASE) == wanted["annotations"][RELEASE]
    if not same_release or (there.get("labels") or {}).get(RELEASE) != wanted["labels"][RELEASE]:
        raise _anothers(found, name)
    if (there.get("annotations") or {}).get(DIGEST) != document_digest(document):
        what = (
            "it was made by this release from another document: image, command, template or settings have changed since"
        )
        raise PermanentError(
            "create the migration's Job", name, what, "Begin a new release; look at what this Job did first"
        )
    if there.get("deletionTimestamp"):
        raise PermanentError(
            "create the migration's Job", name, "somebody is removing it", "Find out who; then judge by the database"
        )


def _anothers(found: Document, name: str) -> PermanentError:
    owner = (found["metadata"].get("annotations") or {}).get(RELEASE) or "nobody's"
    what = f"a Job of this name exists, and is not this release's (release: {owner})"
    return PermanentError("find the migration's Job", name, what, "Remove it if it is yours, then release again")
