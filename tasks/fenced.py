"""Writes to managed objects by the holder of the lease, and by nobody else (core.fence)."""

from collections.abc import Callable

from core.fence import Document, Fence, check_may_stamp, check_stamp
from tasks.contended_write import write_again
from tasks.kubernetes_client import KubernetesClient

# Given the object as it is, the patch that makes it as wanted; None: it is so already. It may raise: what was found is not what may be changed.
Change = Callable[[Document], Document | None]


def stamp(client: KubernetesClient, path: str, fence: Fence) -> Document:
    """Put this holder's number on an object, and return it as it then is. Raise FencedError when a later holder's is there, MissingError when there is no object."""

    def change(current: Document) -> Document | None:
        check_may_stamp(current, fence, on=path)
        annotations = (current.get("metadata") or {}).get("annotations") or {}
        wanted = fence.annotations()
        return None if wanted.items() <= annotations.items() else {"metadata": {"annotations": wanted}}

    return _write(client, path, change, strategic=False)


def fenced_change(
    client: KubernetesClient, path: str, fence: Fence, change: Change, *, strategic: bool = False
) -> Document:
    """Change an object that carries this holder's number, and return it as it then is.

    `change` sees each read anew, so after a write whose answer was lost it finds what it wrote and gives None. Raise FencedError when another holder's
    number is there, TemporaryError when the object never held still or the API server stays away.
    """

    def fenced(current: Document) -> Document | None:
        check_stamp(current, fence, on=path)
        return change(current)

    return _write(client, path, fenced, strategic=strategic)


def _write(client: KubernetesClient, path: str, change: Change, *, strategic: bool) -> Document:
    def once() -> Document:
        current = client.get(path)
        patch = change(current)
        if patch is None:
            return current
        version = current["metadata"]["resourceVersion"]
        body = {**patch, "metadata": {**patch.get("metadata", {}), "resourceVersion": version}}
        return client.merge(path, body, strategic=strategic)

    return write_again(once, "change", path)
