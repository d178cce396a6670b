"""The one thing seen on Pods that may send a release back: its containers crash, again and again, on most of its Pods, and nothing else does.

**A Pod loops** when the released container was restarted at least three times within the last three looks (15 minutes) and does not do its work now: it is held back
(CrashLoopBackOff) or not ready. A program that fails at once comes to five restarts within five minutes (the kubelet restarts it after 0, 10, 20, 40, 80 s:
Kubernetes documentation, "Pod Lifecycle", "Container restarts"), so one look is enough. Two more ways to loop: restarted three times and in each of the last three
looks, though ready when it was looked at (it lives for minutes each time); held back in two looks one after the other with a restart meanwhile (after ten minutes
the back-off is five minutes long, and fewer than three restarts fit into fifteen).

**A version loops** when more than half of the Pods of one of its Deployments do, of those that ever began. So it is not found

- when one Pod of several flaps: it is one. Of a Deployment with one Pod it is all of it;
- when a node dies: nothing is restarted there, and what is made elsewhere begins anew; nor when it comes back: each container is restarted once;
- when all that loop are on one node and others of the same version, on another node, do not: that is the node;
- when containers are killed for their memory once a day, or once an hour: that is fewer than three times in 15 minutes;
- when a database restarts for a few seconds: two restarts, and then they are ready.

**And nothing else does**: while the old version's own Pods crash as well, or half of the other workloads do, or half of those on the same nodes, it is a node, the
network or a database, and going back would mend nothing. Who crashed already when the watch began is no witness. Where nobody looked at the others nothing is said.

Restarts whose time is not known (a look after a gap of more than three) do not count here; nor does a look that is not of now. Containers that the release did not
change, such as a proxy beside it, are told of and never send a release back.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from core.manifest import Record
from core.pods_elsewhere import HELD_BACK, Elsewhere, outside_cause
from core.pods_look import ContainerLook, PodLook, key_of

# Looks, five minutes apart.
WINDOW = 3
ENOUGH = 3
# Of Deployments that loop, so many are kept.
_MOST = 4


class Tracked(Record):
    """A container that was ever restarted: how often in all, how often since the watch began, in which of the last buckets how often, since when it is held back."""

    restarts: int
    counted: int = 0
    recent: tuple[tuple[int, int], ...] = ()
    held: int | None = None
    last: int = 0

    def after(self, bucket: int) -> int:
        """Restarts of the last looks until a bucket."""
        return sum(count for number, count in self.recent if bucket - WINDOW < number <= bucket)


class LoopState(Record):
    """How it stands with a Deployment's new Pods in one look: how many began, how many of them loop, how often those were restarted lately, and one of them.

    `node`: the only one where they loop, while the same version does not on another; else "".
    """

    deployment: str
    begun: int
    looping: int
    restarts: int = 0
    node: str = ""
    pod: str = ""
    container: str = ""
    ended: str = ""


def track(known: Tracked | None, one: ContainerLook, *, before: int | None, bucket: int) -> Tracked | None:
    """Given what is known of a container, and how it is in the look of a bucket, return what is known after it; None: it was never restarted.

    `before`: the bucket of the look before; None: there was none, so that what it was restarted until now was before the watch. Else an unknown one began at 0.
    """
    if known is None and not one.restarts:
        return None
    at_first = one.restarts if before is None else 0
    known = known or Tracked(restarts=at_first)
    more = max(0, one.restarts - known.restarts)
    recent = tuple(pair for pair in known.recent if pair[0] > bucket - WINDOW)
    if more:
        # When within the time since the look before, nobody knows: the earliest moment counts, which after a gap lies before the window.
        number = bucket if before is None or before >= bucket else before + 1
        recent = _added(recent, number, more)
    held = (bucket if known.held is None else known.held) if one.waiting == HELD_BACK else None
    return Tracked(
        restarts=max(known.restarts, one.restarts),
        counted=known.counted + more,
        recent=recent,
        held=held,
        last=bucket,
    )


def loops(one: ContainerLook, tracked: Tracked | None, bucket: int) -> bool:
    """Given a container in the look of a bucket, and what is known of it then, return whether it loops."""
    if tracked is None or not one.released:
        return False
    restarts = tracked.after(bucket)
    if restarts >= ENOUGH:
        in_each = {number for number, _ in tracked.recent} >= set(range(bucket - WINDOW + 1, bucket + 1))
        return one.waiting == HELD_BACK or not one.ready or in_each
    return restarts > 0 and tracked.held is not None and tracked.held < bucket


def loop_states(pods: Sequence[PodLook], tracked: Mapping[str, Tracked], bucket: int) -> tuple[LoopState, ...]:
    """Given the Pods of a look and what is known of each container (`container_key`), return how it stands with each Deployment of which any Pod loops."""
    found = []
    for name in dict.fromkeys(pod.deployment for pod in pods):
        begun = [pod for pod in pods if pod.deployment == name and any(c.released and c.begun for c in pod.containers)]
        looping = [
            (pod, one)
            for pod in begun
            for one in [c for c in pod.containers if loops(c, tracked.get(container_key(pod, c)), bucket)][:1]
        ]
        if looping:
            found.append(_state(name, begun, looping, tracked, bucket))
    return tuple(found[:_MOST])


def container_key(pod: PodLook, one: ContainerLook) -> str:
    """What a container of a Pod is known by."""
    return key_of(pod.key, one.container)


def told_loops(states: Iterable[LoopState]) -> list[str]:
    """What is to be told of each Deployment of which most Pods loop."""
    return [_told(one) for one in states if _mostly(one)]


def verdict(states: Sequence[LoopState], elsewhere: Elsewhere | None, before: Collection[str]) -> tuple[str, str]:
    """Given how it stands with each Deployment, return a sentence when the release is to go back for it, else ""; and why not, where most Pods loop, else "".

    Args:
        elsewhere: the other workloads; None when nobody looked at them.
        before: who of them crashed when the watch began.
    """
    most = [one for one in states if _mostly(one)]
    if not most:
        return "", ""
    if elsewhere is None:
        return "", "nobody looked whether other workloads crash as well"
    if cause := outside_cause(elsewhere, before):
        return "", cause
    if not (acting := [one for one in most if not one.node]):
        return "", f"only those on node {most[0].node} do, and others of the same version elsewhere do not"
    others = elsewhere.everywhere.but(before)
    return (
        f"{'; '.join(_told(one) for one in acting[:3])}; of {others.workloads} other workloads {others.crashing} do",
        "",
    )


def _mostly(state: LoopState) -> bool:
    return 2 * state.looping > state.begun


def _told(state: LoopState) -> str:
    ended = f", last {state.ended}" if state.ended else ""
    return (
        f"{state.deployment}: {state.looping} of {state.begun} Pods of the new version crash again and again"
        f" ({state.restarts} restarts within {WINDOW * 5} minutes, e.g. container {state.container} of Pod {state.pod}{ended})"
    )


def _state(
    name: str,
    begun: Sequence[PodLook],
    looping: Sequence[tuple[PodLook, ContainerLook]],
    tracked: Mapping[str, Tracked],
    bucket: int,
) -> LoopState:
    nodes, everywhere = {pod.node for pod, _ in looping}, {pod.node for pod in begun}
    pod, one = looping[0]
    return LoopState(
        deployment=name,
        begun=len(begun),
        looping=len(looping),
        restarts=sum(tracked[container_key(*pair)].after(bucket) for pair in looping),
        node=min(nodes) if len(nodes) == 1 and everywhere - nodes else "",
        pod=pod.name,
        container=one.container,
        ended=ended_words(one.ended, one.exit_code),
    )


def ended_words(reason: str, code: int | None) -> str:
    """How a container ended, in words: OOMKilled, or its exit code."""
    if reason == "OOMKilled" or code is None:
        return reason
    return f"exit code {code}"


def _added(recent: tuple[tuple[int, int], ...], bucket: int, more: int) -> tuple[tuple[int, int], ...]:
    counts = dict(recent)
    counts[bucket] = counts.get(bucket, 0) + more
    return tuple(sorted(counts.items()))[-WINDOW:]
