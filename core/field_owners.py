"""Who else writes an object that a release takes over: tools that would undo our change, and people whose change we take the place of."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import PermanentError

Document = dict[str, Any]
Tool = Literal["argocd", "flux", "helm", "owner"]

OURS = "nightshift"
# Labels and annotations by which a tool knows its objects: a copy that carried them would be pruned or reverted as the tool's own.
# Argo CD: docs/user-guide/resource_tracking. Flux: kustomize-controller and helm-controller set <group>/name and /namespace. Helm: pkg/action/validate.go.
_MARKS: dict[str, Tool] = {
    "argocd.argoproj.io/": "argocd",
    "kustomize.toolkit.fluxcd.io/": "flux",
    "helm.toolkit.fluxcd.io/": "flux",
    "meta.helm.sh/": "helm",
}
# Their names in managedFields: Argo CD common.ArgoCDSSAManager, and its program's name without server-side apply; Flux' controllers; Helm 3.
_MANAGERS: dict[str, Tool] = {
    "argocd-controller": "argocd",
    "argocd-application-controller": "argocd",
    "kustomize-controller": "flux",
    "helm-controller": "flux",
    "helm": "helm",
}
# Argo CD's label by default until 2.14, and Helm charts' own: by itself it proves nothing.
INSTANCE = "app.kubernetes.io/instance"
MANAGED_BY = "app.kubernetes.io/managed-by"
_TOOLS: dict[Tool, str] = {"argocd": "Argo CD", "flux": "Flux", "helm": "Helm", "owner": "its owner"}


@dataclass(frozen=True)
class Tracker:
    """A tool that keeps an object as it has it in its own source, and by what that was seen."""

    tool: Tool
    seen: str


@dataclass(frozen=True, order=True)
class Displaced:
    """Who set a field that a release sets from now on."""

    manager: str
    operation: str
    fields: tuple[str, ...]


def trackers(document: Document) -> tuple[Tracker, ...]:
    """Given an object as it was read, return the tools that track it, each once, with the first thing that shows it."""
    metadata = document.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    found: dict[Tool, str] = {}
    for where, marks in (("label", labels), ("annotation", annotations)):
        for key in sorted(marks):
            tool = next((tool for prefix, tool in _MARKS.items() if key.startswith(prefix)), None)
            if tool:
                found.setdefault(tool, f"{where} {key}: {marks[key]}")
    for manager in sorted({str(entry.get("manager", "")) for entry in metadata.get("managedFields") or ()}):
        if tool := _MANAGERS.get(manager):
            found.setdefault(tool, f"field manager {manager}")
    if labels.get(MANAGED_BY) == "Helm":
        found.setdefault("helm", f"label {MANAGED_BY}: Helm")
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            found.setdefault("owner", f"it belongs to {owner.get('kind')} {owner.get('name')}")
    return tuple(Tracker(tool, seen) for tool, seen in found.items())


def check_trackers(document: Document, allowed: Iterable[str], *, on: str) -> tuple[Tracker, ...]:
    """Given an object and the tools that the environment allows, return those that track it.

    Raise PermanentError for one that is not allowed: it would put back what we change. An owner (a custom resource whose controller writes the object) never is.
    """
    found, permitted = trackers(document), frozenset(allowed) - {"owner"}
    refused = [one for one in found if one.tool not in permitted]
    if refused:
        first = refused[0]
        how = (
            "Release by what owns it"
            if first.tool == "owner"
            else f'Tell {_TOOLS[first.tool]} to leave image and replicas alone, then add "{first.tool}" to release.tracked_by_allowed'
        )
        raise PermanentError("take over", on, f"{_TOOLS[first.tool]} keeps it as it has it ({first.seen})", how)
    return found


def is_tracking_mark(key: str) -> bool:
    """Whether a label's or annotation's key belongs to a tool that tracks objects by it."""
    return key in {INSTANCE, MANAGED_BY} or any(key.startswith(prefix) for prefix in _MARKS)


def displaced_managers(document: Document) -> tuple[Displaced, ...]:
    """Given a Deployment, Service or autoscaler as it was read, return who set what releases set from now on (metadata.managedFields): images, replicas, a
    Service's selector, minReplicas. Left out are we ourselves and the autoscaler's controller.

    kubectl writes as kubectl-client-side-apply, kubectl-set, kubectl-edit, kubectl-patch, kubectl-scale, kubectl (create, replace) by the command used.
    """
    found = []
    for entry in (document.get("metadata") or {}).get("managedFields") or ():
        manager = str(entry.get("manager", ""))
        if manager in {OURS, "kube-controller-manager"}:
            continue
        fields = tuple(_taken_over(entry.get("fieldsV1") or {}))
        if fields:
            found.append(Displaced(manager, str(entry.get("operation", "")), fields))
    return tuple(sorted(set(found)))


def _taken_over(fields: Document) -> Iterable[str]:
    spec = fields.get("f:spec") or {}
    yield from (name for name in ("replicas", "minReplicas") if f"f:{name}" in spec)
    # A Deployment's own, which nobody can change, stands beside a template.
    if "f:selector" in spec and "f:ports" in spec:
        yield "selector"
    pod = ((spec.get("f:template") or {}).get("f:spec")) or {}
    for group in ("containers", "initContainers"):
        for key, one in sorted((pod.get(f"f:{group}") or {}).items()):
            if isinstance(one, dict) and "f:image" in one:
                # A key of a list is written as k: and its JSON.
                yield f"image of {json.loads(key.removeprefix('k:')).get('name')}"
