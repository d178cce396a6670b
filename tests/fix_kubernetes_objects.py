"""The state of the small Kubernetes API of the tests (fix_kubernetes): objects with uid, resourceVersion and the like, and the changes that a watch tells."""

import copy
import secrets
import threading
import uuid
from typing import Any

from tests.fix_kubernetes_kinds import COUNTED, KINDS, is_custom, kept_version, where
from tests.fix_kubernetes_patch import merged, strategically_merged
from tests.fix_kubernetes_rules import ApiError, check_change, check_new, counted, now, sign, with_defaults
from tests.fix_kubernetes_selection import chosen

Document = dict[str, Any]
Key = tuple[str, str, str, str]
__all__ = ["CONTROLLER", "ApiError", "Document", "Objects", "now"]
# Who writes as the cluster itself.
CONTROLLER = "kube-controller-manager"


class Objects:
    """What is stored, and what requests do with it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.objects: dict[Key, Document] = {}
        self.log: list[tuple[int, str, Document]] = []
        self.version, self.oldest = 100, 0
        # Kinds (plurals) whose deletion is accepted and does not come about, as with a node that is away.
        self.lingers: set[str] = set()

    def put(self, document: Document, *, seconds_ago: int = 0) -> Document:
        """Create an object directly, status and all, as another client and a controller would have so many seconds ago."""
        group_version, plural = where(document["apiVersion"], document["kind"])
        with self.changed:
            made = self.create(group_version, plural, document["metadata"].get("namespace", ""), document)
            made["metadata"]["creationTimestamp"] = now(seconds_ago)
            # A test that says a generation means an object that was changed before.
            if "generation" in document["metadata"]:
                made["metadata"]["generation"] = document["metadata"]["generation"]
            if "status" in document:
                made["status"] = {**made.get("status", {}), **copy.deepcopy(document["status"])}
            return self._store(_key(group_version, plural, made), made, "MODIFIED")

    def snapshot(self) -> dict[Key, Document]:
        """All objects as they are."""
        with self.changed:
            return copy.deepcopy(self.objects)

    def restore(self, snapshot: dict[Key, Document]) -> None:
        """Make all objects as a snapshot has them. Watches see it as changes; whoever had read something is told 409 at a write."""
        with self.changed:
            for key in [key for key in self.objects if key not in snapshot]:
                self._remove(key)
            for key, document in snapshot.items():
                there = self.objects.get(key)
                if there != document:
                    self._store(key, copy.deepcopy(document), "MODIFIED" if there else "ADDED")

    def set_status(self, group_version: str, plural: str, namespace: str, name: str, **status: Any) -> Document:
        """Write into an object's status, as its controller would; None takes a field away."""
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            after = {key: value for key, value in {**there.get("status", {}), **status}.items() if value is not None}
            return self._keep(there, {**there, "status": after}, counts=False, manager=CONTROLLER)

    def scale(self, namespace: str, name: str, replicas: int) -> Document:
        """Set a Deployment's size, as an autoscaler would."""
        patch = {"spec": {"replicas": replicas}}
        return self.merge("apps/v1", "deployments", namespace, name, patch, manager=CONTROLLER)

    def read(self, group_version: str, plural: str, namespace: str, name: str) -> Document:
        key = (kept_version(group_version, plural), plural, namespace, name)
        if key not in self.objects:
            raise ApiError(404, "NotFound", f'{plural} "{name}" not found')
        return {**copy.deepcopy(self.objects[key]), "apiVersion": group_version}

    def create(
        self,
        group_version: str,
        plural: str,
        namespace: str,
        document: Document,
        *,
        dry_run: bool = False,
        manager: str = "test",
    ) -> Document:
        with self.changed:
            document = with_defaults(plural, copy.deepcopy(document))
            document.pop("status", None)
            metadata = document["metadata"]
            if "name" not in metadata and "generateName" in metadata:
                metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
            key = _key(group_version, plural, document, namespace)
            if key in self.objects:
                raise ApiError(409, "AlreadyExists", f'{plural} "{metadata["name"]}" already exists')
            if namespace and ("v1", "namespaces", "", namespace) not in self.objects:
                raise ApiError(404, "NotFound", f'namespaces "{namespace}" not found')
            check_new(plural, document)
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
            metadata |= {"namespace": namespace} if namespace else {}
            metadata |= {"generation": 1} if plural in COUNTED or is_custom(group_version) else {}
            document["kind"] = KINDS[group_version][plural][0]
            sign(document, group_version, manager)
            if dry_run:
                return {**document, "apiVersion": group_version}
            self._store(key, document, "ADDED")
            self._play_controllers(plural, namespace or metadata["name"], document)
            return self.read(group_version, plural, namespace, metadata["name"])

    def merge(
        self,
        group_version: str,
        plural: str,
        namespace: str,
        name: str,
        patch: Document,
        *,
        strategic: bool = False,
        **how: Any,
    ) -> Document:
        """Change an object by a patch. `how`: as of `replace`."""
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            after = (strategically_merged if strategic else merged)(there, patch)
            expected = patch.get("metadata", {}).get("resourceVersion") or there["metadata"]["resourceVersion"]
            after["metadata"] = {**after["metadata"], "resourceVersion": expected}
            return self.replace(group_version, plural, namespace, name, after, **how)

    def replace(
        self,
        group_version: str,
        plural: str,
        namespace: str,
        name: str,
        document: Document,
        *,
        subresource: str = "",
        dry_run: bool = False,
        manager: str = "test",
    ) -> Document:
        """Put a document in an object's place: all but its status or, with the subresource `status`, that alone. Raise 409 when it says another resourceVersion."""
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            expected = document["metadata"].get("resourceVersion")
            if not expected and (is_custom(group_version) or plural == "leases"):
                raise ApiError(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
            if expected and expected != there["metadata"]["resourceVersion"]:
                raise _conflict(plural, name)
            if subresource == "status":
                after = {**there, "status": copy.deepcopy(document.get("status") or {})}
                if plural == "deployments" and "annotations" in document["metadata"]:
                    # As its controller writes the revision (pkg/registry/apps/deployment/strategy.go).
                    after["metadata"] = {**there["metadata"], "annotations": document["metadata"]["annotations"]}
            else:
                after = with_defaults(plural, copy.deepcopy({**document, "status": there.get("status", {})}))
                check_change(plural, there, after)
                kept = ("uid", "creationTimestamp", "namespace", "generation", "managedFields")
                after["metadata"] |= {key: there["metadata"][key] for key in kept if key in there["metadata"]}
            return self._keep(there, after, counts=not subresource, dry_run=dry_run, manager=manager)

    def delete(
        self,
        group_version: str,
        plural: str,
        namespace: str,
        name: str,
        uid: str | None = None,
        *,
        version: str = "",
        dry_run: bool = False,
    ) -> Document:
        with self.changed:
            there = self.read(group_version, plural, namespace, name)
            if uid and there["metadata"]["uid"] != uid:
                raise ApiError(409, "Conflict", f"Precondition failed: UID in precondition: {uid}")
            if version and there["metadata"]["resourceVersion"] != version:
                raise ApiError(409, "Conflict", f"Precondition failed: ResourceVersion in precondition: {version}")
            if plural in self.lingers or dry_run:
                return there
            if plural == "namespaces":
                for key in [key for key in self.objects if key[2] == name]:
                    self._remove(key)
            self._remove(_key(group_version, plural, there))
            return there

    def select(self, group_version: str, plural: str, namespace: str, query: dict[str, str]) -> list[Document]:
        with self.changed:
            kept = (kept_version(group_version, plural), plural)
            return [
                {**copy.deepcopy(document), "apiVersion": group_version}
                for key, document in sorted(self.objects.items())
                if key[:2] == kept and (not namespace or key[2] == namespace) and chosen(document, query)
            ]

    def events_after(self, version: int) -> list[tuple[int, str, Document]]:
        if version < self.oldest:
            raise ApiError(410, "Expired", f"too old resource version: {version} ({self.oldest})")
        return [event for event in self.log if event[0] > version]

    def _keep(
        self, there: Document, after: Document, *, counts: bool, dry_run: bool = False, manager: str = "test"
    ) -> Document:
        """Store what a write made of an object. One that changes nothing leaves no trace, as in a real cluster."""
        group_version, plural = where(there["apiVersion"], there["kind"])
        after = {**after, "apiVersion": there["apiVersion"], "kind": there["kind"]}
        if not after.get("status"):
            after.pop("status", None)
        if after == there:
            return there
        if counts and "generation" in there["metadata"] and counted(after) != counted(there):
            after["metadata"]["generation"] = there["metadata"]["generation"] + 1
        sign(after, group_version, manager)
        if dry_run:
            return after
        stored = self._store(_key(group_version, plural, there), after, "MODIFIED")
        return {**stored, "apiVersion": group_version}

    def _store(self, key: Key, document: Document, kind: str) -> Document:
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = {**document, "apiVersion": key[0]}
        self.log.append((self.version, kind, copy.deepcopy(self.objects[key])))
        self.changed.notify_all()
        return copy.deepcopy(document)

    def _remove(self, key: Key) -> None:
        document = self.objects.pop(key, None)
        if document is None:
            return
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self.log.append((self.version, "DELETED", document))
        self.changed.notify_all()
        # The garbage collector: what it owned goes too.
        for owned, each in list(self.objects.items()):
            owners = each["metadata"].get("ownerReferences") or ()
            if any(owner.get("uid") == document["metadata"]["uid"] for owner in owners):
                self._remove(owned)

    def _play_controllers(self, plural: str, namespace: str, document: Document) -> None:
        if plural == "namespaces":
            for kind, name in (("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")):
                self.put({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}})
        if plural == "resourcequotas":
            self.set_status("v1", plural, namespace, document["metadata"]["name"], hard=document["spec"]["hard"])


def _key(group_version: str, plural: str, document: Document, namespace: str | None = None) -> Key:
    metadata = document["metadata"]
    within = metadata.get("namespace", "") if namespace is None else namespace
    return (kept_version(group_version, plural), plural, within, metadata["name"])


def _conflict(plural: str, name: str) -> ApiError:
    found = "the object has been modified; please apply your changes to the latest version and try again"
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": {found}')
