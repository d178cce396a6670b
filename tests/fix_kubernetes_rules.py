"""What the small Kubernetes API of the tests adds to documents and refuses of them: the few defaults and rules that releases meet."""

from datetime import UTC, datetime, timedelta
from typing import Any

Document = dict[str, Any]


class ApiError(Exception):
    """An answer that is a Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}  # fmt: skip


def with_defaults(plural: str, document: Document) -> Document:
    """Given a document that is written, add the API server's defaults that releases read (pkg/apis/apps/v1/defaults.go, batch/v1, core/v1)."""
    spec = document.get("spec")
    if not isinstance(spec, dict):
        return document
    if plural == "deployments":
        spec.setdefault("replicas", 1)
        spec.setdefault("progressDeadlineSeconds", 600)
        spec.setdefault("revisionHistoryLimit", 10)
        strategy = spec.setdefault("strategy", {})
        if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxSurge", "25%")
            rolling.setdefault("maxUnavailable", "25%")
    if plural == "httproutes":
        _add_route_defaults(spec)
    if plural == "jobs":
        for name, value in (("backoffLimit", 6), ("completions", 1), ("parallelism", 1)):
            spec.setdefault(name, value)
    if plural == "services":
        spec.setdefault("type", "ClusterIP")
        for port in spec.get("ports") or ():
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
    for container in _pod_spec(plural, document).get("containers") or ():
        tag = container.get("image", "").rpartition("/")[2].partition(":")[2]
        container.setdefault("imagePullPolicy", "Always" if tag in {"", "latest"} else "IfNotPresent")
    return document


def _add_route_defaults(spec: Document) -> None:
    """As the CustomResourceDefinition of the Gateway API has them (apis/v1/shared_types.go, httproute_types.go)."""
    for parent in spec.get("parentRefs") or ():
        parent.setdefault("group", "gateway.networking.k8s.io")
        parent.setdefault("kind", "Gateway")
    for rule in spec.get("rules") or ():
        rule.setdefault("matches", [{"path": {"type": "PathPrefix", "value": "/"}}])
        for backend in rule.get("backendRefs") or ():
            for name, value in (("group", ""), ("kind", "Service"), ("weight", 1)):
                backend.setdefault(name, value)


def check_new(plural: str, document: Document) -> None:
    """Raise 422 for a document that a real API server would not keep either."""
    spec = document.get("spec")
    # Tests that look at names only leave the spec out.
    if plural != "deployments" or spec is None:
        return
    wanted = (spec.get("selector") or {}).get("matchLabels") or {}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    if not wanted or not wanted.items() <= labels.items():
        _refuse("Deployment", document, "spec.template.metadata.labels", "`selector` does not match template `labels`")


def check_change(plural: str, there: Document, after: Document) -> None:
    """Raise 422 for a change of what cannot be changed."""
    before, spec = there.get("spec") or {}, after.get("spec") or {}
    if plural in {"deployments", "jobs"} and before.get("selector") != spec.get("selector"):
        _refuse(there["kind"], there, "spec.selector", "field is immutable")
    if plural == "jobs" and before.get("template") != spec.get("template"):
        _refuse("Job", there, "spec.template", "field is immutable")
    if there.get("immutable") and any(there.get(key) != after.get(key) for key in ("data", "binaryData", "immutable")):
        _refuse(there["kind"], there, "data", "field is immutable when `immutable` is set")
    check_new(plural, after)


def _refuse(kind: str, document: Document, where: str, why: str) -> None:
    raise ApiError(422, "Invalid", f'{kind} "{document["metadata"]["name"]}" is invalid: {where}: Invalid value: {why}')


def _pod_spec(plural: str, document: Document) -> Document:
    spec = document["spec"]
    if plural == "cronjobs":
        spec = (spec.get("jobTemplate") or {}).get("spec") or {}
    return spec if plural == "pods" else (spec.get("template") or {}).get("spec") or {}


def counted(document: Document) -> Document:
    """What the generation of an object counts the changes of: its spec and, of a Deployment, its annotations (pkg/registry/apps/deployment/strategy.go)."""
    counted = {key: value for key, value in document.items() if key not in {"metadata", "status"}}
    if document["kind"] == "Deployment":
        counted["annotations"] = document["metadata"].get("annotations") or {}
    return counted


def sign(document: Document, group_version: str, manager: str) -> None:
    """Record who wrote and when, as far as the tests look: not which fields."""
    metadata = document["metadata"]
    others = [entry for entry in metadata.get("managedFields", ()) if entry["manager"] != manager]
    entry = {"manager": manager, "operation": "Update", "apiVersion": group_version, "time": now()}
    metadata["managedFields"] = [*others, {**entry, "fieldsType": "FieldsV1", "fieldsV1": {}}]


def now(seconds_ago: int = 0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
