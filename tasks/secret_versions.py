"""Which Secrets changed since a release was planned, by their resourceVersion: never by their content."""

from __future__ import annotations

from collections.abc import Iterable

from core.evidence import Finding
from core.release_plan import ReleasePlan
from tasks.environments import load_environment
from tasks.kubernetes_answers import ForbiddenError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.release_run import release_of

MISSING, UNREADABLE = "missing", "not readable"


def read_secret_versions(client: KubernetesClient, namespace: str, names: Iterable[str]) -> dict[str, str]:
    """Secret → resourceVersion, or that there is none, or that we may not read it."""
    kind, found = find_kind(client, "Secret"), {}
    for name in names:
        try:
            found[name] = str(client.get(kind.path(namespace, name))["metadata"]["resourceVersion"])
        except MissingError:
            found[name] = MISSING
        except ForbiddenError:
            found[name] = UNREADABLE
    return found


def tell_changed_secrets(environment_name: str, plan: ReleasePlan) -> tuple[Finding, ...]:
    """A warning for each Secret that is not as it was when the release was planned: the old version's Pods, once they begin anew, read the new one."""
    if not plan.secrets:
        return ()
    release = release_of(load_environment(environment_name))
    with KubernetesClient.open(release.context) as client:
        now = read_secret_versions(client, plan.namespace, sorted(plan.secrets))
    return tuple(
        Finding(
            severity="warning", text=f"Secret {name} {_what(before, now[name])} since {plan.release_id} was planned"
        )
        for name, before in sorted(plan.secrets.items())
        if UNREADABLE in {before, now[name]} or before != now[name]
    )


def _what(before: str, now: str) -> str:
    if UNREADABLE in {before, now}:
        return "could not be read: nobody knows whether it changed"
    if now == MISSING:
        return "was deleted"
    return "was made" if before == MISSING else "was changed"
