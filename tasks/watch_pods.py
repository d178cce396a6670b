"""One look at the Pods of a released version: Deployments, their ReplicaSets and Pods, and the Warnings of the namespace. Reads only.

Three requests for each Deployment and one for the Warnings, however many Pods there are; one more for all Pods of the namespace at a watch's beginning, and while
most new Pods were restarted: then it matters whether others crash, too (core.crash_loop).
"""

from collections.abc import Collection, Sequence

from core.errors import NightshiftError, TemporaryError
from core.fence import Document
from core.pods_look import Found, PodsLook, Watched, is_suspicious, look_of
from core.watch_pods import PodsSeen
from tasks.kubernetes_answers import ForbiddenError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.rollout_pods import selector_of

# Warnings are kept for an hour, and one that comes again is counted: of more than so many in a namespace the rest says nothing new.
_EVENTS = 500
# What rubbish does to who reads it.
_RUBBISH = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


def look_at_pods(
    client: KubernetesClient,
    namespace: str,
    watched: Sequence[Watched],
    *,
    before: PodsSeen | None,
    old: Collection[str] = (),
) -> PodsLook:
    """Given the Deployments of a release (core.pods_look.watched_of), what was seen before and the old version's Deployments, look at them once.

    A Deployment that is gone is found so, and Warnings that our role may not read are said to be unread. Raise TemporaryError when the API server stays away or
    answers what nobody understands, PermanentError with verb and resource when our role may not read the rest.
    """
    events_left_out, events_unread = False, ""
    try:
        found = [_found(client, namespace, one) for one in watched]
        everyone: list[Document] | None = None
        if before is None or is_suspicious(found):
            everyone = list(client.list(f"/api/v1/namespaces/{namespace}/pods"))
        events: list[Document] = []
        try:
            page = client.get(
                f"/api/v1/namespaces/{namespace}/events", fieldSelector="type=Warning", limit=str(_EVENTS)
            )
            events = list(page.get("items") or ())
            events_left_out = bool((page.get("metadata") or {}).get("continue"))
        except ForbiddenError as error:
            events_unread = error.found
        look = look_of(found, events, everyone=everyone, old=old)
    except NightshiftError:
        raise
    except _RUBBISH as error:
        said = f"an answer of an unknown form ({type(error).__name__})"
        raise TemporaryError(
            "look at the Pods", f"namespace {namespace} at {client.address}", said, "Is it a Kubernetes API?"
        ) from error
    return look.model_copy(update={"events_left_out": events_left_out, "events_unread": events_unread[:300]})


def _found(client: KubernetesClient, namespace: str, watched: Watched) -> Found:
    root = f"/apis/apps/v1/namespaces/{namespace}"
    try:
        deployment = client.get(f"{root}/deployments/{watched.deployment}")
    except MissingError:
        return Found(watched, None)
    selector = selector_of(deployment)
    return Found(
        watched,
        deployment,
        tuple(client.list(f"{root}/replicasets", labelSelector=selector)),
        tuple(client.list(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)),
    )
