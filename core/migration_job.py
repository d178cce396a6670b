"""The Job that migrates, as a document for the Kubernetes API: one for each attempt of a release, the same document each time it is made.

Its Pod runs once (`backoffLimit: 0`, `restartPolicy: Never`), is kept when it has ended (no ttl), and has two containers: the migration's, whose exit code the
Job ends with, and one that holds an advisory lock on a direct connection as long (core.migration_scripts). PGOPTIONS gives the migration's sessions
a lock_timeout: a statement that waits for a table's lock lets every later query queue behind it (PostgreSQL manual, 13.3). libpq reads it, and node-postgres does
(lib/connection-parameters.js: `val('options', config)`); an application_name beside it tells whether they did, since a client's own would stand in its place.
"""

import copy
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.canonical import canonical_bytes, sha256_hex
from core.environment_migration import Migration
from core.errors import ConfigurationError
from core.fence import ENVIRONMENT, RELEASE
from core.label_selectors import sends_to
from core.migration_scripts import HOLD, MIGRATE, SIGNALS

Document = dict[str, Any]

ATTEMPT = "nightshift.dev/attempt"
DIGEST = "nightshift.dev/document-sha256"
# On a Job that only takes a name: its release went back.
BARRIER = "nightshift.dev/barrier"
MIGRATES, HOLDS = "migrate", "nightshift-lock"
_VOLUME = "nightshift"
# `nobody` in most images; the lock's container needs no rights at all.
_NOBODY = 65534
_PLAIN_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,28}[a-z0-9])?")


@dataclass(frozen=True)
class MigrationOrder:
    """What is to be run: which attempt of which release, in which image. `command`: in place of the settings' one; `template`: the environment's Job, parsed."""

    release: str
    environment: str
    namespace: str
    attempt: int
    image: str
    lock_timeout_ms: int
    settings: Migration
    command: tuple[str, ...] = ()
    template: Document | None = None


def job_name(release: str, attempt: int) -> str:
    """Given a release's id and an attempt, return the Job's name, at most 54 characters: the Pod's name and the labels have room for it.

    It is the name of the migration's sessions, too (application_name).
    """
    return f"nightshift-migrate-{release_label(release)}-{attempt}"


def release_label(release: str) -> str:
    """Given a release's id, return it as a label and part of a name: itself when it is plain and short, else with a part of its hash."""
    if _PLAIN_ID.fullmatch(release):
        return release
    plain = re.sub(r"[^a-z0-9]+", "-", release.lower())[:20].strip("-") or "release"
    return f"{plain}-{hashlib.sha256(release.encode()).hexdigest()[:8]}"


def job_document(order: MigrationOrder) -> Document:
    """Given an order, return the Job's document. Raise ConfigurationError when the template is none that a migration can be made of."""
    template, given = _pod_template(order)
    container = _migrating(order, template["spec"])
    holder = _holding(order, container)
    container |= _gated(order, container)
    spec: Document = template["spec"]
    spec |= {"restartPolicy": "Never", "containers": [*spec["containers"], holder]}
    spec["volumes"] = [*(spec.get("volumes") or ()), {"name": _VOLUME, "emptyDir": {}}]
    if order.settings.service_account:
        spec["serviceAccountName"] = order.settings.service_account
    template["metadata"] = _metadata(order, template.get("metadata") or {})
    # A Pod that is moved to another node would run the migration a second time.
    template["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] = "false"
    template["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] = "true"
    settings = order.settings
    document: Document = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(order.release, order.attempt),
            "namespace": order.namespace,
            **_metadata(order, given),
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": settings.start_seconds + settings.lock_wait_seconds + settings.minutes * 60,
            "template": template,
        },
    }
    document["metadata"]["annotations"][DIGEST] = document_digest(document)
    return document


def barrier(document: Document) -> Document:
    """Given a Job's document, return that of one of the same name that never has a Pod: nobody can make the first any more.

    Without parallelism a Job starts nothing (Kubernetes documentation, "Jobs"). Its deadline ends it after a second where the controller notes when such a Job
    began; that of 1.20 does not (pkg/controller/job, syncJob). Should somebody let it go on, its containers do nothing.
    """
    template, metadata = document["spec"]["template"], document["metadata"]
    idle = [{**one, "command": ["/bin/sh", "-c", "exit 1"], "args": []} for one in template["spec"]["containers"]]
    spec = {
        **document["spec"],
        "parallelism": 0,
        "activeDeadlineSeconds": 1,
        "template": {**template, "spec": {**template["spec"], "containers": idle, "initContainers": []}},
    }
    annotations = {**metadata["annotations"], BARRIER: "yes"}
    made = {**document, "metadata": {**metadata, "annotations": annotations}, "spec": spec}
    annotations[DIGEST] = document_digest(made)
    return made


def receiving(document: Document, services: Iterable[Document]) -> tuple[str, ...]:
    """Given a Job's document and the Services of its namespace, return those that would send requests to its Pod, by name.

    The Pod runs for as long as the migration and is ready by then, having no probe: requests would go where nobody answers.
    """
    labels = document["spec"]["template"]["metadata"]["labels"]
    return tuple(sorted(one["metadata"]["name"] for one in services if sends_to(one, labels)))


def document_digest(document: Document) -> str:
    """The SHA-256 of a Job's document, without the annotation that holds it. Raise ConfigurationError when it holds what JSON's canonical form does not."""
    annotations = document["metadata"].get("annotations") or {}
    bare = {name: value for name, value in annotations.items() if name != DIGEST}
    try:
        return sha256_hex(canonical_bytes({**document, "metadata": {**document["metadata"], "annotations": bare}}))
    except TypeError as error:
        raise _wrong(f"it holds something that a Job cannot: {error}") from error


def _pod_template(order: MigrationOrder) -> tuple[Document, Document]:
    """The Pod's template to go by, to be changed by the caller, and the metadata of the Job that it stands in."""
    if order.template is None:
        token = {} if order.settings.service_account else {"automountServiceAccountToken": False}
        return {"spec": {**token, "containers": [{"name": MIGRATES}]}}, {}
    given = copy.deepcopy(order.template)
    if given.get("kind") != "Job":
        raise _wrong(f"it is a {given.get('kind') or 'document without kind'}, and a Job is needed")
    template = (given.get("spec") or {}).get("template")
    if not isinstance(template, dict) or not (template.get("spec") or {}).get("containers"):
        raise _wrong("it has no spec.template.spec.containers")
    return template, given.get("metadata") or {}


def _migrating(order: MigrationOrder, spec: Document) -> Document:
    """The container that migrates, in the Pod's own list."""
    containers: list[Document] = spec["containers"]
    names = [str(one.get("name")) for one in containers]
    wanted = order.settings.container
    if HOLDS in names or any(one.get("name") == _VOLUME for one in spec.get("volumes") or ()):
        raise _wrong(f"the names {HOLDS} (container) and {_VOLUME} (volume) are nightshift's own")
    if wanted is None and len(containers) > 1:
        raise _wrong(f"it has the containers {', '.join(names)}: say in release.migration.container which one migrates")
    if wanted is not None and wanted not in names:
        raise _wrong(f"it has no container {wanted}, only {', '.join(names)}")
    if len(containers) > 1:
        # Such a container would keep the Pod from ending, or end it with another exit code than the migration's.
        raise _wrong(
            f"it has the containers {', '.join(names)}: a migration's Pod has one, and nightshift's own beside it"
        )
    return containers[0]


def _gated(order: MigrationOrder, container: Document) -> Document:
    """What makes a container wait for the lock before its command."""
    settings = order.settings
    given = (*container["command"], *(container.get("args") or ())) if container.get("command") else ()
    command = tuple(map(_literal, order.command or settings.command)) or given
    if not command:
        raise _wrong("neither release.migration.command nor the template's container says which command migrates")
    if any(mount.get("mountPath") == SIGNALS for mount in container.get("volumeMounts") or ()):
        raise _wrong(f"something is mounted at {SIGNALS}, which is nightshift's own")
    limit = settings.start_seconds + settings.lock_wait_seconds
    return {
        "image": order.image,
        "imagePullPolicy": container.get("imagePullPolicy") or "IfNotPresent",
        "command": ["/bin/sh", "-c", _literal(MIGRATE), MIGRATES],
        "args": [str(limit), _literal(settings.pending_command or ""), *command],
        "env": _environment(order, container),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [*(container.get("volumeMounts") or ()), {"name": _VOLUME, "mountPath": SIGNALS}],
    }


def _environment(order: MigrationOrder, container: Document) -> list[Document]:
    given = {one["name"]: one for one in container.get("env") or ()}
    before = given.get("PGOPTIONS") or {}
    if "valueFrom" in before:
        raise _wrong("PGOPTIONS comes from elsewhere (valueFrom), so that lock_timeout cannot be put into it")
    name = job_name(order.release, order.attempt)
    options = f"-c lock_timeout={order.lock_timeout_ms} -c application_name={name}"
    given["PGOPTIONS"] = {"name": "PGOPTIONS", "value": f"{before.get('value') or ''} {options}".strip()}
    if order.settings.named_by == "PGAPPNAME":
        given["PGAPPNAME"] = {"name": "PGAPPNAME", "value": name}
    if order.settings.secret:
        given[order.settings.variable] = _address(order, order.settings.secret_key)
    return list(given.values())


def _holding(order: MigrationOrder, container: Document) -> Document:
    """The container that holds the lock. It finds the database as the migration does, but for a key of its own."""
    settings = order.settings
    variables = [
        one for one in container.get("env") or () if one["name"] not in {"PGOPTIONS", "PGAPPNAME", settings.variable}
    ]
    given = next((one for one in container.get("env") or () if one["name"] == settings.variable), None)
    if settings.secret:
        given = _address(order, settings.lock_secret_key or settings.secret_key)
    name = job_name(order.release, order.attempt)
    variables += [{"name": "PGAPPNAME", "value": f"{name}-lock"}, *([given] if given else ())]
    known = given is not None or bool(container.get("envFrom"))
    return {
        "name": HOLDS,
        "image": settings.lock_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", _literal(HOLD), HOLDS],
        "args": [name, str(settings.lock_wait_seconds), settings.variable if known else ""],
        "env": variables,
        **({"envFrom": container["envFrom"]} if container.get("envFrom") else {}),
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _NOBODY,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            # What the address needs (a CA file, say), and the folder of the signals.
            *(container.get("volumeMounts") or ()),
            {"name": _VOLUME, "mountPath": SIGNALS},
        ],
    }


def _literal(text: str) -> str:
    """A text that the kubelet passes on as it is: it replaces $(NAME) in commands and arguments, and takes $$ for $ (Kubernetes, third_party/forked/golang/expansion)."""
    return text.replace("$", "$$")


def _address(order: MigrationOrder, key: str) -> Document:
    return {
        "name": order.settings.variable,
        "valueFrom": {"secretKeyRef": {"name": order.settings.secret, "key": key}},
    }


def _metadata(order: MigrationOrder, given: Mapping[str, Any]) -> Document:
    labels = {
        RELEASE: release_label(order.release),
        ENVIRONMENT: order.environment,
        ATTEMPT: str(order.attempt),
        "app.kubernetes.io/managed-by": "nightshift",
    }
    return {
        "labels": {**(given.get("labels") or {}), **labels},
        "annotations": {**(given.get("annotations") or {}), RELEASE: order.release},
    }


def _wrong(found: str) -> ConfigurationError:
    return ConfigurationError(
        "make the migration's Job", "release.migration.template", found, "Mend the template; nothing was changed"
    )
