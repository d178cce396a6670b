"""The two sides of a blue-green release in the cluster: which is live, what stands around it, and making the following side, by the holder of the lease alone.

A change of an object is fenced by the object's own stamp (tasks.fenced). A creation has no object to look at, so it goes by the live Deployment's, read
right before: a holder that slept through a take-over finds another number there and makes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from core.colour_change import following_change
from core.colour_pair import (
    Labels,
    Pair,
    following_deployment,
    is_side_object,
    pair_of,
    pod_labels,
    side_selected_by,
    sides_of,
)
from core.colour_surroundings import (
    autoscaler_of,
    following_autoscaler,
    following_budgets,
    following_policies,
    following_service,
)
from core.config_copies import with_config_copies
from core.errors import PermanentError, TemporaryError
from core.fence import Document, Fence, check_stamp, fence_holder, fence_number
from core.replica_sizes import live_size
from tasks.fenced import fenced_change, stamp
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind

_ATTEMPTS = 4
Outcome = Literal["created", "changed", "unchanged"]


@dataclass(frozen=True)
class Surroundings:
    """What is in the workloads' namespace that selects Pods or scales Deployments."""

    deployments: tuple[Document, ...]
    services: tuple[Document, ...]
    autoscalers: tuple[Document, ...]
    budgets: tuple[Document, ...]
    policies: tuple[Document, ...]

    def deployment(self, name: str) -> Document | None:
        """The Deployment of that name, if there is one."""
        return next((one for one in self.deployments if one["metadata"]["name"] == name), None)

    def service(self, name: str) -> Document | None:
        """The Service of that name, if there is one."""
        return next((one for one in self.services if one["metadata"]["name"] == name), None)


@dataclass(frozen=True)
class Sides:
    """A workload's two sides as they are: the live Deployment, the following one if it exists, and the Service that is copied for a side."""

    pair: Pair
    live: Document
    following: Document | None
    service: Document
    around: Surroundings

    @property
    def autoscaler(self) -> Document | None:
        """The live side's, if it has one."""
        return autoscaler_of(self.pair.live_name, self.around.autoscalers)


def read_surroundings(client: KubernetesClient, namespace: str) -> Surroundings:
    """Read what is in a namespace beside the workload's own Deployments."""

    def all_of(name: str) -> tuple[Document, ...]:
        kind = find_kind(client, name)
        # Items of a list do not repeat their kind.
        return tuple({**one, "apiVersion": kind.api_version, "kind": name} for one in client.list(kind.path(namespace)))

    return Surroundings(
        deployments=all_of("Deployment"),
        services=all_of("Service"),
        autoscalers=all_of("HorizontalPodAutoscaler"),
        budgets=all_of("PodDisruptionBudget"),
        policies=all_of("NetworkPolicy"),
    )


def serving_side(
    client: KubernetesClient, namespace: str, workload: str, service: str, around: Surroundings | None = None
) -> str:
    """Given a workload whose traffic goes by one Service's selector, return the name of the side that it matches. Raise PermanentError when none or several are."""
    deployments = around.deployments if around else client.list(find_kind(client, "Deployment").path(namespace))
    found = around.service(service) if around else None
    found = found or client.get(find_kind(client, "Service").path(namespace, service))
    return side_selected_by(workload, found["spec"].get("selector") or {}, deployments)


def read_sides(
    client: KubernetesClient,
    namespace: str,
    environment: str,
    workload: str,
    *,
    live_name: str,
    service: str,
    around: Surroundings | None = None,
) -> Sides:
    """Given the side that is live (by the traffic, or by the journal of a release that stands open) and the name of the workload's Service, read both sides.
    `around`: what is in the namespace, where it was read just now.

    Raise PermanentError when the live Deployment or the Service is not there.
    """
    pair, around = pair_of(environment, workload, live_name), around or read_surroundings(client, namespace)
    live, found_service = around.deployment(live_name), around.service(service)
    if live is None or found_service is None:
        missing = f"deployment/{live_name}" if live is None else f"service/{service}"
        raise PermanentError(
            "read the sides", f"workload {workload} in namespace {namespace}", f"there is no {missing}", _LOOK
        )
    return Sides(pair, live, around.deployment(pair.following_name), found_service, around)


def side_documents(sides: Sides, images: dict[str, str], copies: dict[str, Document]) -> list[Document]:
    """Given the sides, the images by container and the configuration copies, return all that the following side consists of, in the order to make it in.

    Policies come before Pods, which are then never without; the Deployment has no Pods until it is scaled.
    """
    pair, live, around = sides.pair, sides.live, sides.around
    selector: Labels = sides.service["spec"].get("selector") or {}
    names = {name: copy["metadata"]["name"] for name, copy in copies.items()}
    template = with_config_copies(live["spec"]["template"], names)
    deployment = following_deployment(pair, live, selector, images, template)
    old, new = pod_labels(live), pod_labels(deployment)
    autoscaler = sides.autoscaler
    size = live_size(live, autoscaler)
    return [
        *copies.values(),
        *following_policies(pair, around.policies, old, new),
        *following_budgets(pair, around.budgets, old, new),
        following_service(pair, sides.service, deployment),
        deployment,
        *([following_autoscaler(pair, autoscaler, size)] if autoscaler else []),
    ]


def ensure_side(
    client: KubernetesClient, fence: Fence, documents: Iterable[Document], *, anchor: str
) -> dict[str, Outcome]:
    """Create or bring up to date each document, in order, and return what was done by path. `anchor`: path of the live Deployment, which this holder stamped.

    May be repeated: what is as wanted is not written, what was made by a request whose answer was lost is found. Raise PermanentError for an object of such
    a name that is not ours, FencedError when another holder took over.
    """
    return dict(_ensure(client, fence, one, anchor) for one in documents)


def object_path(client: KubernetesClient, document: Document) -> str:
    """The path of a document's object."""
    metadata = document["metadata"]
    return find_kind(client, document["kind"]).path(metadata["namespace"], metadata["name"])


def planned_changes(client: KubernetesClient, documents: Iterable[Document]) -> dict[str, Document]:
    """Given the documents of a side, return what `ensure_side` would write now, by path: a whole document where there is none yet, else a patch.

    Each is tried as a dry run, so that what the API server or an admission webhook refuses is told before anything changes. Raise as `ensure_side` does.
    """
    planned: dict[str, Document] = {}
    for wanted in documents:
        path = object_path(client, wanted)
        try:
            patch = following_change(client.get(path), wanted)
        except MissingError:
            client.create(path.rpartition("/")[0], wanted, dry_run=True)
            planned[path] = wanted
        else:
            if patch is not None:
                client.merge(path, patch, dry_run=True)
                planned[path] = patch
    return planned


def managed_paths(client: KubernetesClient, sides: Sides) -> list[str]:
    """The paths of what exists and a release writes: the live Deployment first, by which creations go, the Service, autoscalers, and what nightshift made for
    the workload. A new holder of the lease stamps them all before it does anything else."""
    around, workload = sides.around, sides.pair.workload
    names = sides_of(workload)
    everything = (*around.deployments, *around.services, *around.autoscalers, *around.budgets, *around.policies)
    made = [one for one in everything if any(is_side_object(workload, colour, one) for colour in names.values())]
    scaling = [scaler for name in names if (scaler := autoscaler_of(name, around.autoscalers))]
    found = {(one["kind"], one["metadata"]["name"]): one for one in (sides.live, sides.service, *scaling, *made)}
    kinds = {kind: find_kind(client, kind) for kind in {kind for kind, _ in found}}
    return [kinds[kind].path(one["metadata"]["namespace"], name) for (kind, name), one in found.items()]


_LOOK = "Look at the namespace, the workload's name and release.traffic in the environment's file"


def _ensure(client: KubernetesClient, fence: Fence, wanted: Document, anchor: str) -> tuple[str, Outcome]:
    path = object_path(client, wanted)
    collection = path.rpartition("/")[0]

    def once() -> Outcome:
        try:
            current = client.get(path)
        except MissingError:
            check_stamp(client.get(anchor), fence, on=anchor)
            annotations = {**wanted["metadata"].get("annotations", {}), **fence.annotations()}
            client.create(collection, {**wanted, "metadata": {**wanted["metadata"], "annotations": annotations}})
            return "created"
        # Before it is stamped: what is not ours gets no annotation of ours either.
        patch = following_change(current, wanted)
        # A configuration copy never changes: there is nothing to keep anybody from.
        stamped = (fence_number(current), fence_holder(current)) == (fence.number, fence.holder)
        if not stamped and wanted["kind"] != "ConfigMap":
            current = stamp(client, path, fence)
        if patch is None:
            return "unchanged"
        fenced_change(client, path, fence, lambda found: following_change(found, wanted))
        return "changed"

    # ExistsError: made meanwhile, or by our own request whose answer was lost.
    retrying = Retrying(
        retry=retry_if_exception_type((ExistsError, TemporaryError)),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random(0.05, 0.5),
        reraise=True,
    )
    return path, retrying(once)
