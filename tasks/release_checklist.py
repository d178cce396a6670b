"""The checklist before a release, item by item: those of its surroundings (tasks.release_preflight), and those of the release itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from core.checks import Check
from core.colour_checks import side_checks, tracking_check
from core.colour_pair import pod_labels
from core.environment import Environment
from core.environment_release import Release
from core.errors import NightshiftError, PermanentError
from core.evidence import Finding
from core.migration_attempts import first_attempt
from core.migration_window import may_start
from core.redaction import redact
from core.release_checks import (
    MIGRATION_ITEM,
    SIDES_ITEM,
    STATE_NAMES,
    ReleaseCheck,
    check_skips,
    failed,
    not_configured,
    passed,
    stops,
    waive,
    worst_state,
)
from core.release_lease import holder_of
from core.release_plan import ReleasePlan, images_of
from core.rollout_status import standing_trouble
from tasks.colours import read_surroundings
from tasks.endpoints import endpoint_kind, ready_endpoints
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.migration_job import require_no_traffic
from tasks.migration_steps import migration_document, migration_settings
from tasks.preflight_item import Preflight
from tasks.recording import Notes, utc_now
from tasks.release_journal import Journals
from tasks.release_lease import Lease
from tasks.release_plans import Images, ReleaseRequest
from tasks.release_preflight import ITEMS, Item
from tasks.release_rights import check_rights_of_file
from tasks.release_run import release_of
from tasks.release_sides import live_side, planned_documents
from tasks.release_world import read_workload
from tasks.retrying import step
from tasks.secrets import signing_keys

T = TypeVar("T")
OWN_ITEMS = ("image", "rights", "lease", "workloads", SIDES_ITEM, "tracked", "window", MIGRATION_ITEM)
# Those that stop are all named by the error that is raised: it is what the run's message tells.
_SEVERITIES = {"waived": "warning", "not-configured": "note"}


class ChecklistError(PermanentError):
    """An item failed: nothing was changed."""


def check_all(request: ReleaseRequest, images: Images, plan: ReleasePlan, notes: Notes) -> tuple[ReleaseCheck, ...]:
    """Look at every item, each a task and a row of evidence, and return them, waived ones among them. Raise ChecklistError naming every item that stops.

    Raise ConfigurationError for skips of items that do not exist or cannot be waived, before anything is looked at.
    """
    check_skips(request.skip_checks, [*OWN_ITEMS, *(item.name for item in ITEMS)], request.requested_by)
    checks = [passed("image", plan.image), *own_items(request, plan)]
    checks += [look_at(request, images, plan, item) for item in ITEMS]
    found = waive(checks, request.skip_checks, request.requested_by)
    note_checks(notes, found)
    if stopping := stops(found):
        raise ChecklistError(
            "begin the release",
            request.environment,
            "; ".join(f"{one.item}: {one.found}" for one in stopping),
            "; ".join(f"{one.item}: {one.next_step}" for one in stopping if one.next_step) or "Nothing was changed",
        )
    return found


def look_at(request: ReleaseRequest, images: Images, plan: ReleasePlan, item: Item) -> ReleaseCheck:
    """One item of the surroundings."""
    return _look_at(request, images, plan, item).result()


@step("check {item.title}")
def _look_at(request: ReleaseRequest, images: Images, plan: ReleasePlan, item: Item) -> State[ReleaseCheck]:
    environment = load_environment(request.environment)
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        resolved = {one.key: images.of(release, one) for one in release.workloads}
        live = {one.key: images_of(one.before)[one.containers[0]] for one in plan.targets}
        preflight = Preflight(
            environment,
            release,
            client,
            release.namespace,
            request.commit,
            resolved,
            live,
            strategy=plan.strategy,
            frontend=plan.frontend,
        )
        found = item.look(preflight)
    get_run_logger().log(40 if found.state == "failed" else 20, "%s: %s: %s", item.name, found.state, found.found)
    return _shown(found, request, [found])


def own_items(request: ReleaseRequest, plan: ReleasePlan) -> list[ReleaseCheck]:
    """What the release itself needs, and what nobody but it looks at."""
    return _own_items(request, plan).result()


@step("look whether {request.environment} serves")
def require_serving(request: ReleaseRequest, plan: ReleasePlan) -> None:
    """Before it is said that a version is live already: raise ChecklistError when it is so by its templates, and not available, or its Service leads to nobody, or
    another release is at work on it, which may take it back."""
    environment = load_environment(request.environment)
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        lease = _lease(client, release, environment, request.release_id)
        if lease.state == "failed":
            found = (
                f"lease: this version is live by its template, but what becomes of it is not decided yet: {lease.found}"
            )
            raise ChecklistError("begin the release", request.environment, found, lease.next_step)
        problems = _standing_troubles(client, release, plan)
        if plan.sides is not None:
            traffic = release.traffic
            service = traffic.name if traffic.kind == "service" and traffic.name else plan.sides.live.service
            if not ready_endpoints(client, endpoint_kind(client), release.namespace, service):
                problems.append(f"Service {service} has no ready endpoint: no request is served")
    if problems:
        raise ChecklistError(
            "begin the release",
            request.environment,
            f"workloads: this version is live by its template, but not available: {'; '.join(problems)}",
            "Nothing was changed, and no release of the same version would change anything. Scale or mend it by hand, or take it back: "
            f"nightshift rollback {request.environment}",
        )


@step("check rights, lease, workloads and sides")
def _own_items(request: ReleaseRequest, plan: ReleasePlan) -> State[list[ReleaseCheck]]:
    environment = load_environment(request.environment)
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        found = [
            _asked("rights", lambda: _of_check("rights", _rights(client, release, plan))),
            _asked("lease", lambda: _lease(client, release, environment, request.release_id)),
            _asked("workloads", lambda: _workloads(client, release, plan)),
            _asked("sides", lambda: _sides(client, release, plan)),
            _asked("tracked", lambda: _tracked(client, release, plan)),
            _asked("window", lambda: _window(environment, plan)),
            _asked(MIGRATION_ITEM, lambda: _migration(client, environment, plan)),
        ]
    for one in found:
        get_run_logger().log(40 if one.state == "failed" else 20, "%s: %s: %s", one.item, one.state, one.found)
    return _shown(found, request, found)


def _shown(result: T, request: ReleaseRequest, checks: Sequence[ReleaseCheck]) -> State[T]:
    """A task's end that tells in its name how the items stand: whoever follows the run must not take a task that is done for an item that is well."""
    # A skip of another item is not looked at here.
    named = {one.item for one in checks}
    skips = {item: why for item, why in request.skip_checks.items() if item in named}
    state = worst_state(waive(checks, skips, request.requested_by))
    told = "; ".join(f"{one.item}: {one.state}: {one.found}" for one in checks if one.state != "passed")
    return Completed(data=result, name=STATE_NAMES[state], message=redact(told) or None)


def note_checks(notes: Notes, checks: tuple[ReleaseCheck, ...]) -> None:
    """Each item as a row of the report, and what was waived or not looked at as a finding."""
    notes.facts["checks"] = [
        {"check": one.item, "state": one.state, "found": one.found, "by": one.by, "why": one.why} for one in checks
    ]
    for one in checks:
        if severity := _SEVERITIES.get(one.state):
            waived = f" (waived by {one.by}: {one.why})" if one.state == "waived" else ""
            text = f"{one.item}: {one.found}{waived}"
            notes.findings.append(Finding.model_validate({"severity": severity, "text": text}))


def _asked(item: str, look: Callable[[], ReleaseCheck]) -> ReleaseCheck:
    try:
        return look()
    except NightshiftError as error:
        return failed(item, str(error).removesuffix(error.next_step).strip(), error.next_step)


def _of_check(item: str, *checks: Check) -> ReleaseCheck:
    """Several checks as one item: what is wrong, else what was seen."""
    bad = [one for one in checks if one.state == "failed"]
    told = "; ".join(one.found for one in (bad or checks))
    advice = [one for one in bad if one.next_step]
    # Each piece beside what it is about, unless there is one only.
    steps = "; ".join(f"{one.name}: {one.next_step}" if len(bad) > 1 else one.next_step for one in advice)
    return failed(item, told, steps) if bad else passed(item, told)


def _rights(client: KubernetesClient, release: Release, plan: ReleasePlan) -> Check:
    # The run's own strategy, which may be another one than the environment's.
    settings = release.model_copy(update={"strategy": plan.strategy})
    return check_rights_of_file(client, settings, secrets=plan.secrets)


def _lease(client: KubernetesClient, release: Release, environment: Environment, release_id: str) -> ReleaseCheck:
    holder = holder_of(Lease(client, release, environment.name).read())
    recovery = f"Wait for its end; when its run is dead: nightshift release-recovery {environment.name}"
    if holder is not None and holder.name != release_id:
        return failed(
            "lease",
            f"{holder.name} holds it (flow run {holder.run_id or 'unknown'}, renewed {holder.renewed})",
            recovery,
        )
    found = Journals(client, release, environment.name, signing_keys(environment)).open_documents()
    others = [one["metadata"]["name"] for one in found if not one["metadata"]["name"].endswith(release_id)]
    if others:
        return failed("lease", f"{', '.join(others)} was left open", recovery)
    return passed("lease", "free")


def _workloads(client: KubernetesClient, release: Release, plan: ReleasePlan) -> ReleaseCheck:
    """Each Deployment serves and is rolled out now: else nobody could tell what the release broke, and there is no way back to something good."""
    if problems := _standing_troubles(client, release, plan):
        return failed(
            "workloads",
            "; ".join(problems),
            "Mend it first: a release goes from something that is well, and back to it",
        )
    return passed("workloads", "each is rolled out and available")


def _standing_troubles(client: KubernetesClient, release: Release, plan: ReleasePlan) -> list[str]:
    problems = []
    for target in plan.targets:
        if target.kind != "Deployment":
            continue
        live = plan.sides.live_name if plan.sides is not None and target.role == "api" else target.name
        if trouble := standing_trouble(read_workload(client, release, "Deployment", live)):
            problems.append(f"deployment/{live}: {trouble}")
    return problems


def _sides(client: KubernetesClient, release: Release, plan: ReleasePlan) -> ReleaseCheck:
    if plan.sides is None:
        return not_configured("sides", "a rolling release has no sides")
    around = read_surroundings(client, release.namespace)
    if (serving := live_side(client, release, plan.sides.workload, around)) != plan.sides.live_name:
        return failed(
            "sides", f"{serving} serves, and the plan goes from {plan.sides.live_name}", "Start the release again"
        )
    sides, documents = planned_documents(client, release, plan, around)
    deployment = next(one for one in documents if one["kind"] == "Deployment")
    checks = side_checks(
        sides.pair,
        sides.live,
        pod_labels(deployment),
        services=around.services,
        budgets=around.budgets,
        policies=around.policies,
        deployments=around.deployments,
        autoscalers=around.autoscalers,
        shifted=[plan.sides.service, plan.sides.live.service],
        adopt=plan.sides.adopt,
    )
    return _of_check("sides", *checks)


def _tracked(client: KubernetesClient, release: Release, plan: ReleasePlan) -> ReleaseCheck:
    documents = []
    for target in plan.targets:
        name = (
            plan.sides.live_name
            if plan.sides is not None and target.role == "api" and target.kind == "Deployment"
            else target.name
        )
        documents.append((f"{target.kind.lower()}/{name}", read_workload(client, release, target.kind, name)))
    return _of_check("tracked", tracking_check(documents, release.tracked_by_allowed))


def _migration(client: KubernetesClient, environment: Environment, plan: ReleasePlan) -> ReleaseCheck:
    """The Job can be made of its template, and no Service takes its Pod for one of the application's."""
    if plan.migration is None:
        return not_configured(MIGRATION_ITEM, "nothing is migrated")
    settings, _database, namespace = migration_settings(environment)
    order = plan.migration
    document = migration_document(environment, plan.release_id, first_attempt(settings), order.image, order.command)
    require_no_traffic(client, namespace, document)
    return passed(MIGRATION_ITEM, "no Service would send requests to its Pod")


def _window(environment: Environment, plan: ReleasePlan) -> ReleaseCheck:
    settings = release_of(environment).migration
    if plan.migration is None or settings is None:
        return not_configured("window", "nothing is migrated")
    answer = may_start(settings, environment.zone, utc_now())
    return (
        passed("window", answer.sentence)
        if answer.may_start
        else failed("window", answer.sentence, "Release again when it is open")
    )
