"""The state of the small Kubernetes API of the tests (fix_kubernetes): objects with uid, resourceVersion and creationTimestamp, and the changes that a watch tells."""

import copy
import threading
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]

# group/version → plural: (kind, namespaced)
KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "namespaces": ("Namespace", False),
        "configmaps": ("ConfigMap", True),
        "secrets": ("Secret", True),
        "services": ("Service", True),
        "serviceaccounts": ("ServiceAccount", True),
        "pods": ("Pod", True),
        "resourcequotas": ("ResourceQuota", True),
        "events": ("Event", True),
    },
    "apps/v1": {"deployments": ("Deployment", True), "replicasets": ("ReplicaSet", True)},
    # As in Kubernetes 1.20: the preferred version of a group need not have all of its kinds.
    "batch/v1": {"jobs": ("Job", True)},
    "batch/v1beta1": {"cronjobs": ("CronJob", True)},
    "networking.k8s.io/v1": {"ingresses": ("Ingress", True), "networkpolicies": ("NetworkPolicy", True)},
    "velero.io/v1": {
        "backups": ("Backup", True),
        "restores": ("Restore", True),
        "downloadrequests": ("DownloadRequest", True),
        "backupstoragelocations": ("BackupStorageLocation", True),
    },
}


class ApiError(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


class Objects:
    """What is stored, and what requests do with it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.objects: dict[tuple[str, str, str, str], Document] = {}
        self.log: list[tuple[int, str, Document]] = []
        self.version, self.oldest = 100, 0
        # Kinds (plurals) whose deletion is accepted and does not come about, as with a node that is away.
        self.lingers: set[str] = set()

    def put(self, document: Document, *, seconds_ago: int = 0) -> Document:
        """Create an object directly, as another client would have so many seconds ago."""
        group_version, plural = where(document["apiVersion"], document["kind"])
        namespace, name = document["metadata"].get("namespace", ""), document["metadata"]["name"]
        made = self.create(group_version, plural, namespace, document)
        if seconds_ago:
            earlier = {"metadata": {"creationTimestamp": now(seconds_ago)}}
            made = self.merge(group_version, plural, namespace, name, earlier)
        return made

    def set_status(self, group_version: str, plural: str, namespace: str, name: str, **status: Any) -> Document:
        """Write into an object's status, as its controller would."""
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            return self._store((group_version, plural, namespace, name), {**there, "status": {**there.get("status", {}), **status}}, "MODIFIED")  # fmt: skip

    def read(self, group_version: str, plural: str, namespace: str, name: str) -> Document:
        key = (group_version, plural, namespace, name)
        if key not in self.objects:
            raise ApiError(404, "NotFound", f'{plural} "{name}" not found')
        return copy.deepcopy(self.objects[key])

    def create(
        self, group_version: str, plural: str, namespace: str, document: Document, *, dry_run: bool = False
    ) -> Document:
        with self.changed:
            document = copy.deepcopy(document)
            name = document["metadata"]["name"]
            key = (group_version, plural, namespace, name)
            if key in self.objects:
                raise ApiError(409, "AlreadyExists", f'{plural} "{name}" already exists')
            if namespace and ("v1", "namespaces", "", namespace) not in self.objects:
                raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found')
            document["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            document["metadata"] |= {"namespace": namespace} if namespace else {}
            if dry_run:
                return document
            self._store(key, document, "ADDED")
            self._play_controllers(plural, namespace or name, document)
            return self.read(*key)

    def merge(self, group_version: str, plural: str, namespace: str, name: str, patch: Document) -> Document:
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            expected = patch.get("metadata", {}).get("resourceVersion")
            if expected and expected != there["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", f'{plural} "{name}": the object has been modified')
            return self._store((group_version, plural, namespace, name), merged(there, patch), "MODIFIED")

    def delete(self, group_version: str, plural: str, namespace: str, name: str, uid: str | None) -> Document:
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            if uid and there["metadata"]["uid"] != uid:
                raise ApiError(409, "Conflict", "the UID in the precondition does not match")
            if plural in self.lingers:
                return there
            if plural == "namespaces":
                for key in [key for key in self.objects if key[2] == name]:
                    self._remove(key)
            self._remove((group_version, plural, namespace, name))
            return there

    def select(self, group_version: str, plural: str, namespace: str, query: dict[str, str]) -> list[Document]:
        return [
            copy.deepcopy(document)
            for key, document in sorted(self.objects.items())
            if key[:2] == (group_version, plural) and (not namespace or key[2] == namespace) and chosen(document, query)
        ]

    def events_after(self, version: int) -> list[tuple[int, str, Document]]:
        if version < self.oldest:
            raise ApiError(410, "Expired", f"too old resource version: {version} ({self.oldest})")
        return [event for event in self.log if event[0] > version]

    def _store(self, key: tuple[str, str, str, str], document: Document, kind: str) -> Document:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = document
        self.log.append((self.version, kind, copy.deepcopy(document)))
        self.changed.notify_all()
        return copy.deepcopy(document)

    def _remove(self, key: tuple[str, str, str, str]) -> None:
        document = self.objects.pop(key)
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, "DELETED", document))
        self.changed.notify_all()

    def _play_controllers(self, plural: str, namespace: str, document: Document) -> None:
        if plural == "namespaces":
            for kind, name in (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")):
                self.put({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}})
        if plural == "resourcequotas":
            self.set_status("v1", plural, namespace, document["metadata"]["name"], hard=document["spec"]["hard"])


def where(api_version: str, kind: str) -> tuple[str, str]:
    return api_version, next(plural for plural, (each, _) in KINDS[api_version].items() if each == kind)


def chosen(document: Document, query: dict[str, str]) -> bool:
    labels = document["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if labels.get(key) != value:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, differs, value = (*term.partition("!="),) if "!=" in term else (*term.partition("="),)
        actual = _field(document, key)
        if (actual == value) == (differs == "!="):
            return False
    return True


def _field(document: Document, path: str) -> Any:
    """What stands at a dotted path; a Secret's type that is not there is Opaque."""
    found: Any = document
    for step in path.split("."):
        found = (found or {}).get(step)
    return "Opaque" if found is None and path == "type" else found


def merged(there: Document, patch: Document) -> Document:
    """JSON merge patch (RFC 7386)."""
    for key, value in patch.items():
        if value is None:
            there.pop(key, None)
        elif isinstance(value, dict) and isinstance(there.get(key), dict):
            there[key] = merged(there[key], value)
        else:
            there[key] = value
    return there


def now(seconds_ago: int = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
