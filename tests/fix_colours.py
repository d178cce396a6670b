"""A workload as a team has it before nightshift: a Deployment, its Service, autoscaler, disruption budget and network policies, as an API server returns them."""

import copy
from typing import Any

from core.colour_pair import Pair, pair_of

Document = dict[str, Any]

NAMESPACE = "shop"
ADOPTION = pair_of("production", "api", "api")
TO_GREEN = pair_of("production", "api", "api-blue")


def named(api_version: str, kind: str, name: str, **content: Any) -> Document:
    """A document in the workload's namespace."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, **content}


def live_deployment(**pod: Any) -> Document:
    """The plain Deployment as it is read; `pod` adds to its Pods' specification."""
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "api"}}}
    container = {
        "name": "api",
        "image": "registry.example.com/team/api:1",
        "env": [{"name": "MODE", "value": "full"}, {"name": "DEBUG", "value": "0"}],
        "envFrom": [{"configMapRef": {"name": "settings"}}, {"secretRef": {"name": "keys"}}],
    }
    document = named("apps/v1", "Deployment", "api")
    document["metadata"] |= {
        "uid": "1",
        "resourceVersion": "7",
        "generation": 3,
        "labels": {"app": "api", "app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "deployment.kubernetes.io/revision": "4",
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "team": "shop",
        },
        "managedFields": [{"manager": "kubectl-set", "operation": "Update"}],
    }
    document["spec"] = {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "api"}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
        "progressDeadlineSeconds": 600,
        "paused": True,
        "template": {
            "metadata": {"creationTimestamp": None, "labels": {"app": "api", "tier": "front"}},
            "spec": {
                "containers": [container],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}},
                "topologySpreadConstraints": [{"maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule", **copy.deepcopy(term)}],
                **pod,
            },
        },
    }  # fmt: skip
    document["status"] = {"replicas": 3}
    return document


def live_service(**spec: Any) -> Document:
    """The workload's Service as it is read."""
    return named("v1", "Service", "api") | {
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.0.0.7",
            "clusterIPs": ["10.0.0.7"],
            "loadBalancerIP": "192.0.2.1",
            "externalTrafficPolicy": "Cluster",
            "selector": {"app": "api"},
            "ports": [{"name": "http", "port": 80, "targetPort": 3000, "protocol": "TCP", "nodePort": 30999}],
            **spec,
        },
        "status": {"loadBalancer": {}},
    }


def live_autoscaler(minimum: int = 2, maximum: int = 20, **annotations: str) -> Document:
    """The plain Deployment's autoscaler."""
    document = named("autoscaling/v2", "HorizontalPodAutoscaler", "api-scaler")
    document["metadata"]["annotations"] = annotations
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "api"}
    return document | {"spec": {"minReplicas": minimum, "maxReplicas": maximum, "scaleTargetRef": target}}


def budget(**selector: Any) -> Document:
    """A disruption budget with that selector."""
    return named("policy/v1", "PodDisruptionBudget", "api-budget") | {
        "spec": {"minAvailable": 1, "selector": selector or {"matchLabels": {"app": "api"}}}
    }


def policy(name: str, selector: Document, **rules: Any) -> Document:
    """A network policy."""
    return named("networking.k8s.io/v1", "NetworkPolicy", name) | {"spec": {"podSelector": selector, **rules}}


def everything() -> list[Document]:
    """All of it, for an API server."""
    own = {"matchLabels": {"app": "api"}}
    return [
        named("v1", "ConfigMap", "settings") | {"data": {"MODE": "full"}},
        live_deployment(),
        live_service(),
        live_autoscaler(),
        budget(),
        policy("default-deny", {}, policyTypes=["Ingress"]),
        policy("api-in", own, ingress=[{"from": [{"podSelector": own}]}]),
    ]


def as_blue(deployment: Document, pair: Pair = ADOPTION) -> Document:
    """A derived Deployment as it is once its traffic is there."""
    live = copy.deepcopy(deployment)
    live["metadata"] |= {"uid": "2", "resourceVersion": "9"}
    live["spec"]["replicas"] = 3
    assert live["metadata"]["name"] == pair.following_name
    return live
