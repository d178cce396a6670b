"""`nightshift releases ENV`: which releases there were, how they ended, what is open, and who holds the lease."""

from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.table import Table
from rich.text import Text

from core.redaction import redact
from core.release_journal import journal_name
from core.release_lease import lease_name
from deployments.command.terminal import EXIT_NOT_WELL, console, print_json
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.release_listing import ListedRelease, ReleaseList, list_releases
from tasks.release_run import release_of

_STYLES = {"released": "green", "rolled back": "yellow"}


def releases_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="So many of the newest. What is open is always among them.")
    ] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
) -> None:
    """List an environment's releases, from their journals in the cluster. Exit code 1 when one was left in the middle or a journal was edited.

    Needs the cluster (KUBECONFIG) and the bucket, as the worker does; no Prefect server.
    """
    loaded = load_environment(environment)
    with KubernetesClient.open(release_of(loaded).context) as client:
        found = list_releases(client, loaded, limit, datetime.now(UTC))
    if as_json:
        print_json(as_document(loaded.name, found))
    else:
        show(loaded.name, found, loaded.zone, control_namespace=release_of(loaded).control_namespace)
    raise typer.Exit(0 if found.well else EXIT_NOT_WELL)


def show(environment: str, found: ReleaseList, zone: ZoneInfo, *, control_namespace: str) -> None:
    """Print the releases as a table, and in sentences who holds the lease and what is to be done."""
    if not found.releases:
        console.print(f"{environment}: no release yet")
    else:
        table = Table("id", "when", "image", "commit", "by", "outcome")
        for one in found.releases:
            table.add_row(*_cells(one, found, zone))
        console.print(table)
    console.print(_holder_sentence(environment, found), soft_wrap=True)
    for one in found.releases:
        if one.problem:
            told = f"✘ {one.release_id}: {one.problem}. {next_step(environment, one, control_namespace)}"
            console.print(Text(redact(told), "red"), soft_wrap=True)
    if any(found.is_left(one) and not one.problem for one in found.releases):
        sentence = (
            f"✘ left in the middle; the sweep brings it to its end, or now: nightshift release-recovery {environment}"
        )
        console.print(Text(sentence, "red"), soft_wrap=True)


def next_step(environment: str, one: ListedRelease, control_namespace: str) -> str:
    """What a person does about a release whose journal was edited or whose plan cannot be read."""
    kubectl = f"kubectl -n {control_namespace}"
    delete = f"{kubectl} delete configmap {journal_name(one.release_id)}"
    if one.lacks_plan:
        free = f"""{kubectl} patch lease {lease_name(environment)} --type merge --patch '{{"spec":{{"holderIdentity":""}}}}'"""
        return f"Recovery touches nothing without it: bring the workloads to one version by hand, then: {delete} and: {free}"
    if one.journal is not None:
        return "Find out who deleted it; this release cannot be taken back any more"
    if one.closed:
        return f"Find out who did; its end is kept in the bucket. A rollback needs every journal whole: {delete}"
    goes_on = f"now: nightshift release-recovery {environment}"
    return f"Find out who did; the sweep goes by the signed plan in the bucket and by what it sees, or {goes_on}"


def _cells(one: ListedRelease, found: ReleaseList, zone: ZoneInfo) -> tuple[str | Text, ...]:
    plan = one.plan
    back = one.journal is not None and one.journal.kind == "rollback"
    return (
        one.release_id,
        one.created.astimezone(zone).strftime("%Y-%m-%d %H:%M"),
        ("back from " if back else "") + (_short(plan.image) if plan else "?"),
        plan.commit[:12] if plan else "?",
        redact(plan.requested_by) if plan else "?",
        Text(
            _how(one, found),
            "red" if found.is_left(one) else _STYLES.get(one.journal.outcome if one.journal else "", ""),
        ),
    )


def _short(image: str) -> str:
    """An image as a person tells it: without its registry's host and most of its digest."""
    name, _, digest = image.rpartition("/")[2].partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


def _how(one: ListedRelease, found: ReleaseList) -> str:
    """How it ended; of one that is open, where it stands."""
    if one.journal is None:
        return "ended, how is not known" if one.closed else "not known"
    if not one.is_open:
        return one.journal.outcome
    if one.journal.is_held:
        return "held: a person must decide"
    where = f"{one.last.event} {one.last.step}".rstrip() if one.last is not None else "nothing yet"
    return f"{'left' if found.is_left(one) else 'goes on'}: {where}"


def _holder_sentence(environment: str, found: ReleaseList) -> str:
    if found.holder is None:
        return f"{environment}: nobody holds the lease"
    lives = f"renewed {found.renewed_seconds:.0f} s ago" if found.renewed_seconds != float("inf") else "never renewed"
    dead = "" if found.holder_lives else ": its run seems dead"
    return f"{environment}: {found.holder.name} holds the lease (flow run {found.holder.run_id}, {lives}){dead}"


def as_document(environment: str, found: ReleaseList) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "environment": environment,
        "well": found.well,
        "holder": None
        if found.holder is None
        else {
            "release_id": found.holder.name,
            "flow_run_id": found.holder.run_id,
            "fence": found.holder.number,
            "renewed": found.holder.renewed,
            "lives": found.holder_lives,
        },
        "releases": [_entry(one, found) for one in found.releases],
    }


def _entry(one: ListedRelease, found: ReleaseList) -> dict[str, Any]:
    journal, plan, last = one.journal, one.plan, one.last
    return {
        "release_id": one.release_id,
        "kind": journal.kind if journal else None,
        "created": one.created,
        "image": plan.image if plan else None,
        "commit": plan.commit if plan else None,
        "requested_by": plan.requested_by if plan else None,
        "flow_run_id": journal.flow_run_id if journal else None,
        "outcome": journal.outcome if journal else None,
        "open": one.is_open,
        "held": journal.is_held if journal else False,
        "left_in_the_middle": found.is_left(one),
        "last_entry": None if last is None else {"at": last.at, "event": last.event, "step": last.step},
        "problem": one.problem,
    }
