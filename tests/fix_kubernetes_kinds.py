"""The kinds of the small Kubernetes API of the tests (fix_kubernetes), the versions that it serves them in, and its discovery."""

from typing import Any

Document = dict[str, Any]

# group/version → plural: (kind, namespaced). Newest version of a group first: objects are kept in that, whatever version they are written and read in.
KINDS: dict[str, dict[str, tuple[str, bool]]] = {
    "v1": {
        "namespaces": ("Namespace", False),
        "nodes": ("Node", False),
        "configmaps": ("ConfigMap", True),
        "secrets": ("Secret", True),
        "services": ("Service", True),
        "endpoints": ("Endpoints", True),
        "serviceaccounts": ("ServiceAccount", True),
        "pods": ("Pod", True),
        "resourcequotas": ("ResourceQuota", True),
        "events": ("Event", True),
    },
    "apps/v1": {"deployments": ("Deployment", True), "replicasets": ("ReplicaSet", True)},
    "batch/v1": {"jobs": ("Job", True), "cronjobs": ("CronJob", True)},
    "batch/v1beta1": {"cronjobs": ("CronJob", True)},
    "autoscaling/v2": {"horizontalpodautoscalers": ("HorizontalPodAutoscaler", True)},
    "autoscaling/v2beta2": {"horizontalpodautoscalers": ("HorizontalPodAutoscaler", True)},
    "policy/v1": {"poddisruptionbudgets": ("PodDisruptionBudget", True)},
    "policy/v1beta1": {"poddisruptionbudgets": ("PodDisruptionBudget", True)},
    "coordination.k8s.io/v1": {"leases": ("Lease", True)},
    "discovery.k8s.io/v1": {"endpointslices": ("EndpointSlice", True)},
    "discovery.k8s.io/v1beta1": {"endpointslices": ("EndpointSlice", True)},
    "networking.k8s.io/v1": {"ingresses": ("Ingress", True), "networkpolicies": ("NetworkPolicy", True)},
    "gateway.networking.k8s.io/v1": {"httproutes": ("HTTPRoute", True)},
    "external-secrets.io/v1": {"externalsecrets": ("ExternalSecret", True)},
    "external-secrets.io/v1beta1": {"externalsecrets": ("ExternalSecret", True)},
    "velero.io/v1": {
        "backups": ("Backup", True),
        "restores": ("Restore", True),
        "downloadrequests": ("DownloadRequest", True),
        "backupstoragelocations": ("BackupStorageLocation", True),
    },
}
# What Kubernetes 1.20 does not have yet, as `absent` names it: the preferred version of a group need not have all of its kinds.
NOT_IN_1_20 = frozenset({"batch/v1/cronjobs", "autoscaling/v2", "policy/v1", "discovery.k8s.io/v1"})
# Groups whose kinds are custom resources: no strategic merge, and an update must say which version it replaces.
CUSTOM = frozenset({"gateway.networking.k8s.io", "external-secrets.io", "velero.io"})
# Built-in kinds that count the changes of their spec; custom resources all do.
COUNTED = frozenset({"deployments", "replicasets", "ingresses", "networkpolicies", "poddisruptionbudgets"})


def is_custom(group_version: str) -> bool:
    """Whether the kinds of a group and version are custom resources."""
    return group_version.partition("/")[0] in CUSTOM


def is_absent(group_version: str, plural: str, absent: set[str]) -> bool:
    """Whether this cluster does not have a kind: it is not known, or `absent` names its plural, its group/version, or both."""
    known = plural in KINDS.get(group_version, {})
    return not known or bool({plural, group_version, f"{group_version}/{plural}"} & absent)


def kept_version(group_version: str, plural: str) -> str:
    """The group/version in which objects of a kind are kept."""
    group = group_version.rpartition("/")[0]
    return next(each for each, kinds in KINDS.items() if each.rpartition("/")[0] == group and plural in kinds)


def where(api_version: str, kind: str) -> tuple[str, str]:
    """The group/version and the plural of a document's kind."""
    return api_version, next(plural for plural, (each, _) in KINDS[api_version].items() if each == kind)


def discovery(path: str, absent: set[str]) -> Document | None:
    """The answer to a request for the groups or the resources of one; None: it is none of these."""
    if path == "/version":
        return {"gitVersion": "v1.20.0"}
    served = {
        version: {plural: each for plural, each in kinds.items() if not is_absent(version, plural, absent)}
        for version, kinds in KINDS.items()
    }
    if path == "/apis":
        groups: dict[str, list[dict[str, str]]] = {}
        for version, kinds in served.items():
            if "/" in version and kinds:
                groups.setdefault(version.split("/")[0], []).append({"groupVersion": version})
        return {
            "groups": [{"name": name, "versions": each, "preferredVersion": each[0]} for name, each in groups.items()]
        }
    version = path.removeprefix("/apis/").removeprefix("/api/")
    if not served.get(version):
        return None
    resources = [
        {"name": plural, "namespaced": namespaced, "kind": kind, "verbs": ["get", "list", "watch", "create", "delete"]}
        for plural, (kind, namespaced) in served[version].items()
    ]
    logs = [{"name": "pods/log", "namespaced": True, "verbs": ["get"]}] if version == "v1" else []
    return {"groupVersion": version, "resources": [*resources, *logs]}
