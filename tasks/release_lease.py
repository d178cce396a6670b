"""Taking, renewing and giving back the lease of an environment (core.release_lease)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from core.environment_release import Release
from core.errors import NightshiftError, PermanentError
from core.fence import Document, Fence, FencedError
from core.release_lease import RENEW_SECONDS, Holder, holder_of, lease_name, micro_time, new_lease, next_number, taken
from tasks.contended_write import write_again
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.recording import Clock, utc_now

logger = logging.getLogger(__name__)


class HeldError(PermanentError):
    """Another release or recovery holds the lease. `holder`: who."""

    holder: Holder


class Lease:
    """The lease of one environment."""

    def __init__(self, client: KubernetesClient, release: Release, environment: str, clock: Clock = utc_now) -> None:
        self._client, self._environment, self._clock = client, environment, clock
        self._namespace = release.control_namespace
        kind = find_kind(client, "Lease")
        self._collection, self.path = kind.path(self._namespace), kind.path(self._namespace, lease_name(environment))

    def read(self) -> Document | None:
        """The lease as it is; None when there is none yet, or when somebody deleted it."""
        try:
            return self._client.get(self.path)
        except MissingError:
            return None

    def take(self, holder: str, run_id: str, managed: Sequence[Document], *, instead_of: Holder | None = None) -> Fence:
        """Take the lease under a number above all that the lease and the managed objects carry, and return the right to write.

        instead_of: the dead holder whom a recovery replaces, as it was seen: when it renewed since, it lives. Raise HeldError naming the holder.
        """

        def once() -> Fence:
            lease = self.read()
            found = holder_of(lease)
            # Ours already: the answer to our write was lost, or an earlier attempt of this run died. Both get a new number.
            ours = found is None or (found.name, found.run_id) == (holder, run_id)
            if found is not None and not ours and found != instead_of:
                raise self._held(holder, found)
            fence = Fence(self._environment, holder, next_number(lease, managed))
            if lease is None:
                self._client.create(self._collection, new_lease(fence, self._namespace, run_id, self._clock()))
            else:
                patch = taken(fence, run_id, self._clock())
                patch["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
                self._client.merge(self.path, patch)
            return fence

        return write_again(once, "write the lease", self.path)

    def renew(self, fence: Fence, run_id: str) -> None:
        """Say that the holder lives. A lease that somebody deleted is made again. Raise FencedError when another has it."""

        def once() -> None:
            lease = self.read()
            if lease is None:
                logger.warning("the lease %s was deleted by somebody; it is made again", self.path)
                self._client.create(self._collection, new_lease(fence, self._namespace, run_id, self._clock()))
                return
            self._require_ours(lease, fence)
            version = lease["metadata"]["resourceVersion"]
            self._client.merge(
                self.path, {"metadata": {"resourceVersion": version}, "spec": {"renewTime": micro_time(self._clock())}}
            )

        write_again(once, "write the lease", self.path)

    def give_back(self, fence: Fence) -> None:
        """Let others have it. Nothing is done when it is another's already or gone."""

        def once() -> None:
            lease = self.read()
            found = holder_of(lease)
            if lease is None or found is None or (found.name, found.number) != (fence.holder, fence.number):
                return
            version = lease["metadata"]["resourceVersion"]
            self._client.merge(self.path, {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}})

        write_again(once, "write the lease", self.path)

    def require_ours(self, fence: Fence) -> None:
        """Read it now. Raise FencedError when another has it: for a change of something that knows no numbers."""

        def once() -> None:
            # One that somebody deleted is made again by the renewal: nobody took over by that.
            if (lease := self.read()) is not None:
                self._require_ours(lease, fence)

        write_again(once, "write the lease", self.path)

    def _require_ours(self, lease: Document, fence: Fence) -> None:
        found = holder_of(lease)
        if found is None or (found.name, found.number) != (fence.holder, fence.number):
            by = f"{found.name} (number {found.number})" if found else "nobody"
            raise FencedError(
                f"hold the lease for {fence.holder}",
                self.path,
                f"it is held by {by}",
                "Another release or recovery took over: look at its run",
            )

    def _held(self, holder: str, found: Holder) -> HeldError:
        error = HeldError(
            f"take the lease for {holder}",
            self.path,
            f"{found.name} holds it (flow run {found.run_id or 'unknown'}, renewed {found.renewed or 'never'})",
            "Wait for its end; when its run is dead, release-recovery brings it to its end: nightshift release-recovery "
            + self._environment,
        )
        error.holder = found
        return error


class HeldLease:
    """A lease that is renewed by a thread. `still_ours` is asked before each change; the fence protects what happens in between."""

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self._lost: list[NightshiftError] = []

    def still_ours(self) -> None:
        """Raise FencedError when a renewal found that another has the lease."""
        if self._lost:
            raise self._lost[0]

    def lose(self, error: NightshiftError) -> None:
        """Note that another has it."""
        self._lost.append(error)


@contextmanager
def renewed(renew: Callable[[], None], fence: Fence, *, seconds: float = RENEW_SECONDS) -> Iterator[HeldLease]:
    """Renew a taken lease every few seconds while the block runs. It is not given back: who ends well does that, and what a crash leaves is for the recovery."""
    held, ended = HeldLease(fence), threading.Event()

    def keep() -> None:
        while not ended.wait(seconds):
            try:
                renew()
            except FencedError as error:
                held.lose(error)
                return
            except NightshiftError as error:
                logger.warning("the lease was not renewed: %s", error)

    thread = threading.Thread(target=keep, name="renew the lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        ended.set()
        thread.join(seconds)


def renewal(
    release: Release, environment: str, fence: Fence, run_id: str, clock: Clock = utc_now
) -> Callable[[], None]:
    """A function that renews the lease once, with a fresh client: tokens last minutes."""

    def renew() -> None:
        with KubernetesClient.open(release.context) as client:
            Lease(client, release, environment, clock).renew(fence, run_id)

    return renew


def seconds_since(renewed_at: str, now: datetime) -> float:
    """How long ago a holder renewed, by its clock and ours; infinite when it never did."""
    try:
        return (now - datetime.fromisoformat(renewed_at)).total_seconds()
    except ValueError:
        return float("inf")
