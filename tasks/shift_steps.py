"""The steps of a blue-green release: the following side made, filled and asked, traffic shifted to it share by share, and all of it taken back."""

from __future__ import annotations

import functools
from datetime import datetime

from prefect import get_run_logger

from core.colour_pair import sides_of
from core.colour_surroundings import autoscaler_of
from core.errors import PermanentError, TemporaryError
from core.evidence import Finding
from core.fence import Document, FencedError
from core.merge_patch import without_nulls
from core.metric_gate import Verdict, together
from core.old_side import way_of
from core.release_checks import SIDES_ITEM
from core.release_plan import SidesPlan, images_of, template_of
from core.replica_sizes import Size
from core.rollout_change import ForeignChangeError
from core.traffic import Side, allowed_weight, lowered, split_between
from tasks.colour_sizes import match_size, release_sizes, retire
from tasks.colours import ensure_side
from tasks.fenced import stamp
from tasks.gates import check_metrics
from tasks.kept_size import require_size
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.old_side import foreign_change, left_theirs, look_before_back
from tasks.open_traffic import open_traffic
from tasks.pod_health import check_pods, find_side
from tasks.recording import Notes, utc_now
from tasks.release_gates import decided, pause
from tasks.release_run import Action, Facts, ReleaseRun
from tasks.release_sides import planned_documents, require_unselected
from tasks.rollout import wait_for_rollout
from tasks.soaking_side import SoakingSide
from tasks.traffic import Traffic


def prepare_side(run: ReleaseRun, notes: Notes) -> Facts:
    """Make the following side's objects, or bring them up to date: no Pods yet."""
    sides = _sides(run)
    with run.client() as client:
        found, documents = planned_documents(client, run.release, run.plan)
        anchor = find_kind(client, "Deployment").path(run.release.namespace, found.pair.live_name)
        done = ensure_side(client, run.fence, documents, anchor=anchor)
    notes.add(facts={"objects": {path.rpartition("/")[2]: what for path, what in done.items()}})
    return {"side": sides.following_name, "objects": len(done)}


def retire_others(run: ReleaseRun, notes: Notes) -> Facts:
    """Take the Pods of a side away that is neither live nor following: what the release before last left for its way back."""
    sides, retired = _sides(run), list[str]()
    with run.client() as client:
        kind = find_kind(client, "Deployment")
        split = _traffic(run, client).read()
        shares = {side.name: split.of(side.service) for side in (sides.live, sides.following)}
        for name in sides_of(sides.workload).keys() - shares.keys():
            path = kind.path(run.release.namespace, name)
            try:
                current = client.get(path)
            except MissingError:
                continue
            if current["spec"].get("replicas"):
                stamp(client, path, run.fence)
                stamp_autoscaler(run, client, name)
                retire(client, run.fence, run.release.namespace, name, shares=shares)
                retired.append(name)
    notes.add(facts={"retired": retired})
    return {"retired": ", ".join(retired)}


def fill_side(run: ReleaseRun, notes: Notes) -> Facts:
    """As many Pods as the live side has, all ready; both autoscalers are kept from going below. Raise with the cause when they do not come."""
    sides = _sides(run)
    with run.client() as client:
        if SIDES_ITEM not in run.plan.waived:
            require_unselected(client, run.release, run.plan)
        replicas = _fill(run, client, serving=sides.live_name, other=sides.following_name)
    notes.add(facts={"replicas": replicas})
    return {"replicas": replicas}


def ask_side(run: ReleaseRun, notes: Notes) -> Facts:
    """Ask every new Pod for its health before any of the traffic goes there."""
    with run.client() as client:
        return decided(run, notes, lambda: _health(run, client, _sides(run).following))


def shift_to(share: int, before: int) -> Action:
    """Give the following side a share of the traffic (percent; `before`: what it has by then), see the balancer do it, let it soak under our eyes, and read the gates."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        sides, settings, logger = _sides(run), run.release.traffic, get_run_logger()
        with run.client() as client:
            least = _fill(run, client, serving=sides.live_name, other=sides.following_name)
            # From before it has the share: the first requests may be what it does not bear.
            side = SoakingSide(client, run.release.namespace, sides.following_name, least=least)
            traffic = _traffic(run, client)
            wanted = split_between(sides.live, sides.following, share)
            run.still_ours()
            traffic.write(run.fence, split_between(sides.live, sides.following, before), wanted)
            seen = traffic.wait_effective(wanted, settings.effective_seconds, run.still_ours)
            logger.info("%s %%: %s", share, seen.found)
            notes.add(facts={"share": share, "balancer": seen.found})
            since = utc_now()
            look, at = functools.partial(_gates, run, client, sides, since), f" at {share} % of the traffic"
            facts = decided(run, notes, look, soak=settings.soak_seconds, at=at, side=side)
            notes.add(facts={"replicas": side.available})
        return {"share": share, **facts, "replicas": side.available}

    return action


def traffic_back(run: ReleaseRun, notes: Notes) -> Facts:
    """All of the traffic to the side that served before: filled first, and never more than its ready Pods can take. Only ever lowers the new side's share.

    Raise ForeignChangeError where somebody else changed that side (core.old_side), before anything is written; or after, where the new side does not serve.
    """
    sides, settings = _sides(run), run.release.traffic
    with run.client() as client:
        traffic = _traffic(run, client)
        found = traffic.read()
        old = look_before_back(run, client, sides)
        if found.of(sides.following.service) == 0:
            seen = traffic.wait_effective(found, settings.effective_seconds, run.still_ours)
            notes.add(facts={"balancer": seen.found, "was": "never moved"}, findings=left_theirs(old))
            return {"share": 0}
        share = _room(run, client, notes)
        if not old.changed:
            # Its Pods may have been long in coming.
            old = look_before_back(run, client, sides)
        run.still_ours()
        wanted = lowered(found, sides.live, sides.following, share)
        traffic.write(run.fence, found, wanted)
        seen = traffic.wait_effective(wanted, settings.effective_seconds, run.still_ours)
        notes.add(facts={"balancer": seen.found, "was": str(found)}, findings=left_theirs(old))
        if share:
            # What the old side can carry is back; the rest when it has grown.
            raise TemporaryError(
                "take all of the traffic back",
                sides.live_name,
                f"it can carry {100 - share} %, which it has now",
                "It is tried again as its Pods come",
            )
        if way_of(old) == "give it all the same":
            raise foreign_change(run, sides, old)
    return {"share": 0}


def _room(run: ReleaseRun, client: KubernetesClient, notes: Notes) -> int:
    """Fill the side that served before as far as it can be, and return the share that must stay with the new one (percent): what its ready Pods cannot carry."""
    sides = _sides(run)
    path = find_kind(client, "Deployment").path(run.release.namespace, sides.live_name)
    size = _grow(run, client, serving=sides.following_name, other=sides.live_name)
    try:
        _wait_filled(run, client, sides.live_name)
        if size.is_enough:
            return 0
        error = _too_small(sides.live_name, size)
    except PermanentError as found:
        if isinstance(found, FencedError):
            raise
        error = found
    ready = int((client.get(path).get("status") or {}).get("readyReplicas") or 0)
    if ready and not size.wanted:
        # Somebody took the new version's Pods away: nothing tells what size the load asks for, and any Pod serves more than none.
        told = f"{sides.following_name} has no Pods: {sides.live_name} takes all with the {ready} that it has"
        notes.findings.append(Finding(severity="warning", text=told))
        return 0
    carried = allowed_weight(ready, size.wanted, 100)
    if run.release.traffic.kind == "service" or not carried:
        raise error
    notes.findings.append(Finding(severity="warning", text=f"{sides.live_name} is not full: {error.found}"))
    return 100 - carried


def retire_following(run: ReleaseRun, notes: Notes) -> Facts:
    """Take the following side's Pods away once requests in flight had their time, and let both autoscalers go. Its objects stay, without Pods.

    Raise ForeignChangeError where somebody else changed the side that has the traffic now: then these are the only Pods of a version that was checked.
    """
    sides = _sides(run)
    with run.client() as client:
        path = find_kind(client, "Deployment").path(run.release.namespace, sides.following_name)
        try:
            current = client.get(path)
        except MissingError:
            notes.add(facts={"side": "never made"})
            return {"retired": 0}
        if current["spec"].get("replicas"):
            look_before_back(run, client, sides)
            pause(run, run.release.drain_seconds)
        # It may have been made by a holder before us, who was killed.
        stamp(client, path, run.fence)
        stamp_autoscaler(run, client, sides.following_name)
        split = _traffic(run, client).read()
        shares = {side.name: split.of(side.service) for side in (sides.live, sides.following)}
        changed = retire(client, run.fence, run.release.namespace, sides.following_name, shares=shares)
        release_sizes(client, run.fence, run.release.namespace, (sides.live_name,))
    notes.add(facts={"retired": sides.following_name})
    return {"retired": int(changed)}


def _sides(run: ReleaseRun) -> SidesPlan:
    if run.plan.sides is None:
        raise PermanentError("shift traffic", run.plan.release_id, "its plan has no sides")
    return run.plan.sides


def _traffic(run: ReleaseRun, client: KubernetesClient) -> Traffic:
    sides = _sides(run)
    return open_traffic(client, run.release, run.environment.name, sides.live, sides.following)


def _fill(run: ReleaseRun, client: KubernetesClient, *, serving: str, other: str) -> int:
    """Bring a side to the size of the one that serves, and wait until it is there. Raise PermanentError when a limit keeps it smaller."""
    _require_planned(run, client, other)
    size = _grow(run, client, serving=serving, other=other)
    if not size.is_enough:
        raise _too_small(other, size)
    _wait_filled(run, client, other)
    path = find_kind(client, "Deployment").path(run.release.namespace, other)
    return max(size.replicas, require_size(client, run.release.namespace, client.get(path), size.replicas))


def _require_planned(run: ReleaseRun, client: KubernetesClient, name: str) -> None:
    """Raise ForeignChangeError when the following side is not as the plan has it: traffic goes only to what was planned, and checked."""
    path, target = (
        find_kind(client, "Deployment").path(run.release.namespace, name),
        run.plan.deployments("api")[0],
    )
    current = without_nulls(template_of(client.get(path)))
    if current == without_nulls(target.after):
        return
    images = sorted(set(images_of(current).values()) - set(images_of(target.after).values()))
    found = f"it runs {', '.join(images)}" if images else "its Pod template is another"
    raise ForeignChangeError(
        "fill the side",
        f"deployment/{name}",
        f"somebody else changed it since the release made it: {found}",
        "Find out who (kubectl get --show-managed-fields), then start the release again",
    )


def _grow(run: ReleaseRun, client: KubernetesClient, *, serving: str, other: str) -> Size:
    run.still_ours()
    return match_size(client, run.fence, run.release.namespace, serving=serving, other=other)


def _too_small(name: str, size: Size) -> PermanentError:
    found = f"it can have {size.replicas} of {size.wanted} Pods: {size.limited_by}"
    return PermanentError("fill the side", name, found, "Make room, then start again")


def _wait_filled(run: ReleaseRun, client: KubernetesClient, name: str) -> int:
    """Wait until a side has as many ready Pods as it is to have, and return how many."""
    logger = get_run_logger()
    written: Document = client.get(find_kind(client, "Deployment").path(run.release.namespace, name))
    container = next(iter(images_of(template_of(written))))
    end = wait_for_rollout(
        client,
        run.release.namespace,
        name,
        written=written,
        container=container,
        image=images_of(template_of(written))[container],
        seconds=run.release.rollout_minutes * 60.0,
        on_change=lambda text: logger.info("%s: %s", name, text),
        still_ours=run.still_ours,
    )
    return end.replicas


def _gates(run: ReleaseRun, client: KubernetesClient, sides: SidesPlan, since: datetime) -> Verdict:
    """Metrics since the balancer does what was written, and the new Pods' health. The old side is compared with while it has traffic."""
    new, old = (find_side(client, run.release.namespace, _selector(side)) for side in (sides.following, sides.live))
    traffic = _traffic(run, client).read()
    old_beside = old if traffic.of(sides.live.service) else None
    metrics = check_metrics(run.release.gates, new=new, old=old_beside, since=since)
    health = _health(run, client, sides.following)
    return together(metrics, health)


def _health(run: ReleaseRun, client: KubernetesClient, side: Side) -> Verdict:
    return check_pods(client, run.release.gates, namespace=run.release.namespace, selector=_selector(side))


def stamp_autoscaler(run: ReleaseRun, client: KubernetesClient, name: str) -> None:
    """Put our number on the autoscaler of a Deployment, where there is one."""
    kind = find_kind(client, "HorizontalPodAutoscaler")
    scaler = autoscaler_of(name, client.list(kind.path(run.release.namespace)))
    if scaler is not None:
        stamp(client, kind.path(run.release.namespace, scaler["metadata"]["name"]), run.fence)


def _selector(side: Side) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(side.selector.items()))
