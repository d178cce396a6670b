"""Asking the API server what our account may do, before it matters (SelfSubjectAccessReview, which every account may create)."""

from collections.abc import Iterable

from core.access_right import AccessRight
from tasks.kubernetes_client import KubernetesClient

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def lacking_rights(client: KubernetesClient, wanted: Iterable[AccessRight]) -> tuple[AccessRight, ...]:
    """Given rights, return those that our account lacks, in order."""
    return tuple(right for right in wanted if not _is_allowed(client, right))


def _is_allowed(client: KubernetesClient, right: AccessRight) -> bool:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right.attributes()},
    }
    answer = client.create(_REVIEWS, review)
    return bool((answer.get("status") or {}).get("allowed"))
