"""What a run is called, from its parameters: what it does and where, so that a list of runs can be read.

Whoever makes a run gives it this name, and the run itself once it begins. Prefect calls the others, of schedules, automations and forms, by two random words until then.
"""

from collections.abc import Callable, Mapping
from typing import Any

from core.image_reference import shortened

Parameters = Mapping[str, Any]
_LONGEST = 150


def nightly_backup(given: Parameters) -> str:
    """`back up production`, or `back up production: shop` of one database alone."""
    return _named(f"back up {given['environment']}{_databases(given)}", given)


def app_state_backup(given: Parameters) -> str:
    """`back up the application state of production`, with its rehearsal where that was asked for."""
    rehearsal = " and rehearse its restore" if given.get("drill") else ""
    return _named(f"back up the application state of {given['environment']}{rehearsal}", given)


def dr_drill(given: Parameters) -> str:
    """`drill production`, or `drill production: shop from its copy`."""
    copy = " from its copy" if given.get("read_from_copy") else ""
    return _named(f"drill {given['environment']}{_databases(given)}{copy}", given)


def restore(given: Parameters) -> str:
    """`restore production/shop`; of one that is to replace the live database, `restore and swap production/shop`."""
    what = "restore and swap" if given.get("swap_live") else "restore"
    return _named(f"{what} {given['environment']}/{given['database']}", given)


def undo_swap(given: Parameters) -> str:
    """`undo swap 1f2e3d4c in production`."""
    return _named(f"undo swap {given['restore_id']} in {given['environment']}", given)


def release(given: Parameters) -> str:
    """`release production 3f2a91c → v1.4.0`; a digest is cut."""
    return _named(shortened(f"release {given['environment']} {given['commit'][:7]} → {given['image']}"), given)


def rollback(given: Parameters) -> str:
    """`roll production back`, with the release that was named."""
    of = f" from {given['release_id']}" if given.get("release_id") else ""
    return _named(f"roll {given['environment']} back{of}", given)


def release_recovery(given: Parameters) -> str:
    """`recover releases of production`, or what a person decided of one: `bring r-0123456789ab of production back`."""
    one, environment = given.get("release_id"), given["environment"]
    if not one:
        return _named(f"recover releases of {environment}", given)
    return _named(
        f"bring {one} of {environment} {given['decision']}"
        if given.get("decision")
        else f"recover {one} of {environment}",
        given,
    )


def post_deploy_watch(given: Parameters) -> str:
    """`watch r-0123456789ab in production`, or the sweep: `watch all releases of production`."""
    one, environment = given.get("release_id"), given["environment"]
    return _named(f"watch {one} in {environment}" if one else f"watch all releases of {environment}", given)


def watch_sign_off(given: Parameters) -> str:
    """`sign off r-0123456789ab in production`."""
    return _named(f"sign off {given['release_id']} in {given['environment']}", given)


_NAMES: Mapping[str, Callable[[Parameters], str]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        nightly_backup,
        app_state_backup,
        dr_drill,
        restore,
        undo_swap,
        release,
        rollback,
        release_recovery,
        post_deploy_watch,
        watch_sign_off,
    )
}


def name_before(flow: str, environment: str, given: Parameters) -> str | None:
    """Given a flow, and the parameters that a run of it is to be made with, return its name; None when the flow is none of ours, or they do not tell enough."""
    try:
        return _NAMES[flow]({"environment": environment, **given})
    except (KeyError, TypeError):
        # What is missing or odd the flow itself refuses, and says so.
        return None


def _databases(given: Parameters) -> str:
    return f": {', '.join(given['databases'])}" if given.get("databases") else ""


def _named(text: str, given: Parameters) -> str:
    flat = " ".join(text.split())
    cut = flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"
    # Whoever looks for what changed something need not open these.
    return f"{cut} (dry run)" if given.get("dry_run") else cut
