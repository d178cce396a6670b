"""Shifting traffic: what each way of doing it must be able to do, and what is the same for all of them.

A shift is written through tasks/fenced.py, then read back from the balancer itself until it does what was written: the object that says so proves nothing.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from core.errors import PermanentError, TemporaryError
from core.fence import Document, Fence
from core.traffic import Effective, Side, Split, must_write
from tasks.fenced import fenced_change
from tasks.kubernetes_client import KubernetesClient

# How long one look is good for when nothing tells of a change; and the least time between two, so that a burst of changes does not become a burst of requests.
# A refusal is looked at once more soon: one look may fall into a change that is half done.
LOOK_SECONDS, LEAST_SECONDS, AGAIN_SECONDS = 5.0, 0.8, 1.0

Sleep = Callable[[float], None]


class NotEffectiveError(PermanentError):
    """The balancer does not do what was written: in time, or at all. No further step; back to the side that served before."""


class Traffic(ABC):
    """The split of an environment's requests between two sides. Use it within one task, as the client that it holds."""

    def __init__(self, client: KubernetesClient, namespace: str, name: str, live: Side, following: Side) -> None:
        self._client, self._namespace, self._name = client, namespace, name
        self._live, self._following = live, following

    @property
    @abstractmethod
    def path(self) -> str:
        """The path of the one object that holds the split."""

    @abstractmethod
    def _split_of(self, document: Document) -> Split: ...

    @abstractmethod
    def _patch_of(self, document: Document, wanted: Split) -> Document: ...

    @abstractmethod
    def _judge(self, document: Document, wanted: Split) -> Effective:
        """Whether the balancer does what the object says; that it says what is wanted is known already."""

    @property
    def _on(self) -> str:
        namespace, plural, name = self.path.rpartition("/namespaces/")[2].split("/")
        kind = {"services": "Service", "httproutes": "HTTPRoute", "ingresses": "Ingress"}[plural]
        return f"{kind} {name} in namespace {namespace}"

    def managed_paths(self) -> tuple[str, ...]:
        """What a shift writes, and so what a new holder stamps first."""
        return (self.path,)

    def read(self) -> Split:
        """The split as it is written now. Raise PermanentError when it is none that this release may change, MissingError when there is no object."""
        return self._split_of(self._client.get(self.path))

    def planned(self, wanted: Split) -> tuple[Document, Document]:
        """The object that holds the split as it is, and the patch that would write another. Nothing is written."""
        document = self._client.get(self.path)
        return document, self._patch_of(document, wanted)

    def write(self, fence: Fence, expected: Split, wanted: Split) -> bool:
        """Change the split from what is expected to what is wanted; return whether it had to be written.

        Raise PermanentError, naming all three, when it is neither; FencedError when another holder took over.
        """
        written = False

        def change(document: Document) -> Document | None:
            nonlocal written
            if not must_write(self._split_of(document), expected, wanted, on=self._on):
                return None
            written = True
            return self._patch_of(document, wanted)

        after = self._split_of(fenced_change(self._client, self.path, fence, change))
        if after != wanted:
            found = f"it was taken, and is {after} all the same; wanted was {wanted}"
            raise PermanentError("shift traffic", self._on, found, "Look for an admission webhook that changes it")
        return written

    def effective(self, wanted: Split) -> Effective:
        """Whether the balancer splits as wanted, at this moment."""
        document = self._client.get(self.path)
        split = self._split_of(document)
        if split != wanted:
            return Effective(state="refused", found=f"somebody else moved it: it is {split}, written was {wanted}")
        return self._judge(document, wanted)

    def wait_effective(
        self,
        wanted: Split,
        seconds: float,
        still_ours: Callable[[], object],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> Effective:
        """Wait until the balancer splits as wanted, and return what was seen. `still_ours` is called before each look, and raises when this is no longer ours to do.

        Raise NotEffectiveError when it does not within so many seconds, or when it was refused in two looks in a row (one may fall into a change); raise
        TemporaryError when it could not be seen at the end.
        """
        deadline = clock() + seconds
        refused = False
        while True:
            still_ours()
            version = self._version()
            found = self._look(wanted)
            if isinstance(found, Effective) and found.state == "effective":
                return found
            late = clock() >= deadline
            if isinstance(found, TemporaryError):
                if late:
                    raise found
            elif late or (refused and found.state == "refused"):
                raise self._not_effective(wanted, found, seconds)
            refused = isinstance(found, Effective) and found.state == "refused"
            longest = AGAIN_SECONDS if refused else LOOK_SECONDS
            self._pause(version, max(LEAST_SECONDS, min(longest, deadline - clock())), sleep)

    def _look(self, wanted: Split) -> Effective | TemporaryError:
        try:
            return self.effective(wanted)
        except TemporaryError as error:
            return error

    def _not_effective(self, wanted: Split, found: Effective, seconds: float) -> NotEffectiveError:
        told = found.found if found.state == "refused" else f"not within {seconds:.0f} s: {found.found}"
        next_step = "No more traffic goes to the new side; look at the balancer's controller and at the Pods"
        return NotEffectiveError(f"see the balancer split {wanted}", self._on, told, next_step)

    def _watched(self) -> tuple[str, dict[str, str]] | None:
        """The collection whose changes are worth a new look, and which part of it; None: there is none, look again after a while."""
        return None

    def _version(self) -> str:
        """Where a watch begins that misses nothing of what happens from now on."""
        watched = self._watched()
        if watched is None:
            return ""
        try:
            listed = self._client.get(watched[0], limit="1", **watched[1])
        except TemporaryError:
            return ""
        return str((listed.get("metadata") or {}).get("resourceVersion") or "")

    def _pause(self, version: str, seconds: float, sleep: Sleep) -> None:
        """Wait for a change, at most so many seconds."""
        watched = self._watched()
        if watched is None or not version:
            sleep(seconds)
            return
        try:
            next(self._client.watch(watched[0], version, seconds=seconds, **watched[1]), None)
        except TemporaryError:
            sleep(seconds)
        else:
            sleep(LEAST_SECONDS)
