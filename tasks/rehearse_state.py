"""The rehearsal of one namespace of a Velero Backup: restored into the scratch namespace, and what came back compared with what was backed up."""

from dataclasses import dataclass
from datetime import datetime

from core.environment_restore import AppState
from core.errors import PermanentError
from core.state_comparison import Inventory, KindComparison, LeftOut, compare_state
from core.velero import VeleroRun, read_run, restore_document
from tasks.drill_namespace import holds_copy, make_namespace
from tasks.kubernetes_client import KubernetesClient
from tasks.namespace_inventory import find_kinds, plan_rehearsal, take_inventory
from tasks.recording import Clock
from tasks.velero import create_once, find_own


@dataclass(frozen=True)
class Begun:
    """A Restore that was asked for: its Restore, the kinds that it restores, and the kinds of the namespace that it leaves out, with the reason."""

    restore: VeleroRun
    kinds: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True)
class Rehearsed:
    """What a rehearsal of a namespace found: the copy against the namespace, kind by kind, and what was left out and why."""

    compared: tuple[KindComparison, ...]
    left_out: tuple[LeftOut, ...]
    unreadable: dict[str, str]


def look_at(client: KubernetesClient, settings: AppState) -> tuple[Inventory, ...]:
    """List every namespace of the environment as a rehearsal will compare it."""
    kinds = find_kinds(client)
    plans = [(name, plan_rehearsal(client, name, kinds, settings.excluded_kinds)) for name in settings.namespaces]
    return tuple(take_inventory(client, name, plan.kinds) for name, plan in plans)


def begin_restore(
    client: KubernetesClient,
    settings: AppState,
    environment: str,
    *,
    backup: str,
    namespace: str,
    run_id: str,
    clock: Clock,
) -> Begun:
    """Make the scratch namespace and a Restore of a namespace into it; the one that this run began before it was killed goes on."""
    own = [
        restore
        for restore in find_own(client, settings, "restores", environment, run_id)
        if restore["spec"].get("includedNamespaces") == [namespace]
    ]
    plan = plan_rehearsal(client, namespace, find_kinds(client), settings.excluded_kinds)
    if own and holds_copy(client, settings, environment, run_id, namespace):
        return Begun(read_run(own[-1]), tuple(own[-1]["spec"].get("includedResources") or ()), plan.left_out)
    make_namespace(client, settings, environment, run_id, namespace=namespace, now=clock())
    kinds = tuple(kind.name for kind in plan.kinds)
    document = restore_document(
        environment,
        settings,
        backup=backup,
        namespace=namespace,
        kinds=kinds,
        run_id=run_id,
        attempt=len(own) + 1,
    )
    restore, _ = create_once(client, settings, "restores", document, environment)
    return Begun(restore, kinds, plan.left_out)


def compare_copy(
    client: KubernetesClient,
    settings: AppState,
    environment: str,
    *,
    begun: Begun,
    asked: datetime,
    before: Inventory | None,
    after: Inventory,
    run_id: str,
) -> Rehearsed:
    """Given a namespace before and after its Backup and when that was asked for, list its restored copy and compare the kinds that were restored.

    Raise PermanentError when the scratch namespace is not there any more.
    """
    if not holds_copy(client, settings, environment, run_id, after.namespace):
        raise PermanentError(
            "compare the restored copy",
            settings.drill_namespace,
            "the scratch namespace is not there any more",
            "Somebody removed it meanwhile; start the run again",
        )
    kinds = [kind for kind in find_kinds(client) if kind.name in begun.kinds]
    restored = take_inventory(client, settings.drill_namespace, kinds)
    unreadable = {**after.unreadable, **restored.unreadable}
    names = [kind.name for kind in kinds if kind.name not in unreadable]
    return Rehearsed(compare_state(before, after, restored, asked, names), begun.left_out, unreadable)
