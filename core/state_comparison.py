"""What a rehearsal of application state restores and compares, what it leaves out and why, and when a restored namespace is what was backed up.

A namespace is alive while it is backed up, so it is listed before the Backup is asked for and after it ended. Whatever existed before and still exists must be
restored; whatever came or went in between may be either way, and is named.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, Field

from core.evidence import Finding
from core.manifest import Record
from core.velero import MANAGED_BY, MANAGED_BY_LABEL, RUN_LABEL

# What a copy of cannot act outside of its own namespace, once no Pod may start there. As Velero and kubectl write them: RESOURCE.GROUP.
REHEARSED = (
    "configmaps",
    "cronjobs.batch",
    "daemonsets.apps",
    "deployments.apps",
    "horizontalpodautoscalers.autoscaling",
    "limitranges",
    "networkpolicies.networking.k8s.io",
    "poddisruptionbudgets.policy",
    "resourcequotas",
    "rolebindings.rbac.authorization.k8s.io",
    "roles.rbac.authorization.k8s.io",
    "secrets",
    "serviceaccounts",
    "services",
    "statefulsets.apps",
)

_MADE_AGAIN = "made again by their controllers, not from the backup"
_TRAFFIC = "a copy would be routed to: it could take traffic from the live one"
_VOLUMES = "volumes are not rehearsed: a copy would provision and pay for new ones"
_LEFT_OUT = {
    "pods": "made again by their controllers; nothing may start in the scratch namespace",
    "replicasets.apps": _MADE_AGAIN,
    "controllerrevisions.apps": _MADE_AGAIN,
    "replicationcontrollers": "of an older time; their Pods would start",
    "endpoints": _MADE_AGAIN,
    "endpointslices.discovery.k8s.io": _MADE_AGAIN,
    "jobs.batch": "a copy would run again",
    "events": "tell of what happened, not of what is",
    "events.events.k8s.io": "tell of what happened, not of what is",
    "leases.coordination.k8s.io": "held by processes that run",
    "persistentvolumeclaims": _VOLUMES,
    "ingresses.networking.k8s.io": _TRAFFIC,
    "ingresses.extensions": _TRAFFIC,
    "backups.velero.io": "Velero restores none",
    "restores.velero.io": "Velero restores none",
}
_GROUPS_LEFT_OUT = {"gateway.networking.k8s.io": _TRAFFIC, "networking.istio.io": _TRAFFIC, "velero.io": "Velero's own"}
_UNKNOWN = "a controller acts on it: a copy could change things outside of the scratch namespace"

# In every namespace without anybody's doing, so never a sign of a restore. Istio writes its own root into each namespace too.
_FOUND_EVERYWHERE = {
    "configmaps": frozenset({"kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert"}),
    "serviceaccounts": frozenset({"default"}),
    "services": frozenset({"kubernetes"}),
}
EXCLUDED_LABEL = "velero.io/exclude-from-backup"
_DNS_ANNOTATION = "external-dns.alpha.kubernetes.io/hostname"
_NAMES_SHOWN = 5


class Listed(Record):
    """The objects of one kind in a namespace: name and creation, by the API server's clock."""

    kind: str
    objects: dict[str, AwareDatetime]


class Inventory(Record):
    """A namespace at one moment. `unreadable`: kinds that the API server did not list, and its reason."""

    namespace: str
    listed: tuple[Listed, ...]
    unreadable: dict[str, str] = Field(default_factory=dict)

    def names(self, kind: str) -> dict[str, datetime]:
        """The objects of a kind; none when there is no such kind."""
        return next((dict(one.objects) for one in self.listed if one.kind == kind), {})


class LeftOut(Record):
    """A kind that the rehearsal does not restore, how many there are of it, and why."""

    kind: str
    objects: int
    why: str


class KindComparison(Record):
    """One kind: how many there were before and after the Backup and in the scratch namespace, and the names that do not fit.

    `before` is None when the run was taken up again and its first look is lost. `changed`: came or went while the backup was made.
    """

    kind: str
    before: int | None
    after: int
    restored: int
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    @property
    def matches(self) -> bool:
        """Whether all that must be there is, and nothing else."""
        return not self.missing and not self.unexpected


def why_left_out(kind: str, excluded: Iterable[str]) -> str:
    """Given a kind as RESOURCE.GROUP and those excluded from the Backup, return why a rehearsal leaves it out; "" when it is restored and compared."""
    resource, _, group = kind.partition(".")
    # Velero takes `events`, `events.events.k8s.io` and `*.GROUP`-less short forms alike.
    if {kind, resource} & set(excluded):
        return "excluded from the backup (app_state.excluded_kinds)"
    if kind in REHEARSED:
        return ""
    return _LEFT_OUT.get(kind) or _GROUPS_LEFT_OUT.get(group, _UNKNOWN)


def counts(kind: str, metadata: Mapping[str, Any]) -> bool:
    """Given an object's kind and metadata, return whether it takes part in a comparison.

    Not: what Kubernetes puts into every namespace, what is labelled as excluded from backups, what is being deleted (Velero passes over both), and what
    nightshift itself made in the scratch namespace.
    """
    labels = metadata.get("labels") or {}
    ours = labels.get(MANAGED_BY_LABEL) == MANAGED_BY and RUN_LABEL in labels
    return (
        metadata["name"] not in _FOUND_EVERYWHERE.get(kind, frozenset())
        and labels.get(EXCLUDED_LABEL) != "true"
        and not metadata.get("deletionTimestamp")
        and not ours
    )


def services_that_reach_out(services: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Given Services, return the names of those whose copy would get a load balancer or a DNS name: then no Service is restored in a rehearsal."""
    return tuple(
        service["metadata"]["name"]
        for service in services
        if (service.get("spec") or {}).get("type") == "LoadBalancer"
        or _DNS_ANNOTATION in (service["metadata"].get("annotations") or {})
    )


def compare_state(
    before: Inventory | None, after: Inventory, restored: Inventory, asked: datetime, kinds: Iterable[str]
) -> tuple[KindComparison, ...]:
    """Given a namespace before and after its Backup, its restored copy and when the Backup was asked for (API server's clock), compare these kinds.

    An object that was created before the Backup was asked for and is still there after it ended existed all the time: it must be restored.
    """
    return tuple(
        _compare_kind(
            kind, None if before is None else before.names(kind), after.names(kind), restored.names(kind), asked
        )
        for kind in kinds
    )


def comparison_findings(namespace: str, compared: Iterable[KindComparison]) -> tuple[Finding, ...]:
    """Given the comparison of a namespace, return an error for each kind that differs, a note of what changed meanwhile, an error when there was nothing."""
    compared = tuple(compared)
    found = []
    for one in compared:
        if one.missing:
            text = f"{namespace}: {_count(one.missing)} {one.kind} of the backup {_are(one.missing)} missing in the restored copy: {_names(one.missing)}"
            found.append(Finding(severity="error", text=text))
        if one.unexpected:
            text = f"{namespace}: {_count(one.unexpected)} {one.kind} in the restored copy that {_are(one.unexpected)} not in the namespace: {_names(one.unexpected)}"
            found.append(Finding(severity="error", text=text))
        if one.changed:
            text = f"{namespace}: {one.kind} that came or went during the backup, in it or not: {_names(one.changed)}"
            found.append(Finding(severity="note", text=text))
    if not sum(one.restored for one in compared) and all(one.matches for one in compared):
        text = f"{namespace}: nothing was compared, since it holds none of the kinds that are rehearsed: this proves nothing"
        found.append(Finding(severity="error", text=text))
    return tuple(found)


def _compare_kind(
    kind: str,
    before: Mapping[str, datetime] | None,
    after: Mapping[str, datetime],
    restored: Mapping[str, datetime],
    asked: datetime,
) -> KindComparison:
    steady = {name for name, created in after.items() if created < asked}
    known = set(after) | set(before or ())
    strangers = set(restored) - known
    # Without the first look nobody can say whether a stranger was deleted meanwhile: it is named, and no error.
    unexpected = strangers if before is not None else set()
    return KindComparison(
        kind=kind,
        before=None if before is None else len(before),
        after=len(after),
        restored=len(restored),
        missing=tuple(sorted(steady - set(restored))),
        unexpected=tuple(sorted(unexpected)),
        changed=tuple(sorted((known | strangers) - steady - unexpected)),
    )


def _count(names: tuple[str, ...]) -> str:
    return str(len(names))


def _are(names: tuple[str, ...]) -> str:
    return "is" if len(names) == 1 else "are"


def _names(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
