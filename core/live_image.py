"""Which image a Deployment runs, by the digest under which a registry has it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import PermanentError
from core.image_reference import manifest_digest

Document = Mapping[str, Any]


@dataclass(frozen=True)
class LiveImage:
    """`images`: as repository@digest, of the ready Pods; `unknown`: how many ready Pods run one that no registry has; `template`: what new Pods get."""

    images: tuple[str, ...]
    unknown: int
    template: str

    @property
    def digests(self) -> frozenset[str]:
        """The digests of what runs."""
        return frozenset(manifest_digest(image) for image in self.images)


def container_name(pod_spec: Document, wanted: str | None, on: str) -> str:
    """Given a Pod's spec and the container's name in the environment's file (None: the only one), return it. Raise PermanentError when there is none such."""
    names = [str(one.get("name")) for one in pod_spec.get("containers") or ()]
    if wanted in names or (wanted is None and len(names) == 1):
        return wanted or names[0]
    found = f"it has {', '.join(names) or 'no container'}"
    raise PermanentError("find the container", on, found, "Name it by container in [[release.workloads]]")


def live_image(pod_spec: Document, pods: Iterable[Document], container: str) -> LiveImage:
    """Given a Deployment's template, its Pods and the container, return what runs: of ready Pods that are not being deleted.

    What a Pod's spec pins counts before its status: a node that has the same content under two names may tell the other one's digest.
    """
    found: set[str] = set()
    unknown = 0
    for pod in pods:
        if not _is_ready(pod):
            continue
        asked = _of(container, (pod.get("spec") or {}).get("containers"), "image")
        told = _of(container, (pod.get("status") or {}).get("containerStatuses"), "imageID").partition("://")
        image = next((one for one in (asked, told[2] or told[0]) if manifest_digest(one)), "")
        unknown += not image
        found |= {_without_tag(image)} if image else set()
    return LiveImage(tuple(sorted(found)), unknown, _of(container, pod_spec.get("containers"), "image"))


def rolled_out(deployment: Document) -> bool:
    """Given a Deployment, return whether its present template was once rolled out to the end: Progressing says NewReplicaSetAvailable of this generation."""
    status = deployment.get("status") or {}
    now = (deployment.get("metadata") or {}).get("generation")
    done = any(
        one.get("type") == "Progressing" and one.get("reason") == "NewReplicaSetAvailable"
        for one in status.get("conditions") or ()
    )
    return done and status.get("observedGeneration") == now


def label_selector(selector: Document) -> str:
    """Given a selector (LabelSelector), return it as the API's query says it. Raise ValueError for an empty one, which would select everything."""
    terms = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for one in selector.get("matchExpressions") or ():
        key, values = one.get("key"), ",".join(one.get("values") or ())
        words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": f"{key}", "DoesNotExist": f"!{key}"}  # fmt: skip
        terms.append(words[str(one.get("operator"))])
    if not terms:
        raise ValueError("the selector is empty")
    return ",".join(terms)


def _is_ready(pod: Document) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and not (pod.get("metadata") or {}).get("deletionTimestamp")


def _of(container: str, containers: Iterable[Document] | None, key: str) -> str:
    return next((str(one.get(key) or "") for one in containers or () if one.get("name") == container), "")


def _without_tag(image: str) -> str:
    """repository:tag@digest and repository@digest are the same image."""
    name, _, digest = image.rpartition("@")
    before, colon, last = name.rpartition(":")
    return f"{before if colon and '/' not in last else name}@{digest}"
