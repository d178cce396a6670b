"""The steps that change workloads in place: a Deployment's image, a CronJob's, and back. Each can be done again: it looks first."""

import functools
from typing import Any

from prefect import get_run_logger

from core.evidence import Finding
from core.fence import Document
from core.release_plan import Target, images_of
from core.rollout_change import ForeignChangeError, suspend_change, template_change
from tasks.colours import ensure_side
from tasks.config_copies import read_config_copies
from tasks.fenced import Change, fenced_change
from tasks.kept_size import require_size
from tasks.pod_health import check_pods
from tasks.recording import Notes
from tasks.release_gates import decided
from tasks.release_run import Action, Facts, ReleaseRun
from tasks.release_world import anchor_path, read_workload, workload_path
from tasks.rollout import wait_for_rollout
from tasks.rollout_stability import observe_stability


def roll(target: Target, *, forward: bool) -> Action:
    """Change a Deployment's Pod template to what the release wants, or back to what it found, and wait until it is rolled out.

    Raise RolloutFailedError with the cause, ForeignChangeError when somebody else changes it, FencedError when another took over.
    """

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        logger = get_run_logger()
        image = images_of(target.after if forward else target.before)[target.containers[0]]
        waiting: dict[str, Any] = {
            "container": target.containers[0],
            "image": image,
            "on_change": lambda text: logger.info("%s: %s", target.key, text),
            "still_ours": run.still_ours,
        }
        with run.client() as client:
            path = workload_path(client, run.release, target.kind, target.name)
            written = fenced_change(client, path, run.fence, _template(run, target, path, forward=forward))
            where = (client, run.release.namespace, target.name)
            end = wait_for_rollout(*where, written=written, seconds=run.release.rollout_minutes * 60.0, **waiting)
            if forward and run.release.settle_seconds:
                observe_stability(*where, written=written, seconds=run.release.settle_seconds, **waiting)
            replicas = end.replicas
            if forward:
                least = int(written["spec"].get("replicas", 1))
                replicas = require_size(client, run.release.namespace, client.get(path), least)
        facts: Facts = {"image": image, "replicas": replicas}
        notes.add(facts=facts)
        return facts

    return action


def ask_pods(target: Target) -> Action:
    """Ask every Pod of a Deployment that is rolled out for its health. Raise GateFailedError when one does not answer well."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        with run.client() as client:
            document = read_workload(client, run.release, target.kind, target.name)
            labels = document["spec"]["selector"].get("matchLabels") or {}
            selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
            look = functools.partial(
                check_pods, client, run.release.gates, namespace=run.release.namespace, selector=selector
            )
            # Beside a pass of the gates it would read as if they had judged the metrics, too.
            told = "metrics were not looked at: a rolling release has no old version beside the new one"
            notes.findings.append(Finding(severity="warning", text=told))
            return decided(run, notes, look)

    return action


def copy_configuration(run: ReleaseRun, notes: Notes) -> Facts:
    """Make the immutable copies of the ConfigMaps that the new Pods are to read. Raise ForeignChangeError when one changed since the plan was made."""
    with run.client() as client:
        names = run.plan.config_copies
        copies = read_config_copies(client, run.release.namespace, run.environment.name, names)
        for name, copy in copies.items():
            if copy["metadata"]["name"] != names[name]:
                raise ForeignChangeError(
                    "copy the configuration",
                    f"ConfigMap {name}",
                    "it was changed since the plan was made",
                    "Start the release again",
                )
        ensure_side(client, run.fence, copies.values(), anchor=anchor_path(client, run.release, run.plan))
    notes.add(facts={"copies": dict(names)})
    return {"copies": len(copies)}


def suspend(target: Target) -> Action:
    """Suspend a CronJob for the time of the release. One that was suspended already stays so."""

    def action(run: ReleaseRun, _notes: Notes) -> None:
        with run.client() as client:
            path = workload_path(client, run.release, target.kind, target.name)
            fenced_change(client, path, run.fence, lambda document: suspend_change(document, suspended=True))

    return action


def let_go_on(target: Target, *, forward: bool) -> Action:
    """Give a CronJob the image that the release wants, or that it had, and let it go on unless it was suspended before."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        with run.client() as client:
            path = workload_path(client, run.release, target.kind, target.name)
            fenced_change(client, path, run.fence, _template(run, target, path, forward=forward))
            fenced_change(
                client, path, run.fence, lambda document: suspend_change(document, suspended=target.suspended)
            )
        facts: Facts = {"image": images_of(target.after if forward else target.before)[target.containers[0]]}
        notes.add(facts=facts)
        return facts

    return action


def _template(run: ReleaseRun, target: Target, path: str, *, forward: bool) -> Change:
    def change(document: Document) -> Document | None:
        return template_change(document, target, forward=forward, commit=run.plan.commit, on=path)

    return change
