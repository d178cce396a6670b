"""Something that plays Velero, on the stateful API of fix_kubernetes or on a real cluster: it copies a Backup's objects and really makes them again for a Restore.

What it does as Velero does: phases New → InProgress → an end; `includedNamespaces`, `excludedResources`, `includedResources`, `namespaceMapping`; nothing of what
exists already is changed; names, labels and annotations are kept, owners and status are not. It stores nothing but in memory, and knows no volumes. Results are handed
out as Velero does: a DownloadRequest gets the address of a gzip file in a bucket, which is a server on the loopback.
"""

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.velero import API_VERSION
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.namespace_inventory import find_kinds
from tests.fix_kubernetes import KubernetesApi

Document = dict[str, Any]

# Never in a backup that matters here: made again by controllers, or Velero passes over them.
_NOT_COPIED = frozenset(
    {"pods", "endpoints", "events", "replicasets.apps"}
    | {"backups.velero.io", "restores.velero.io", "downloadrequests.velero.io"}
)


# As of a presigned address: whoever has it can read the file.
SIGNATURE = "X-Amz-Signature=0123456789abcdef0123456789abcdef"


class Bucket:
    """Serves files to whoever has the signature, over HTTP, as they lie."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.fetched: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_BucketHandler,), {"bucket": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def put_results(self, name: str, **results: Any) -> None:
        """Store the results of a Backup or Restore as Velero does."""
        self.files[f"/{name}-results.gz"] = gzip.compress(json.dumps(results).encode())

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


class _BucketHandler(BaseHTTPRequestHandler):
    bucket: Bucket

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.bucket.fetched.append(address.path)
        content = self.bucket.files.get(address.path)
        code = 403 if address.query != SIGNATURE else 404 if content is None else 200
        self.send_response(code)
        self.end_headers()
        self.wfile.write(content or b"" if code == 200 else b"<Error/>")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@dataclass
class Velero:
    """Velero, as a test wants it to behave from now on."""

    client: KubernetesClient
    namespace: str = "velero"
    # How Backups and Restores end: the status that is written at last.
    backups_end: Document = field(default_factory=lambda: {"phase": "Completed"})
    restores_end: Document = field(default_factory=lambda: {"phase": "Completed"})
    # The phase in which they stay; "" for none.
    stays: str = ""
    # Names of objects that a Restore loses, and makes though nobody backed them up.
    loses: set[str] = field(default_factory=set)
    invents: list[str] = field(default_factory=list)
    # Called when a Backup is in progress, before anything is copied.
    meanwhile: Callable[[], object] = lambda: None
    # Called when a Restore has made all its objects, before it ends.
    afterwards: Callable[[], object] = lambda: None
    # Where results are fetched from, and whether DownloadRequests are answered.
    bucket: Bucket | None = None
    answers: bool = True
    copies: dict[str, list[tuple[str, Document]]] = field(default_factory=dict)
    failed: BaseException | None = None

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Begin to look for work."""
        self._thread.start()

    def stop(self) -> None:
        """End; raise what went wrong in here, so that no test passes by a broken stand-in."""
        self._over.set()
        self._thread.join(10)
        if self.failed:
            raise self.failed

    def _work(self) -> None:
        try:
            while not self._over.wait(0.05):
                for plural, work in (("backups", self._back_up), ("restores", self._restore)):
                    for document in list(self.client.list(self._path(plural))):
                        if (document.get("status") or {}).get("phase", "New") == "New" and self.stays != "New":
                            work(document)
                if self.bucket and self.answers:
                    self._hand_out(self.bucket)
        except Exception as error:  # noqa: BLE001 - of a thread nobody sees an error, an assertion of its own least of all: stop() raises it
            self.failed = error

    def _hand_out(self, bucket: Bucket) -> None:
        try:
            requests = list(self.client.list(self._path("downloadrequests")))
        except MissingError:
            return  # a cluster without this kind
        for request in requests:
            if not (request.get("status") or {}).get("downloadURL"):
                target = request["spec"]["target"]
                assert target["kind"] in {"BackupResults", "RestoreResults"}
                url = f"{bucket.address}/{target['name']}-results.gz?{SIGNATURE}"
                self._tell("downloadrequests", request["metadata"]["name"], phase="Processed", downloadURL=url)

    def _back_up(self, backup: Document) -> None:
        name, spec = backup["metadata"]["name"], backup["spec"]
        self._tell("backups", name, phase="InProgress", progress={"totalItems": 0})
        if self.stays:
            self._tell("backups", name, phase=self.stays)
            return
        self.meanwhile()
        excluded = {*spec["excludedResources"], *_NOT_COPIED}
        copies = []
        for namespace in spec["includedNamespaces"]:
            for kind in find_kinds(self.client):
                if kind.name in excluded:
                    continue
                for item in list(self.client.list(kind.path(namespace), metadata_only=True)):
                    path = f"{kind.path(namespace)}/{item['metadata']['name']}"
                    copies.append((kind.name, self.client.get(path)))
        self.copies[name] = copies
        progress = {"totalItems": len(copies), "itemsBackedUp": len(copies)}
        self._tell("backups", name, **{"progress": progress, **self.backups_end})

    def _restore(self, restore: Document) -> None:
        name, spec = restore["metadata"]["name"], restore["spec"]
        self._tell("restores", name, phase="InProgress")
        if self.stays:
            return
        for kind, document in self.copies[spec["backupName"]]:
            source = document["metadata"]["namespace"]
            if kind in spec["includedResources"] and source in spec["includedNamespaces"]:
                self._make(document, spec["namespaceMapping"].get(source, source))
        (target,) = spec["namespaceMapping"].values()
        for extra in self.invents:
            self._make({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": extra}}, target)
        self.afterwards()
        self._tell("restores", name, **self.restores_end)

    def _make(self, document: Document, namespace: str) -> None:
        metadata = document["metadata"]
        if metadata["name"] in self.loses or document.get("type") == "kubernetes.io/service-account-token":
            return
        kept = {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}
        copy = {key: value for key, value in document.items() if key not in {"metadata", "status", "secrets"}}
        if document["kind"] == "Service":
            dropped = {"clusterIP", "clusterIPs"}
            copy["spec"] = {key: value for key, value in copy["spec"].items() if key not in dropped}
        root = "/api" if "/" not in document["apiVersion"] else "/apis"
        kind = next(each for each in find_kinds(self.client) if _is(each.name, document))
        try:
            self.client.create(
                f"{root}/{document['apiVersion']}/namespaces/{namespace}/{kind.name.partition('.')[0]}",
                {**copy, "metadata": kept},
            )
        except (ExistsError, MissingError):
            # The namespace was removed meanwhile: a restore that nobody waits for any more.
            return

    def _tell(self, plural: str, name: str, **status: Any) -> None:
        try:
            self.client.merge(f"{self._path(plural)}/{name}/status", {"status": status})
        except MissingError:
            return

    def _path(self, plural: str) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/{plural}"


def _is(kind: str, document: Document) -> bool:
    """Whether a kind as RESOURCE.GROUP is that of a document, by the plural's usual form."""
    resource, _, group = kind.partition(".")
    api_group = document["apiVersion"].rpartition("/")[0]
    singular = document["kind"].lower()
    return group == api_group and resource in {singular, f"{singular}s", f"{singular}es", f"{singular[:-1]}ies"}


def location(name: str = "default", namespace: str = "velero") -> Document:
    """A BackupStorageLocation as an operator makes one."""
    return {
        "apiVersion": API_VERSION,
        "kind": "BackupStorageLocation",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": "aws", "objectStorage": {"bucket": "velero"}},
    }


@pytest.fixture
def velero(kubernetes: KubernetesApi) -> Iterator[Velero]:
    """Velero on the API of the test, with an Available location `default`."""
    with playing_velero(kubernetes) as found:
        yield found


@contextmanager
def playing_velero(kubernetes: KubernetesApi) -> Iterator[Velero]:
    """Velero on an API, the one that KUBECONFIG leads to."""
    kubernetes.put(location())
    kubernetes.set_status(API_VERSION, "backupstoragelocations", "velero", "default", phase="Available")
    bucket = Bucket()
    with KubernetesClient.open(None) as client:
        player = Velero(client, bucket=bucket)
        player.start()
        yield player
        player.stop()
    bucket.close()
