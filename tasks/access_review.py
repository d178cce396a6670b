"""Asking the API server what our account may do, before it matters (by reviews of its own rights, which every account may create).

One SelfSubjectRulesReview tells the rules of a namespace, so that a list of rights does not cost a request each. Its list may be incomplete: an authorizer that is no
RBAC (on EKS always) is not in it (Kubernetes API reference, SubjectRulesReviewStatus). So what it does not show is asked for by a SelfSubjectAccessReview; of an
incomplete list so is every right to change something, since such an authorizer may also refuse.
"""

from collections.abc import Iterable

from core.access_right import AccessRight, is_granted
from core.errors import PermanentError
from tasks.kubernetes_client import KubernetesClient

_API = "authorization.k8s.io/v1"
_ACCESS, _RULES = f"/apis/{_API}/selfsubjectaccessreviews", f"/apis/{_API}/selfsubjectrulesreviews"


def lacking_rights(client: KubernetesClient, wanted: Iterable[AccessRight]) -> tuple[AccessRight, ...]:
    """Given rights, return those that our account lacks, in order."""
    rights = tuple(wanted)
    shown: set[AccessRight] = set()
    for namespace in dict.fromkeys(right.namespace for right in rights if right.namespace):
        shown |= _shown(client, namespace, [right for right in rights if right.namespace == namespace])
    return tuple(right for right in rights if right not in shown and not _is_allowed(client, right))


def _shown(client: KubernetesClient, namespace: str, rights: list[AccessRight]) -> set[AccessRight]:
    """Those of a namespace's rights that its rules show for certain."""
    review = {"apiVersion": _API, "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace}}
    try:
        status = client.create(_RULES, review).get("status") or {}
    except PermanentError:
        # Not every API server's authorizers can list their rules.
        return set()
    granted = {right for right in rights if is_granted(right, status.get("resourceRules") or ())}
    return {right for right in granted if right.only_reads} if status.get("incomplete") else granted


def _is_allowed(client: KubernetesClient, right: AccessRight) -> bool:
    review = {
        "apiVersion": _API,
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": right.attributes()},
    }
    answer = client.create(_ACCESS, review)
    return bool((answer.get("status") or {}).get("allowed"))
