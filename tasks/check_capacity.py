"""Items capacity and nodes of the checklist: is there room for the Pods that a release adds."""

from core.capacity import Surge, autoscaler_problem, node_problem, quota_problems, rolling_pods
from core.environment_release import Workload
from core.fence import Document
from core.release_checks import ReleaseCheck, failed, not_configured, verdict
from core.units import counted
from tasks.kubernetes_answers import ForbiddenError
from tasks.kubernetes_kinds import find_kind
from tasks.preflight_item import Preflight, asked

_COLOURS = ("", "-blue", "-green")


@asked("capacity")
def check_capacity(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the namespace's quotas have room for the Pods that it adds, and no autoscaler of its workloads is at its maximum."""
    client, namespace = preflight.client, preflight.namespace
    surges = surges_of(preflight)
    quotas = list(client.list(find_kind(client, "ResourceQuota").path(namespace)))
    names = {f"{workload.name}{colour}" for workload in preflight.deployments for colour in _COLOURS}
    autoscalers = [
        one
        for one in client.list(find_kind(client, "HorizontalPodAutoscaler").path(namespace))
        if one["spec"]["scaleTargetRef"].get("kind") == "Deployment"
        and one["spec"]["scaleTargetRef"].get("name") in names
    ]
    problems = [problem for quota in quotas for problem in quota_problems(quota, surges)]
    problems += [problem for one in autoscalers if (problem := autoscaler_problem(one))]
    pods = sum(surge.pods for surge in surges)
    return verdict(
        "capacity",
        problems,
        f"room for {counted(pods, 'more Pod')} in {counted(len(quotas), 'quota')}; {counted(len(autoscalers), 'autoscaler')} below the maximum",
        "Raise the quota or the maximum, or wait for less traffic",
        surge={surge.name: surge.pods for surge in surges},
    )


@asked("nodes")
def check_nodes(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the Pods that it adds fit on the nodes. Without the right to look at the whole cluster nobody knows, which is said."""
    if not preflight.release.checks.capacity.nodes:
        return not_configured(
            "nodes", "nobody asked whether the Pods fit on the nodes", "Set release.checks.capacity.nodes"
        )
    client, surges = preflight.client, surges_of(preflight)
    try:
        nodes = list(client.list(find_kind(client, "Node").path("")))
        pods = list(client.list(find_kind(client, "Pod").path("")))
    except ForbiddenError as error:
        return not_configured(
            "nodes", f"not looked at: {error.found}", "Let the worker list nodes and Pods of the cluster"
        )
    if problem := node_problem(nodes, pods, surges):
        return failed("nodes", problem, "Add nodes, or wait until the autoscaler of the nodes did", nodes=len(nodes))
    many = sum(surge.pods for surge in surges)
    return verdict(
        "nodes", [], f"{counted(many, 'more Pod')} fit on {counted(len(nodes), 'node')}", "", nodes=len(nodes)
    )


def surges_of(preflight: Preflight) -> list[Surge]:
    """Given a release, return the Pods that it adds by workload: rolling, what maxSurge allows; blue-green, as many as the api has now."""
    found = []
    for workload in preflight.deployments:
        there = _there(preflight, workload)
        if preflight.strategy == "blue-green" and workload.role == "api":
            pods = max((_replicas(one) for one in there), default=0)
        else:
            pods = max((rolling_pods(one) for one in there), default=0)
        if there:
            biggest = max(there, key=_replicas)
            found.append(Surge(workload.key, pods, biggest["spec"]["template"]["spec"]))
    return found


def _there(preflight: Preflight, workload: Workload) -> list[Document]:
    """The Deployments of a workload: itself, or its two colours. Raise MissingError when there is none."""
    kind = find_kind(preflight.client, "Deployment")
    if preflight.strategy == "blue-green" and workload.role == "api":
        names = {f"{workload.name}{colour}" for colour in _COLOURS}
        there = preflight.client.list(kind.path(preflight.namespace))
        if found := [one for one in there if one["metadata"]["name"] in names]:
            return found
    return [preflight.client.get(kind.path(preflight.namespace, workload.name))]


def _replicas(deployment: Document) -> int:
    """As many as are wanted or there, whichever is more."""
    return max(int(deployment["spec"].get("replicas", 1)), int((deployment.get("status") or {}).get("replicas") or 0))
