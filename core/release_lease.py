"""The lease of an environment (coordination.k8s.io/v1): who may change it now, and under which number (core.fence)."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.fence import ENVIRONMENT, FENCE, Fence, fence_number

Document = dict[str, Any]

RUN = "nightshift.dev/run"
# A holder renews every third of it. After all of it without a renewal a recovery may take over: the fence keeps a sleeper from writing.
LEASE_SECONDS = 30
RENEW_SECONDS = 10


@dataclass(frozen=True)
class Holder:
    """Who holds a lease: a release's or recovery's id, its flow run, its number, and the renewal as the lease tells it."""

    name: str
    run_id: str
    number: int
    renewed: str


def lease_name(environment: str) -> str:
    """The name of an environment's lease."""
    return f"nightshift-{environment}"


def holder_of(lease: Document | None) -> Holder | None:
    """Given a lease as read, return its holder; None when it is free or there is none."""
    spec = (lease or {}).get("spec") or {}
    name = spec.get("holderIdentity") or ""
    if lease is None or not name:
        return None
    annotations = (lease.get("metadata") or {}).get("annotations") or {}
    return Holder(str(name), str(annotations.get(RUN, "")), fence_number(lease), str(spec.get("renewTime") or ""))


def next_number(lease: Document | None, stamped: Iterable[Document]) -> int:
    """Given the lease and the managed objects, return a number above every one that was ever given. A lease that somebody deleted does not begin anew at 1."""
    return 1 + max((fence_number(one) for one in (lease or {}, *stamped)), default=0)


def taken(fence: Fence, run_id: str, now: datetime) -> Document:
    """The merge patch by which a holder takes a lease."""
    return {
        "metadata": {"annotations": {FENCE: str(fence.number), RUN: run_id}},
        "spec": {
            "holderIdentity": fence.holder,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": micro_time(now),
            "renewTime": micro_time(now),
            "leaseTransitions": fence.number,
        },
    }


def new_lease(fence: Fence, namespace: str, run_id: str, now: datetime) -> Document:
    """A lease that is made already taken."""
    patch = taken(fence, run_id, now)
    metadata = {
        "name": lease_name(fence.environment),
        "namespace": namespace,
        "labels": {ENVIRONMENT: fence.environment},
    }
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {**metadata, **patch["metadata"]},
        "spec": patch["spec"],
    }


def micro_time(now: datetime) -> str:
    """A time as Kubernetes' MicroTime is written."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
