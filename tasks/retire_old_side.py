"""The old side of a blue-green release once its day was signed off: its Pods are taken away, under the lease, and only where nothing speaks against it.

Its objects stay, without Pods: that is what a rollback fills again.
"""

from __future__ import annotations

from contextlib import suppress

from prefect import get_run_logger

from core.colour_surroundings import autoscaler_of
from core.environment import Environment
from core.errors import NightshiftError, PermanentError
from core.fence import Document, FencedError
from core.old_side import told_change
from core.release_plan import ReleasePlan, SidesPlan, template_of
from core.release_rollback import live_releases
from core.rollout_change import ForeignChangeError
from tasks.colour_sizes import retire
from tasks.environments import load_environment
from tasks.fenced import stamp
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.open_traffic import open_traffic
from tasks.release_journal import Journals
from tasks.release_lease import HeldLease, Lease, renewal, renewed
from tasks.release_records import read_plan
from tasks.release_run import release_of
from tasks.retrying import step
from tasks.secrets import signing_keys

_ATTEMPTED = "retire the old side"


@step("retire the old side of {release_id}")
def retire_old_side(environment_name: str, release_id: str, run_id: str) -> str:
    """Take the old side's Pods away, restore its autoscaler, and return in a sentence what was done, or that there was nothing to do.

    Raise HeldError when a release or rollback goes on, PermanentError when this release is not the newest that is live, when the old side has traffic or the new
    one no ready Pods; ForeignChangeError when somebody else changed the old side. Then its Pods are untouched.
    """
    environment = load_environment(environment_name)
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        plan = _plan_of_newest(client, environment, release_id)
        if plan.sides is None:
            return "it was rolled out in place: there is no old side to retire"
        paths = _paths(client, environment, plan.sides)
        if not paths:
            return f"{plan.sides.live_name} is gone already: there is nothing to retire"
        lease = Lease(client, release, environment.name)
        fence = lease.take(release_id, run_id, tuple(paths.values()))
        try:
            with renewed(renewal(release, environment.name, fence, run_id), fence) as held:
                # Before we had the lease another release may have come and gone.
                _plan_of_newest(client, environment, release_id)
                told = _retire(client, environment, plan, held, tuple(paths))
        except FencedError:
            # It is another's by now.
            raise
        except BaseException:
            # What failed is told, whatever becomes of the lease: a sweep frees one whose holder has ended.
            with suppress(NightshiftError):
                lease.give_back(fence)
            raise
        lease.give_back(fence)
    get_run_logger().info("%s", told)
    return told


def what_is_retired(environment_name: str, release_id: str) -> str:
    """What becomes of the old side once its release is signed off, in a sentence for the form; nothing is changed. What cannot be found out is said so."""
    environment = load_environment(environment_name)
    try:
        with KubernetesClient.open(release_of(environment).context) as client:
            plan = _plan_of_newest(client, environment, release_id)
            if plan.sides is None:
                return "nothing is changed: it was rolled out in place, without an old side."
            name = plan.sides.live_name
            paths = _paths(client, environment, plan.sides)
            pods = sum(int(one["spec"].get("replicas") or 0) for path, one in paths.items() if "/deployments/" in path)
            if not pods:
                return f"nothing is changed: the old side, {name}, has no Pods."
            return f"the old side, {name}, loses its {pods} Pods. A rollback can fill it again, which takes as long as they need to start."
    except NightshiftError as error:
        return f"the old side is left as it is, unless what is in the way has gone by then: {error}"


def _plan_of_newest(client: KubernetesClient, environment: Environment, release_id: str) -> ReleasePlan:
    """The plan of a release that is the newest that is live, while no other one is open. Raise PermanentError when it is not."""
    journals = Journals(client, release_of(environment), environment.name, signing_keys(environment))
    if others := journals.open_documents():
        names = ", ".join(one["metadata"]["name"] for one in others)
        raise PermanentError(
            _ATTEMPTED,
            environment.name,
            f"{names} is open: a release or rollback goes on, or was left in the middle",
            f"Once it has ended, start watch-sign-off of {release_id} again",
        )
    live = live_releases([journals.parse(one) for one in journals.closed_documents()])
    newest = live[-1] if live else None
    if newest is None or newest.release_id != release_id:
        found = "none is" if newest is None else f"{newest.release_id} is"
        raise PermanentError(
            _ATTEMPTED,
            environment.name,
            f"{release_id} is not the newest release that is live: {found}",
            "Leave its sides to the release that is",
        )
    return read_plan(environment, newest.plan_id, newest.plan_sha256)


def _paths(client: KubernetesClient, environment: Environment, sides: SidesPlan) -> dict[str, Document]:
    """Path → object, of what is changed: the old side's Deployment, and its autoscaler where it has one. Empty when the Deployment is gone."""
    namespace, name = release_of(environment).namespace, sides.live_name
    path = find_kind(client, "Deployment").path(namespace, name)
    try:
        found = {path: client.get(path)}
    except MissingError:
        return {}
    kind = find_kind(client, "HorizontalPodAutoscaler")
    scaler = autoscaler_of(name, client.list(kind.path(namespace)))
    if scaler is not None:
        found[kind.path(namespace, scaler["metadata"]["name"])] = scaler
    return found


def _retire(
    client: KubernetesClient, environment: Environment, plan: ReleasePlan, held: HeldLease, paths: tuple[str, ...]
) -> str:
    """Under the lease: look at everything that may speak against it, then take the Pods away."""
    release, sides = release_of(environment), plan.sides
    if sides is None:
        raise PermanentError(_ATTEMPTED, plan.release_id, "its plan has no sides")
    name, following = sides.live_name, sides.following_name
    kind = find_kind(client, "Deployment")
    current = client.get(kind.path(release.namespace, name))
    pods = int(current["spec"].get("replicas") or 0)
    changed = told_change(name, template_of(current), plan.deployments("api")[0].before)
    if changed and pods:
        raise ForeignChangeError(
            _ATTEMPTED,
            f"deployment/{name}",
            f"{changed}: what they want with it, nobody knows here",
            f"Find out who (kubectl get --show-managed-fields), then scale it to 0, or start watch-sign-off of {plan.release_id} again",
        )
    traffic = open_traffic(client, release, environment.name, sides.live, sides.following)
    split = traffic.read()
    if split.of(sides.live.service):
        raise PermanentError(
            _ATTEMPTED,
            f"deployment/{name}",
            f"it has {split.of(sides.live.service)} % of the traffic",
            "Find out who gave it to it; a release leaves it none",
        )
    new = client.get(kind.path(release.namespace, following))
    if not (new.get("status") or {}).get("readyReplicas"):
        raise PermanentError(
            _ATTEMPTED,
            f"deployment/{name}",
            f"{following}, which has the traffic, has no ready Pod",
            f"See to {following}, or roll back: {name} is there for it",
        )
    # Not what is written: what the balancer does.
    traffic.wait_effective(split, release.traffic.effective_seconds, held.still_ours)
    held.still_ours()
    for path in paths:
        stamp(client, path, held.fence)
    shares = {side.name: split.of(side.service) for side in (sides.live, sides.following)}
    held.still_ours()
    retire(client, held.fence, release.namespace, name, shares=shares)
    if not pods:
        return f"the old side, {name}, had no Pods any more"
    return f"the old side, {name}, was retired: its {pods} Pods are gone, its objects stay for a rollback"
