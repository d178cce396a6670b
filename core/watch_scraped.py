"""How many of the new version's Pods Prometheus scrapes: requests of those that it does not are counted nowhere, and what nobody counted is never well.

Kubernetes tells how many are ready, Prometheus how many targets of them are up. Of a moment neither is evidence (a Pod that just came is not found yet), of a day the
share is: so much of the traffic went unseen, if each Pod has its part of it.
"""

from pydantic import Field

from core.environment_gates import Gates
from core.evidence import Finding
from core.gate_readings import filled
from core.manifest import Record
from core.watch_counts import BUCKETS
from core.watch_words import at_bucket, note, warning

# Under this name it is kept with a tick, beside the other sources.
SCRAPED = "scraped"
_LASTING = 2


class ScrapedSeen(Record):
    """Bucket by bucket, as (bucket, ready Pods, Pods that are scraped). `asked`: how often; `unanswered`: how often Prometheus had no such target."""

    looks: tuple[tuple[int, int, int], ...] = Field((), max_length=BUCKETS + 1)
    asked: int = 0
    unanswered: int = 0

    @property
    def seen_share(self) -> float:
        """Over all looks: the share of ready Pods that were scraped; 1 when nothing is known."""
        return _seen(self.looks)

    def unseen_since(self, closed: int, buckets: int, least: float) -> int | None:
        """Given how many buckets are over, return that since which less than a share of the Pods was scraped in each look, if it is so many buckets ago; else None."""
        since = None
        for one in reversed(self.looks):
            if _seen((one,)) >= least:
                break
            since = one[0]
        return since if since is not None and closed - since >= buckets else None


def scraped_query(gates: Gates, pods: str) -> str | None:
    """Given the table [release.gates] and a pattern of Pods, return a query for how many of them are scraped; None where nothing tells (targets is empty)."""
    if gates.targets is None:
        return None
    return f"count(count by ({gates.pod_label}) ({filled(gates.targets, pods)} == 1))"


def scraped_after(before: ScrapedSeen | None, *, bucket: int, ready: int, scraped: int | None) -> ScrapedSeen:
    """Given what was known, and of a look how many new Pods are ready and how many of them are scraped (None: Prometheus has no such target), return what is known now.

    Of several looks of a bucket the first counts.
    """
    known = before or ScrapedSeen()
    if ready <= 0 or bucket in {one[0] for one in known.looks}:
        return known
    if scraped is None:
        return known.model_copy(update={"asked": known.asked + 1, "unanswered": known.unanswered + 1})
    looks = sorted((*known.looks, (bucket, ready, max(0, min(scraped, ready)))))
    return ScrapedSeen(looks=tuple(looks[-BUCKETS:]), asked=known.asked + 1, unanswered=known.unanswered)


def scraped_findings(seen: ScrapedSeen) -> tuple[Finding, ...]:
    """Given what is known, return what is worth telling."""
    if seen.asked and not seen.looks:
        told = "whether Prometheus scrapes every Pod is not known: it has no target of the new Pods (release.gates.targets)"
        return (note(told),)
    lacking = [one for one in seen.looks if one[2] < one[1]]
    if not lacking:
        return ()
    _, ready, scraped = max(lacking, key=lambda one: one[1] - one[2])
    text = (
        f"{ready - scraped} of {ready} ready Pods of the new version were not scraped by Prometheus, in {len(lacking)} of {len(seen.looks)} looks since"
        f" {at_bucket(lacking[0][0])}: their requests are not counted ({share_unseen(seen)} of all looks together)"
    )
    return (warning(text) if len(lacking) >= _LASTING else note(text),)


def share_unseen(seen: ScrapedSeen) -> str:
    """The share as a person reads it."""
    return f"{1 - seen.seen_share:.0%}"


def _seen(looks: tuple[tuple[int, int, int], ...]) -> float:
    ready = sum(one[1] for one in looks)
    return sum(one[2] for one in looks) / ready if ready else 1.0
