"""The two sides of a blue-green release: which one is live, which one follows, and the following one's Deployment as it is derived from the live one.

A workload `api` has up to three Deployments: `api` (plain, as it was before nightshift), `api-blue` and `api-green`. A release whose live side is the plain
one is the adoption; from then on the colours alternate. The following side is derived from what is live now, so what a person changed there travels on.
Its Pods carry the live Pods' labels with the values that any selector of the workload uses ending in the colour (app: api-green): no selector that was
there before matches them (a Service of `app: api` sends them nothing).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import PermanentError
from core.fence import ENVIRONMENT
from core.field_owners import is_tracking_mark
from core.label_selectors import rewritten, selected_keys
from core.merge_patch import without_nulls

Document = dict[str, Any]
Labels = dict[str, str]
Colour = Literal["", "blue", "green"]

WORKLOAD = "nightshift.dev/workload"
COLOUR = "nightshift.dev/colour"
OWN_PREFIX = "nightshift.dev/"
LONGEST_LABEL = 63
# What a Deployment's specification holds beside these is not taken along: replicas (only /scale sets them), paused, and the selector, which is made anew.
DEPLOYMENT_FIELDS = ("template", "strategy", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
# Annotations that tell of an object's own past. (Deployment controller, kubectl.)
_HISTORY = ("kubectl.kubernetes.io/", "deployment.kubernetes.io/", "autoscaling.alpha.kubernetes.io/")


@dataclass(frozen=True)
class Pair:
    """Who is who in one release; what follows is always a colour."""

    environment: str
    workload: str
    live: Colour
    following: Colour

    @property
    def live_name(self) -> str:
        """Name of the live side's Deployment."""
        return side_name(self.workload, self.live)

    @property
    def following_name(self) -> str:
        """Name of the following side's Deployment, Service and HPA."""
        return side_name(self.workload, self.following)

    @property
    def is_adoption(self) -> bool:
        """Whether the live side is the plain Deployment."""
        return self.live == ""

    def marks(self) -> Labels:
        """The labels that say whose an object of the following side is."""
        return {ENVIRONMENT: self.environment, WORKLOAD: self.workload, COLOUR: self.following}


def side_name(workload: str, colour: Colour) -> str:
    """Given a workload and a colour, return that side's name: api, api-blue, api-green."""
    return f"{workload}-{colour}" if colour else workload


def sides_of(workload: str) -> dict[str, Colour]:
    """The colour of each name that a side of a workload can have."""
    colours: tuple[Colour, ...] = ("", "blue", "green")
    return {side_name(workload, colour): colour for colour in colours}


def is_side_object(workload: str, colour: Colour, document: Document) -> bool:
    """Given an object of the namespace, return whether a release made it for that side: by its kind and name, and by our labels besides.

    Labels alone tell nothing: `kubectl expose` copies those of the Deployment to a Service of any name. A copied budget or policy has its source's name with the
    colour at its end, and selects by our own marks.
    """
    labels, marks = document["metadata"].get("labels") or {}, {WORKLOAD: workload, COLOUR: colour}
    if not marks.items() <= labels.items():
        return False
    name = document["metadata"]["name"]
    field = {"PodDisruptionBudget": "selector", "NetworkPolicy": "podSelector"}.get(document["kind"])
    if field is None:
        return bool(name == side_name(workload, colour))
    selected = (document["spec"].get(field) or {}).get("matchLabels") or {}
    return name.endswith(f"-{colour}") and marks.items() <= selected.items()


def pair_of(environment: str, workload: str, live_name: str) -> Pair:
    """Given the live side's name, return the pair: plain is followed by blue, blue by green, green by blue. Raise PermanentError for a name of no side."""
    colours = sides_of(workload)
    if live_name not in colours:
        raise PermanentError(
            "tell blue from green",
            f"workload {workload}",
            f"traffic goes to {live_name}, which is none of {', '.join(colours)}",
            "Point the traffic at one of them",
        )
    live = colours[live_name]
    return Pair(environment, workload, live, "green" if live == "blue" else "blue")


def live_of(workload: str, shares: Mapping[str, int]) -> str:
    """Given each side's share of the traffic (by name, in any unit), return the name of the one that gets all. Raise PermanentError when none or several do."""
    serving = sorted(name for name, share in shares.items() if share > 0)
    if len(serving) == 1:
        return serving[0]
    found = f"traffic is split between {' and '.join(serving)}" if serving else "no side gets traffic"
    raise PermanentError(
        "tell the live side",
        f"workload {workload}",
        found,
        "End the release that stands open (release-recovery, rollback), or point the traffic at one side",
    )


def pod_labels(deployment: Document) -> Labels:
    """The labels of a Deployment's Pods."""
    return dict((deployment["spec"]["template"].get("metadata") or {}).get("labels") or {})


def side_selected_by(workload: str, selector: Labels, deployments: Iterable[Document]) -> str:
    """Given a Service's selector and the sides' Deployments, return the name of the one side whose Pods it matches. Raise PermanentError when none or several are."""
    names = sides_of(workload)
    matching = sorted(
        one["metadata"]["name"]
        for one in deployments
        if one["metadata"]["name"] in names and selector and selector.items() <= pod_labels(one).items()
    )
    if len(matching) == 1:
        return str(matching[0])
    told = ", ".join(f"{key}={value}" for key, value in sorted(selector.items()))
    found = f"its selector {told or '(none)'} matches {' and '.join(matching) or 'no side'}"
    raise PermanentError("tell the live side", f"the Service of {workload}", found, "Let it select one side's Pods")


def selector_of(deployment: Document, current: Labels) -> Labels:
    """Given the Deployment that shall get a Service's traffic and the Service's selector now, return the selector it needs: the same labels, with that side's
    values, and for a colour ours besides. Raise PermanentError when its Pods lack one of the labels."""
    labels = pod_labels(deployment)
    keys = [key for key in current if key not in {WORKLOAD, COLOUR}]
    lacking = sorted(key for key in keys if key not in labels)
    if lacking or not keys:
        name, found = deployment["metadata"]["name"], f"its Pods have no label {', '.join(lacking)}"
        raise PermanentError("select a side", name, found if keys else "the Service selects by no label", "")
    return {key: labels[key] for key in (*keys, WORKLOAD, COLOUR) if key in labels}


def identity_keys(live: Document, service_selector: Labels) -> frozenset[str]:
    """The labels whose values tell one side's Pods from another's: those that the live Deployment or the workload's Service selects by."""
    selecting = selected_keys(live["spec"]["selector"]) | service_selector.keys()
    return frozenset(selecting & pod_labels(live).keys()) - {WORKLOAD, COLOUR, ENVIRONMENT}


def following_labels(pair: Pair, live: Document, service_selector: Labels) -> Labels:
    """Given the live Deployment and the selector of the workload's Service, return the labels of the following side's Pods.

    Raise PermanentError for a value that gets too long.
    """
    labels = {**pod_labels(live), **pair.marks()}
    for key in identity_keys(live, service_selector):
        plain = labels[key].removesuffix(f"-{pair.live}") if pair.live else labels[key]
        labels[key] = f"{plain}-{pair.following}"
        if len(labels[key]) > LONGEST_LABEL:
            raise PermanentError(
                "derive the labels",
                f"deployment/{pair.live_name}",
                f"its label {key} is too long: {labels[key]} has more than {LONGEST_LABEL} characters",
                "Give its Pods a shorter one",
            )
    return labels


def following_deployment(
    pair: Pair, live: Document, service_selector: Labels, images: Mapping[str, str], template: Document | None = None
) -> Document:
    """Given the live Deployment as it was read, return the following side's as it is created: with no Pods yet, and with these images by container.

    `template`: the Pod template to begin with, when configuration copies have been put into the live one's. Raise PermanentError for a container that is not there.
    """
    old, new = pod_labels(live), following_labels(pair, live, service_selector)
    spec = without_nulls({key: live["spec"][key] for key in DEPLOYMENT_FIELDS if key in live["spec"]})
    made = without_nulls(template) if template else spec["template"]
    pod = _with_own_selectors(_with_images(made["spec"], images, f"deployment/{pair.live_name}"), old, new)
    metadata = {**(made.get("metadata") or {}), "labels": new}
    chosen = selected_keys(live["spec"]["selector"]) & old.keys()
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": copied_metadata(pair, live, pair.following_name),
        "spec": {
            **spec,
            # Never in a later patch: core.colour_change.
            "replicas": 0,
            "selector": {"matchLabels": {key: new[key] for key in sorted({*chosen, WORKLOAD, COLOUR})}},
            "template": {"metadata": metadata, "spec": pod},
        },
    }


def copied_metadata(pair: Pair, source: Document, name: str) -> Document:
    """The metadata of a copy for the following side: labels and annotations without those of the source's own past and of tools that track it."""
    metadata = source["metadata"]
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if _travels(key)}
    annotations = {key: value for key, value in (metadata.get("annotations") or {}).items() if _travels(key)}
    return {
        "name": name,
        "namespace": metadata["namespace"],
        "labels": {**labels, **pair.marks()},
        **({"annotations": annotations} if annotations else {}),
    }


def _travels(key: str) -> bool:
    return not (key.startswith((OWN_PREFIX, *_HISTORY)) or is_tracking_mark(key))


def _with_images(pod: Document, images: Mapping[str, str], on: str) -> Document:
    made, left = dict(pod), set(images)
    for group in ("containers", "initContainers"):
        if pod.get(group):
            made[group] = [{**one, "image": images.get(one["name"], one["image"])} for one in pod[group]]
            left -= {one["name"] for one in pod[group]}
    if left:
        raise PermanentError(
            "set the image", on, f"it has no container {', '.join(sorted(left))}", "Name one that it has"
        )
    return made


def _with_own_selectors(pod: Document, old: Labels, new: Labels) -> Document:
    """Rules of where Pods may run that mean the workload's own Pods, meaning this side's instead: each side spreads by itself."""
    made = dict(pod)
    if spread := pod.get("topologySpreadConstraints"):
        made["topologySpreadConstraints"] = [_with_selector(one, old, new) for one in spread]
    affinity = dict(pod.get("affinity") or {})
    for rule in ("podAffinity", "podAntiAffinity"):
        if affinity.get(rule):
            affinity[rule] = {way: [_term(one, old, new) for one in terms] for way, terms in affinity[rule].items()}
    return {**made, "affinity": affinity} if affinity else made


def _term(term: Document, old: Labels, new: Labels) -> Document:
    """A required term, or a preferred one, which holds it beside its weight."""
    if "podAffinityTerm" in term:
        return {**term, "podAffinityTerm": _with_selector(term["podAffinityTerm"], old, new)}
    return _with_selector(term, old, new)


def _with_selector(holder: Document, old: Labels, new: Labels) -> Document:
    selector = holder.get("labelSelector")
    return {**holder, "labelSelector": rewritten(selector, old, new)} if selector else holder
