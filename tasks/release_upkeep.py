"""What is left to do after a release: the old side need not be kept full for ever, and journals not either."""

from __future__ import annotations

from datetime import timedelta

from prefect import get_run_logger

from core.environment import Environment
from core.fence import Document, fence_holder
from core.release_journal import Journal
from core.release_plan import ReleasePlan
from core.replica_sizes import PINNED
from tasks.colour_sizes import release_sizes
from tasks.environments import load_environment
from tasks.fenced import stamp
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.recording import utc_now
from tasks.release_journal import Journals
from tasks.release_lease import Lease
from tasks.release_records import read_plan
from tasks.release_run import release_of
from tasks.retrying import step
from tasks.secrets import signing_keys

# In the bucket each stays for good (closed.json).
KEPT_JOURNALS = 40


@step("let the old side of {environment_name} go")
def let_go(environment_name: str, run_id: str) -> str:
    """Restore both autoscalers' minReplicas once the old side was kept full for as long as the environment says; return what was done, "" for nothing.

    Raise HeldError when a release goes on: that one sees to its sides itself.
    """
    environment = load_environment(environment_name)
    release = release_of(environment)
    # Not by its strategy: a release may have been made by another one.
    if release.traffic.kind == "none":
        return ""
    with KubernetesClient.open(release.context) as client:
        newest = _newest(client, environment)
        if newest is None or newest.kind != "release" or newest.outcome != "released":
            return ""
        if utc_now() < newest.entries[-1].at + timedelta(minutes=release.keep_full_minutes):
            return ""
        plan = read_plan(environment, newest.plan_id, newest.plan_sha256)
        pinned = _pinned(client, environment, plan)
        if not pinned or plan.sides is None:
            return ""
        lease = Lease(client, release, environment.name)
        fence = lease.take(newest.release_id, run_id, tuple(pinned.values()))
        for path in pinned:
            stamp(client, path, fence)
        release_sizes(client, fence, release.namespace, (plan.sides.live_name, plan.sides.following_name))
        lease.give_back(fence)
    told = (
        f"{newest.release_id} is {release.keep_full_minutes} min old: its autoscalers have their own minReplicas again"
    )
    get_run_logger().info("%s", told)
    return told


def forget_old_journals(client: KubernetesClient, environment: Environment) -> int:
    """Delete all but the newest closed journals; they are in the bucket. Return how many."""
    release = release_of(environment)
    journals = Journals(client, release, environment.name, signing_keys(environment))
    old = journals.closed_documents()[:-KEPT_JOURNALS]
    path = find_kind(client, "ConfigMap").path(release.control_namespace)
    for one in old:
        try:
            client.delete(f"{path}/{one['metadata']['name']}", uid=one["metadata"]["uid"])
        except MissingError:
            continue
    return len(old)


def _newest(client: KubernetesClient, environment: Environment) -> Journal | None:
    journals = Journals(client, release_of(environment), environment.name, signing_keys(environment))
    documents = journals.closed_documents()
    return journals.parse(documents[-1]) if documents else None


def _pinned(client: KubernetesClient, environment: Environment, plan: ReleasePlan) -> dict[str, Document]:
    """Path → autoscaler, of this release's that are still kept from shrinking."""
    kind = find_kind(client, "HorizontalPodAutoscaler")
    namespace = release_of(environment).namespace
    return {
        kind.path(namespace, one["metadata"]["name"]): one
        for one in client.list(kind.path(namespace))
        if PINNED in (one["metadata"].get("annotations") or {}) and fence_holder(one) == plan.release_id
    }
