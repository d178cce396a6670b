"""A small stateful Kubernetes API over HTTP: what the tests of a client and of releases need when there is no cluster.

It keeps objects with uid, resourceVersion, generation, creationTimestamp and managedFields (who and when, not which fields); lists with selectors, pages and
metadata only; creates (409, dryRun), patches (merge and strategic merge) and puts (409 on another resourceVersion), with the subresources status and scale;
deletes with a precondition; watches from a resource version, with 410 for one that is too old; serves logs and proxies; asks for a token (401).
tests/test_kubernetes_conformance.py holds it to a real cluster: the same checks run on both.

Files: fix_kubernetes_kinds (which kinds and versions), _objects (state), _patch, _rules (defaults, refusals), _selection (selectors), _http, _faults (what a test does to
requests), and the controllers, which a test turns on: fix_kubernetes_controllers, _deployments, _rollout, _pods, _jobs, _traffic.
It does not: validate beyond a few rules, apply (server-side), patch by JSON patch, check rights (reviews allow all but what is in `denied`), end
Pods gracefully, or enforce quotas other than of Pods.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tasks.kubernetes_kinds import forget_kinds
from tests.fix_kubernetes_controllers import Controllers
from tests.fix_kubernetes_faults import WRITE, DroppedError, Faults, is_write
from tests.fix_kubernetes_http import Handler, Target
from tests.fix_kubernetes_kinds import KINDS, NOT_IN_1_20, Document
from tests.fix_kubernetes_objects import ApiError, Objects

__all__ = ["NOT_IN_1_20", "WRITE", "Document", "DroppedError", "KubernetesApi", "kubernetes"]

# Given the method, "pods" or "services", the name (and :port) and the path, return the code and the body.
Proxy = Callable[[str, str, str, str], tuple[int, str]]
_SUBRESOURCES = {"pods": ("pods/log", "pods/proxy", "pods/portforward"), "deployments": ("deployments/scale",)}


class KubernetesApi(Objects, Faults):
    """The state, the HTTP server before it, and what a test does with both."""

    def __init__(self) -> None:
        Objects.__init__(self)
        Faults.__init__(self)
        # Another one may have been at our port.
        forget_kinds()
        self.tokens = {"first-token"}
        # (verb, resource) that our account may not: ("get", "pods/log").
        self.denied: set[tuple[str, str]] = set()
        # Whether an authorizer that cannot list its rules decides, as on EKS beside RBAC.
        self.hides_rules = False
        # Kinds (plurals), group/versions or group/version/plurals that this cluster does not have: see NOT_IN_1_20.
        self.absent: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        self.logs: dict[tuple[str, str], str] = {}
        # By Pod: what each request for its log is answered with, in turn, before `logs` counts; the last one stays. None at its end: the connection is cut there.
        self.scripted_logs: dict[str, list[list[str | None]]] = {}
        self.proxy: Proxy | None = None
        self.watch_generation = 0
        self.controllers: Controllers | None = None
        handler = type("OwnHandler", (Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def run_controllers(self, *, second: float = 0.01, ready_rounds: int = 1) -> Controllers:
        """Have Deployments, Jobs, Services and routes looked after from now on. `second`: real seconds of one in a spec; `ready_rounds`: how soon a Pod is ready."""
        self.controllers = Controllers(self, second=second, ready_rounds=ready_rounds)
        self.controllers.start()
        return self.controllers

    def cut_watches(self) -> None:
        """Break every watch that stands, in the middle."""
        with self.changed:
            self.watch_generation += 1
            self.changed.notify_all()

    def forget_history(self) -> None:
        """Compact: every resource version until now is too old to watch from."""
        with self.changed:
            self.version += 1
            self.oldest = self.version

    def count(self, method: str, part: str) -> int:
        """How many requests of a method had this in their path."""
        return sum(1 for done, path in self.requests if done == method and part in path)

    def writes(self) -> list[tuple[str, str]]:
        """The requests that change something, in order, without their queries."""
        return [(method, path.partition("?")[0]) for method, path in self.requests if is_write(method, path)]

    def set_log(self, namespace: str, pod: str, text: str) -> None:
        """What a Pod has logged so far."""
        with self.changed:
            self.logs[namespace, pod] = text
            self.changed.notify_all()

    def kubeconfig(self, folder: Path, token: str = "first-token") -> Path:  # noqa: S107 - of nobody
        """Write a kubeconfig for this API and return its path."""
        file = folder / "kubeconfig"
        document = {
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": self.address}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        }
        file.write_text(yaml.safe_dump(document))
        return file

    def close(self) -> None:
        """End the controllers, the server and every watch."""
        if self.controllers is not None:
            self.controllers.stop()
        self.thaw()
        self.cut_watches()
        self._server.shutdown()
        self._server.server_close()

    # What the server asks

    def log_of(
        self, namespace: str, pod: str, gone: tuple[str, bool] | None = None, *, previous: bool = False
    ) -> tuple[str, bool]:
        """A Pod's text so far, and whether there is no more to come; `gone`: what it is once the Pod was removed. `previous`: before a restart."""
        try:
            document = self.read("v1", "pods", namespace, pod)
        except ApiError:
            if gone is None:
                raise
            return gone
        phase = (document.get("status") or {}).get("phase")
        return self.logs.get((namespace, f"{pod}/previous" if previous else pod), ""), phase in {"Succeeded", "Failed"}

    def proxied(self, method: str, target: Target) -> tuple[int, bytes, str]:
        """What a Pod or Service answers: as `proxy` says, else a Pod that is ready is well."""
        if self.proxy is not None:
            code, text = self.proxy(method, target.plural, target.name, target.rest)
            return code, text.encode(), "application/json"
        ready = True
        if target.plural == "pods":
            status = self.read("v1", "pods", target.namespace, target.name.partition(":")[0]).get("status") or {}
            ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
        body = json.dumps({"status": "ok" if ready else "unavailable"})
        return 200 if ready else 503, body.encode(), "application/json"

    def reviewed(self, review: Document) -> Document:
        """A SelfSubjectAccessReview with its answer."""
        attributes = review["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (attributes["resource"], attributes.get("subresource"))))
        return {**review, "status": {"allowed": (attributes["verb"], resource) not in self.denied}}

    def rules_reviewed(self, review: Document) -> Document:
        """A SelfSubjectRulesReview with its answer: everything but what is in `denied`; as many rules as it takes."""
        verbs = ("get", "list", "watch", "create", "update", "patch", "delete")
        resources = {
            (version.rpartition("/")[0], resource)
            for version, kinds in KINDS.items()
            for plural in kinds
            for resource in (plural, *_SUBRESOURCES.get(plural, ()))
        }
        rules = [
            {"verbs": [verb], "apiGroups": [group], "resources": [resource]}
            for group, resource in sorted(resources)
            for verb in verbs
            if (verb, resource) not in self.denied
        ]
        shown = [] if self.hides_rules else rules
        return {**review, "status": {"resourceRules": shown, "nonResourceRules": [], "incomplete": self.hides_rules}}

    def scaled(self, namespace: str, name: str, body: Document | None, *, dry_run: bool, manager: str) -> Document:
        """A Deployment's Scale, after it was changed when there is a body. Zero is left out, as the real one's encoding does."""
        place = ("apps/v1", "deployments", namespace, name)
        document = self.read(*place)
        if body is not None:
            version = (body.get("metadata") or {}).get("resourceVersion")
            patch = {"spec": {"replicas": int((body.get("spec") or {}).get("replicas") or 0)}}
            patch |= {"metadata": {"resourceVersion": version}} if version else {}
            document = self.merge(*place, patch, dry_run=dry_run, manager=manager)
        metadata, spec = document["metadata"], document["spec"]
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        selector = ",".join(f"{key}={value}" for key, value in sorted(spec["selector"]["matchLabels"].items()))
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {key: metadata[key] for key in kept},
            "spec": {"replicas": spec["replicas"]} if spec["replicas"] else {},
            "status": {"replicas": (document.get("status") or {}).get("replicas", 0), "selector": selector},
        }


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesApi]:
    """A Kubernetes API of the test's own, with the namespaces `velero` and `default`; KUBECONFIG leads to it."""
    api = KubernetesApi()
    for name in ("default", "velero"):
        api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))
    yield api
    api.close()
