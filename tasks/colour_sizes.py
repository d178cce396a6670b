"""How large the two sides are: scaled by the scale subresource alone, and their autoscalers pinned, by the holder of the lease alone."""

from collections.abc import Iterable, Mapping

from core.capacity import quota_room
from core.colour_surroundings import autoscaler_of
from core.errors import PermanentError
from core.fence import Document, Fence, check_stamp
from core.replica_sizes import Size, following_size, live_size, pin_change, unpin_change
from tasks.contended_write import write_again
from tasks.fenced import fenced_change
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind


def scale(client: KubernetesClient, fence: Fence, path: str, replicas: int) -> bool:
    """Given a Deployment's path, give it so many replicas, and return whether that was a change.

    The number on the Deployment is looked at, and the write carries the resourceVersion of that read, which the scale subresource takes for the
    Deployment's own (pkg/registry/apps/deployment/storage, scaleUpdatedObjectInfo). Raise FencedError when another holder took over.
    """

    def once() -> bool:
        current = client.get(path)
        check_stamp(current, fence, on=path)
        if current["spec"].get("replicas", 1) == replicas:
            return False
        version = current["metadata"]["resourceVersion"]
        client.merge(f"{path}/scale", {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}})
        return True

    return write_again(once, "scale", path)


def pin(client: KubernetesClient, fence: Fence, path: str, size: int) -> Document:
    """Given an autoscaler's path, keep it from going below a size, and return it as it then is. What it had is kept on it."""
    return fenced_change(client, path, fence, lambda found: pin_change(found, size))


def unpin(client: KubernetesClient, fence: Fence, path: str) -> Document:
    """Given an autoscaler's path, restore its minReplicas, and return it as it then is."""
    return fenced_change(client, path, fence, unpin_change)


def match_size(client: KubernetesClient, fence: Fence, namespace: str, *, serving: str, other: str) -> Size:
    """Make the Deployment `other` at least as large as the one that is serving, pin both autoscalers there, and return what size `other` now has to reach.

    Before a shift `other` is the following side, before a rollback the old one. Called again before each step: the serving side may have grown meanwhile.
    Never makes it smaller. A size that is not enough (Size.is_enough) is for the caller to stop at.
    """
    kind, autoscalers = find_kind(client, "Deployment"), find_kind(client, "HorizontalPodAutoscaler")
    larger, smaller = (client.get(kind.path(namespace, name)) for name in (serving, other))
    all_scalers = list(client.list(autoscalers.path(namespace)))
    scalers = [autoscaler_of(name, all_scalers) for name in (serving, other)]
    wanted = live_size(larger, scalers[0])
    current = int(smaller["spec"].get("replicas", 1))
    quotas = client.list(find_kind(client, "ResourceQuota").path(namespace))
    size = following_size(wanted, current, scalers[1], quota_room(smaller["spec"]["template"], quotas))
    for one in scalers:
        if one is not None:
            pin(client, fence, autoscalers.path(namespace, one["metadata"]["name"]), wanted)
    if size.replicas > current:
        scale(client, fence, kind.path(namespace, other), size.replicas)
    return size


def release_sizes(client: KubernetesClient, fence: Fence, namespace: str, names: Iterable[str]) -> None:
    """Given the names of Deployments, restore their autoscalers' minReplicas: the shift is over and the old side need not be kept full any more."""
    kind = find_kind(client, "HorizontalPodAutoscaler")
    all_scalers = list(client.list(kind.path(namespace)))
    for name in names:
        if one := autoscaler_of(name, all_scalers):
            unpin(client, fence, kind.path(namespace, one["metadata"]["name"]))


def retire(client: KubernetesClient, fence: Fence, namespace: str, name: str, *, shares: Mapping[str, int]) -> bool:
    """Given a side and each side's share of the traffic as it was just read, take the side's Pods away and release its autoscaler; return whether it had any.

    The Deployment stays: it is what a rollback scales up again. Whether requests are still in flight is for the caller to know. Raise PermanentError when the
    side has traffic, or when none of the others has.
    """
    others = sum(share for side, share in shares.items() if side != name)
    if shares.get(name, 0) > 0 or others <= 0:
        told = ", ".join(f"{side}: {share}" for side, share in sorted(shares.items()))
        raise PermanentError(
            "retire", f"deployment/{name}", f"the traffic's shares are {told or 'not known'}", "Shift its traffic first"
        )
    changed = scale(client, fence, find_kind(client, "Deployment").path(namespace, name), 0)
    release_sizes(client, fence, namespace, (name,))
    return changed
