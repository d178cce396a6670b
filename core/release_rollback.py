"""Whether a finished release may be taken back, and what can be offered where it may not."""

from collections.abc import Sequence

from core.errors import PermanentError
from core.release_journal import Journal
from core.release_plan import ReleasePlan
from core.release_recovery import MIGRATE


def newest_release(journals: Sequence[Journal], environment: str, release_id: str = "") -> Journal:
    """Given an environment's journals, oldest first, return that of the release that a rollback takes back: the newest that changed anything.

    Raise PermanentError when there is none, when it is another one than `release_id` asks for, or when it was taken back already. An older one is never
    jumped to: between it and what runs now lie others.
    """
    changed = [one for one in journals if one.outcome in {"released", "rolled back"}]
    if not changed:
        raise PermanentError(
            "roll back",
            environment,
            "there is no release that could be taken back",
            "Start a release of the version that you want",
        )
    newest = changed[-1]
    if newest.kind == "rollback" or newest.outcome == "rolled back":
        raise PermanentError(
            "roll back",
            environment,
            f"the newest entry is {newest.release_id}, which was taken back already",
            "Start a release of the version that you want",
        )
    if release_id not in {"", newest.release_id}:
        raise PermanentError(
            "roll back",
            environment,
            f"{release_id} is not the newest release: {newest.release_id} is",
            "Take that one back first, or release the version that you want",
        )
    return newest


def is_compatible(plan: ReleasePlan, journal: Journal) -> bool:
    """Whether the old version can work with the schema as the release left it."""
    return plan.schema_compatibility == "backward" or not journal.facts_of(MIGRATE).get("applied")


def backup_of(plan: ReleasePlan, journal: Journal) -> tuple[str, str] | None:
    """The database that was migrated and the id of its backup of before; None where there was none."""
    found = ((name, str(journal.facts_of(f"back up {name}").get("backup", ""))) for name in plan.backup)
    return next(((name, backup_id) for name, backup_id in found if backup_id), None)


def refuse(plan: ReleasePlan, journal: Journal, lost: str) -> PermanentError:
    """The refusal of a way back that the schema does not allow: the migrations by name, and what there is instead. `lost`: what a restore of the backup would lose."""
    found = backup_of(plan, journal)
    names = journal.facts_of(MIGRATE).get("migrations") or "its migrations"
    if found is None:
        restore = "restore a backup of before it (docs/restore.md), which loses all that was written since"
    else:
        restore = (
            f"restore backup {found[1]} of {found[0]} (docs/restore.md), which loses what was written since: {lost}"
        )
    return PermanentError(
        "roll back",
        plan.environment,
        f"the schema is not compatible with the version before: {names} were applied and the release was called breaking",
        f"Best is a fix forward: a release of a mended version. Else {restore}. A way down is offered only where it was rehearsed, and this one was not",
    )
