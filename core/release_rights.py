"""The rights that releases need at the Kubernetes API: the one list behind deployments/kubernetes/rbac.yaml and the check before a release.

Least privilege: nothing is deleted but old journals (an old colour is scaled to zero), no Secret but the named ones is read, nothing is run in a Pod. RBAC cannot
bind `create` to a name, so what is made is bound to the namespace alone (Kubernetes documentation, "Using RBAC Authorization", "Referring to resources").
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from core.access_right import AccessRight
from core.environment_release import Release

# control: the namespace of journals and lease. workloads: release.namespace. cluster: what no namespace holds.
Role = Literal["control", "workloads", "cluster"]
# What in an environment's file asks for a right. A right without any is always needed.
Need = Literal[
    "blue-green", "httproute", "alb", "migration", "cron jobs", "config maps", "secrets", "external secrets", "capacity"
]
# Stands for each name that the settings give; in rbac.yaml such a rule has resourceNames.
NAMED = "NAMED"


@dataclass(frozen=True)
class WantedRight:
    """One verb on one resource in the namespace of a role. `needs`: it is wanted when any of them is in force."""

    verb: str
    resource: str
    group: str
    role: Role
    needs: tuple[Need, ...] = ()
    name: str = ""

    @property
    def optional(self) -> bool:
        """Whether a release can go without it, and its report then says what was not looked at."""
        return self.role == "cluster"


def _wanted(role: Role, group: str, resources: str, verbs: str, *needs: Need, name: str = "") -> list[WantedRight]:
    """The rights of one rule: blanks part several resources, and several verbs."""
    return [
        WantedRight(verb, resource, group, role, needs, name)
        for resource in resources.split()
        for verb in verbs.split()
    ]


WANTED: tuple[WantedRight, ...] = tuple(
    right
    for rule in (
        # The lease and the journals. A create and a change each name their own object, so list is for journals that are still open.
        _wanted("control", "coordination.k8s.io", "leases", "get create update patch"),
        _wanted("control", "", "configmaps", "get list create update patch delete"),
        # What runs, and how it comes along.
        _wanted("workloads", "apps", "deployments", "get list watch patch"),
        _wanted("workloads", "apps", "replicasets", "get list watch"),
        _wanted("workloads", "", "pods", "get list watch"),
        _wanted("workloads", "", "pods/log", "get"),
        # /health and /ready of a Pod that no Service leads to yet.
        _wanted("workloads", "", "pods/proxy", "get"),
        _wanted("workloads", "", "events resourcequotas", "list"),
        # Who selects the Pods, and how far they may grow.
        _wanted("workloads", "", "services", "get list"),
        _wanted("workloads", "autoscaling", "horizontalpodautoscalers", "get list"),
        _wanted("workloads", "policy", "poddisruptionbudgets", "get list"),
        _wanted("workloads", "networking.k8s.io", "networkpolicies", "get list"),
        # The second colour, and the traffic to it.
        _wanted("workloads", "apps", "deployments", "create", "blue-green"),
        _wanted("workloads", "apps", "deployments/scale", "get patch", "blue-green"),
        _wanted("workloads", "", "services", "create patch", "blue-green"),
        _wanted("workloads", "autoscaling", "horizontalpodautoscalers", "create patch", "blue-green"),
        _wanted("workloads", "policy", "poddisruptionbudgets", "create patch", "blue-green"),
        _wanted("workloads", "networking.k8s.io", "networkpolicies", "create patch", "blue-green"),
        _wanted("workloads", "", "endpoints", "get list watch", "blue-green"),
        _wanted("workloads", "discovery.k8s.io", "endpointslices", "get list watch", "blue-green"),
        # Watched until its controller says that it took the weights.
        _wanted("workloads", "gateway.networking.k8s.io", "httproutes", "get list watch patch", "httproute"),
        _wanted("workloads", "networking.k8s.io", "ingresses", "get patch", "alb"),
        # The migration's Job; what a CronJob started and is still at work.
        _wanted("workloads", "batch", "jobs", "get list watch", "migration", "cron jobs"),
        _wanted("workloads", "batch", "jobs", "create patch", "migration"),
        _wanted("workloads", "batch", "cronjobs", "get list patch", "cron jobs"),
        # Copies of configuration whose names hold a hash.
        _wanted("workloads", "", "configmaps", "get list create patch", "config maps"),
        _wanted("workloads", "", "secrets", "get", "secrets", name=NAMED),
        _wanted("workloads", "external-secrets.io", "externalsecrets", "get", "external secrets"),
        _wanted("cluster", "", "nodes", "list", "capacity"),
    )
    for right in rule
)


def needs_of(release: Release, *, secrets: bool = False, external_secrets: bool = False) -> frozenset[Need]:
    """Given the settings of releases, return what of theirs asks for rights. `secrets`: some are looked at by name; `external_secrets`: so are those."""
    in_force: dict[Need, bool] = {
        "blue-green": release.strategy == "blue-green",
        "httproute": release.traffic.kind == "httproute",
        "alb": release.traffic.kind == "alb",
        "migration": release.migration is not None,
        "cron jobs": bool(release.cron_jobs),
        "config maps": any(workload.config_maps for workload in release.workloads),
        "secrets": secrets,
        "external secrets": external_secrets,
        "capacity": True,
    }
    return frozenset(need for need, holds in in_force.items() if holds)


def rights_for(
    release: Release, *, secrets: Iterable[str] = (), external_secrets: bool = False, optional: bool = False
) -> tuple[AccessRight, ...]:
    """Given the settings of releases and the names of Secrets to look at, return the rights that an account must have; with `optional`, those that it may do without."""
    names = tuple(secrets)
    needs = needs_of(release, secrets=bool(names), external_secrets=external_secrets)
    namespaces: dict[Role, str] = {"control": release.control_namespace, "workloads": release.namespace, "cluster": ""}
    return tuple(
        AccessRight(right.verb, right.resource, right.group, namespaces[right.role], name)
        for right in WANTED
        if right.optional == optional and (not right.needs or needs & set(right.needs))
        for name in (names if right.name == NAMED else (right.name,))
    )
