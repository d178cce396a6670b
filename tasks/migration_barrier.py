"""Before a release goes back: no request for its migration's Job that is still on its way may start one.

A request that was sent and never answered (its sender killed, stopped, or cut off) may reach the API server at any time after, and what does not exist yet carries
no number to refuse it by (core.fence). But its name is known: release and attempt. So the name is taken by a Job that never has a Pod, and the request meets 409.
"""

from __future__ import annotations

import itertools

from core.errors import NightshiftError, PermanentError, TemporaryError
from core.evidence import Finding
from core.fence import FencedError
from core.migration_attempts import first_attempt
from core.migration_job import barrier, job_name
from tasks.kubernetes_answers import ExistsError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.migration_before import read_before
from tasks.migration_job import look_at_job
from tasks.migration_stands import migration_stands
from tasks.migration_steps import migration_document, migration_settings
from tasks.object_store import ObjectMissingError
from tasks.recording import Notes
from tasks.release_run import Facts, ReleaseRun


class CameAboutError(PermanentError):
    """The migration's Job was made after it was decided to go back: it is never interrupted, and what it did is to be decided on anew."""


def bar_migration(run: ReleaseRun, notes: Notes) -> Facts:
    """Take the name of the attempt that may have been asked for and is not there. Raise CameAboutError when it came about meanwhile.

    That the name cannot be taken keeps no release from going back; it is told.
    """
    with run.client() as client:
        try:
            name = _take_name(client, run)
        except (FencedError, TemporaryError, CameAboutError):
            raise
        except NightshiftError as error:
            name = ""
            told = f"nothing keeps a request for the migration's Job that may be on its way from starting it: {error}"
            notes.findings.append(Finding(severity="warning", text=told))
        _require_not_applied(client, run)
    notes.add(facts={"barred": name})
    return {"barred": name}


def _take_name(client: KubernetesClient, run: ReleaseRun) -> str:
    plan, release_id = run.plan.migration, run.plan.release_id
    if plan is None:
        return ""
    settings, _database, namespace = migration_settings(run.environment)
    # Not by the settings: more attempts may have been made than the file allows by now.
    for attempt in itertools.count(1):
        look = look_at_job(client, namespace, release_id, attempt)
        if look.state == "running":
            raise _came_about(release_id, "its migration's Job runs")
        if look.state == "ended":
            continue
        try:
            read_before(run.environment, release_id, attempt)
        except ObjectMissingError:
            # It is kept before the Job is asked for: it was not.
            return ""
        if not look.barred:
            order = first_attempt(settings).model_copy(update={"attempt": attempt})
            document = migration_document(run.environment, release_id, order, plan.image, plan.command)
            run.still_ours()
            try:
                client.create(find_kind(client, "Job").path(namespace), barrier(document))
            except ExistsError as error:
                raise _came_about(release_id, "its migration's Job was made just now") from error
        break
    return job_name(release_id, attempt)


def _require_not_applied(client: KubernetesClient, run: ReleaseRun) -> None:
    """After a breaking migration there is no way back but by a person's word: it may have run since that was decided."""
    decided = next((one for one in reversed(run.journal.journal.entries) if one.event == "decided"), None)
    if run.plan.schema_compatibility != "breaking" or (decided and decided.facts.get("what") == "go back"):
        return
    runs, applied = migration_stands(client, run.environment, run.plan, run.journal.journal)
    if runs or applied not in {"", "no"}:
        raise _came_about(run.plan.release_id, "its breaking migration was run meanwhile")


def _came_about(release_id: str, found: str) -> CameAboutError:
    by = "by a request that was on its way when it was decided to go back"
    return CameAboutError("go back", release_id, f"{found}, {by}", "The next sweep of release-recovery decides anew")
