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


def require_compatible(plan: ReleasePlan, journal: Journal) -> None:
    """Raise PermanentError, naming the migrations, when the old version cannot work with the schema as it now is."""
    facts = journal.facts_of(MIGRATE)
    if plan.schema_compatibility == "backward" or not facts.get("applied"):
        return
    backup = next((journal.facts_of(f"back up {one}").get("backup") for one in plan.backup), None)
    restore = f"restore backup {backup or 'of before it'} (docs/restore.md; all that was written since is lost)"
    raise PermanentError(
        "roll back",
        plan.environment,
        f"the schema is not compatible with the version before: {facts.get('migrations') or 'its migrations'} were applied and the release was called breaking",
        f"Best is a fix forward: a release of a mended version. Else {restore}. A way down is offered only where it was rehearsed, and this one was not",
    )
