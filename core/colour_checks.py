"""What a blue-green release looks at before it makes or adopts a side, as items of its checklist: each can be waived by name, with a reason."""

from collections.abc import Iterable
from typing import Any

from core.checks import Check
from core.colour_overlaps import Overlap, left_behind, not_admitting, overlaps, shared_resources
from core.colour_pair import Labels, Pair, pod_labels
from core.colour_surroundings import autoscaler_of
from core.errors import PermanentError
from core.field_owners import check_trackers, displaced_managers

Document = dict[str, Any]


def side_checks(
    pair: Pair,
    live: Document,
    new: Labels,
    *,
    services: Iterable[Document],
    budgets: Iterable[Document],
    policies: Iterable[Document],
    deployments: Iterable[Document],
    autoscalers: Iterable[Document],
    shifted: Iterable[str],
    adopt: bool,
) -> list[Check]:
    """Given the live Deployment, the new Pods' labels, what is in the namespace, the Services that the release shifts and whether it may adopt, return the checks."""
    old, scalers, handled = pod_labels(live), list(autoscalers), frozenset(shifted)
    found = overlaps(
        pair,
        old,
        new,
        services=(kept := list(services)),
        budgets=budgets,
        policies=(rules := list(policies)),
        deployments=deployments,
        autoscalers=scalers,
    )
    refused = [f"{one.kind} {one.name}: {one.found}" for one in found if one.refused]
    told = [f"{one.kind} {one.name}" for one in found if not one.refused]
    return [
        _adoption(
            pair,
            live,
            [one for one in kept if one["metadata"]["name"] in handled],
            autoscaler_of(pair.live_name, scalers),
            adopt,
        ),
        _check(
            "selectors",
            refused,
            "no selector that exists matches the new Pods before the shift"
            + (f", but policies for live and new Pods alike: {', '.join(told)}" if told else ""),
            _advice(found),
        ),
        _check(
            "other services",
            [f"Service {name} sends requests to the live Pods" for name in left_behind(pair, old, kept, handled)],
            "no other Service sends requests to the live Pods",
            "They would stay with the old side: let their users take the Service that is shifted, or change their selectors by hand after the shift",
        ),
        _check(
            "network policies",
            [
                f"NetworkPolicy {name} lets the live Pods through, and not the new"
                for name in not_admitting(pair, rules, old, new)
            ],
            "no policy of others tells the new Pods from the live",
            f"Admit nightshift.dev/workload: {pair.workload} in them besides",
        ),
        _check(
            "shared resources",
            list(shared_resources(live["spec"]["template"])),
            "the two sides share no volume and no port of a node",
            "See that both versions can run with them at once",
            warning=True,
        ),
    ]


def tracking_check(documents: Iterable[tuple[str, Document]], allowed: Iterable[str]) -> Check:
    """Given what a release takes over (the Deployment, the Service or route, the autoscaler), each with its name for messages, and the tools that are allowed."""
    permitted, refused, known = tuple(allowed), [], []
    next_step = ""
    for on, document in documents:
        try:
            known += [f"{on} by {one.tool}" for one in check_trackers(document, permitted, on=on)]
        except PermanentError as error:
            refused.append(f"{on}: {error.found}")
            next_step = next_step or error.next_step
    allowed_ones = f"tracked, and allowed: {', '.join(known)}" if known else "no tool puts back what a release changes"
    return _check("tracked by others", refused, allowed_ones, next_step)


def _advice(found: Iterable[Overlap]) -> str:
    """What to do about selectors that match the new Pods. An autoscaler goes by a name, and selects by no label."""
    refused = [one for one in found if one.refused]
    scaling = [one.name for one in refused if one.kind == "HorizontalPodAutoscaler"]
    steps = [f"Delete HorizontalPodAutoscaler {name}, or let it scale another Deployment" for name in scaling]
    if len(scaling) < len(refused):
        steps.insert(0, "Let them select by a label that the Deployment or its Service selects by too")
    return ". ".join(steps)


def _adoption(pair: Pair, live: Document, services: list[Document], autoscaler: Document | None, adopt: bool) -> Check:
    if not pair.is_adoption:
        return Check(name="adoption", state="passed", found=f"{pair.live_name} is live, {pair.following_name} follows")
    if not adopt:
        return Check(
            name="adoption",
            state="failed",
            found=f"{pair.live_name} is a Deployment that was made without nightshift",
            next_step="Start the release with adopt = true: two colours take its place, and it stays with no Pods",
        )
    taken = [live, *services, *([autoscaler] if autoscaler else [])]
    managers = sorted(
        {f"{one.manager} ({', '.join(one.fields)})" for each in taken for one in displaced_managers(each)}
    )
    found = f"{pair.live_name} is adopted: {pair.following_name} follows. From now on a release sets what was set by {', '.join(managers) or 'nobody'}"
    return Check(name="adoption", state="passed", found=found)


def _check(name: str, trouble: list[str], well: str, next_step: str, *, warning: bool = False) -> Check:
    if not trouble:
        return Check(name=name, state="passed", found=well)
    return Check(name=name, state="warning" if warning else "failed", found="; ".join(trouble), next_step=next_step)
