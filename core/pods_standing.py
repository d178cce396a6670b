"""What stands wrong with the Pods of a release from look to look: replicas that are not available, containers that wait, Deployments that are gone."""

from collections.abc import Iterable

from core.manifest import Record
from core.pods_look import PodsLook

# Of two looks one after the other: what stands for five minutes is no moment between.
LASTING = 2
_MOST = 12
# The states of a container that is just beginning.
_BEGINS = {"", "ContainerCreating", "PodInitializing"}


class Standing(Record):
    """Something that is so since a bucket, and in how many looks it was: `what` of a Deployment."""

    deployment: str
    what: str
    since: int
    last: int
    looks: int
    most: int
    of: int
    example: str = ""


def standing_after(before: Iterable[Standing], look: PodsLook, bucket: int, *, new: bool) -> tuple[Standing, ...]:
    """Given what stood before, return what still does, and what did for at least two looks, which stays told. `new`: no look was made of this bucket before."""
    known = {(one.deployment, one.what): one for one in before}
    found = {**known}
    for deployment, what, count, of, example in _troubles(look):
        one = known.get((deployment, what))
        if one is not None and one.last < bucket - LASTING and one.looks < LASTING:
            one = None
        found[deployment, what] = Standing(
            deployment=deployment,
            what=what,
            since=one.since if one is not None else bucket,
            last=bucket,
            looks=(one.looks if one is not None else 0) + int(new or one is None or one.last < bucket),
            most=max(count, one.most if one is not None else 0),
            of=of,
            example=example,
        )
    kept = [one for one in found.values() if one.last == bucket or one.looks >= LASTING]
    return tuple(sorted(kept, key=lambda one: (-one.looks, one.deployment, one.what))[:_MOST])


def _troubles(look: PodsLook) -> list[tuple[str, str, int, int, str]]:
    """(Deployment, what, how many, of how many, an example) of what is not as it is to be."""
    found = []
    for one in look.deployments:
        if not one.there:
            found.append((one.name, "there is no such Deployment", 1, 1, ""))
        elif one.wanted and not one.new_pods:
            found.append((one.name, "no Pod runs the released image", one.wanted, one.wanted, ""))
        if one.unavailable:
            found.append(
                (one.name, "replicas are not available", one.unavailable, max(one.wanted, one.unavailable), "")
            )
    waiting: dict[tuple[str, str], list[str]] = {}
    for pod in look.pods:
        for reason in {c.waiting for c in pod.containers} - _BEGINS:
            waiting.setdefault((pod.deployment, reason), []).append(pod.name)
    for (deployment, reason), names in waiting.items():
        of = sum(pod.deployment == deployment for pod in look.pods)
        found.append((deployment, f"Pods wait: {reason}", len(names), of, names[0]))
    return found
