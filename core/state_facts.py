"""What the report of an application-state backup holds: figures as tables, and findings."""

from collections.abc import Iterable
from typing import Any

from core.environment_restore import AppState
from core.errors import ConfigurationError
from core.evidence import Finding
from core.state_comparison import Inventory, KindComparison, LeftOut, comparison_findings
from core.velero import ttl_text

_NEVER_SCRATCH = frozenset({"default", "kube-system", "kube-public", "kube-node-lease"})


def order_facts(settings: AppState) -> dict[str, Any]:
    """What is asked of Velero."""
    return {
        "namespaces": list(settings.namespaces),
        "excluded_kinds": list(settings.excluded_kinds),
        "storage_location": settings.storage_location,
        "kept": ttl_text(settings.ttl_hours),
    }


def inventory_facts(inventories: Iterable[Inventory]) -> dict[str, Any]:
    """How many objects of each kind there are, a row a namespace and kind; kinds without any are left out."""
    rows = [
        {"namespace": inventory.namespace, "kind": listed.kind, "objects": len(listed.objects)}
        for inventory in inventories
        for listed in inventory.listed
        if listed.objects
    ]
    return {"objects": rows}


def unreadable_findings(unreadable: dict[str, str], namespace: str) -> tuple[Finding, ...]:
    """A warning for each kind that may not be listed: it is restored, and nobody compares it."""
    return tuple(
        Finding(
            severity="warning", text=f"{namespace}: {kind} were not compared: {why} → docs/app-state.md has the role"
        )
        for kind, why in unreadable.items()
    )


def rehearsal_facts(compared: Iterable[KindComparison], left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """The comparison, a row a kind, and what was left out with its reason."""
    return {
        "compared": [
            {"kind": one.kind, "before": one.before, "after": one.after, "restored": one.restored, "same": one.matches}
            for one in compared
            if one.before or one.after or one.restored
        ],
        "left_out": [{"kind": one.kind, "objects": one.objects, "why": one.why} for one in left_out],
    }


def rehearsal_findings(
    namespace: str, compared: Iterable[KindComparison], left_out: Iterable[LeftOut], unreadable: dict[str, str]
) -> tuple[Finding, ...]:
    """What an operator must know of a rehearsal. That kinds were left out is a note: it says what the rehearsal does not prove."""
    names = ", ".join(f"{one.kind} ({one.objects})" for one in left_out)
    notes = (Finding(severity="note", text=f"{namespace}: not rehearsed: {names}"),) if names else ()
    return (*comparison_findings(namespace, compared), *unreadable_findings(unreadable, namespace), *notes)


def app_state_of(environment_name: str, settings: AppState | None) -> AppState:
    """Given an environment's table [app_state], return it. Raise ConfigurationError when there is none, or when a rehearsal would touch what is in use."""
    on = f"environment {environment_name}"
    if settings is None:
        raise ConfigurationError(
            "back up application state",
            on,
            "its file has no table [app_state]",
            'Add one, at least: [app_state] namespaces = ["…"]; see docs/app-state.md',
        )
    taken = {*settings.namespaces, settings.velero_namespace, *_NEVER_SCRATCH}
    if settings.drill_namespace in taken:
        raise ConfigurationError(
            "back up application state",
            on,
            f"app_state.drill_namespace = {settings.drill_namespace!r} is a namespace in use, and a rehearsal removes it",
            "Name one that is for rehearsals only",
        )
    return settings
