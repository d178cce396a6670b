"""Whether a finished release may be taken back, and what can be offered where it may not."""

from collections.abc import Sequence

from core.errors import PermanentError
from core.release_journal import Journal
from core.release_plan import ReleasePlan, images_of
from core.release_recovery import MIGRATE


def newest_release(journals: Sequence[Journal], environment: str, release_id: str = "") -> Journal:
    """Given an environment's journals, oldest first, return that of the release that a rollback takes back: the newest that is live.

    What was rolled back, by itself or by a rollback, is passed over: nothing of it serves. Raise PermanentError when there is none, when it is another one than
    `release_id` asks for, and when the newest change was a rollback and nobody says by `release_id` that one more is to go: who asks twice means the same one.
    """
    live = live_releases(journals)
    last = next((one for one in reversed(journals) if _changed_what_serves(one)), None)
    if last is None or (not live and last.kind == "release"):
        raise PermanentError(
            "roll back",
            environment,
            "there is no release that could be taken back",
            "Start a release of the version that you want",
        )
    if last.kind == "rollback" and (not live or not release_id):
        back = f"{last.plan_id} was taken back already, by {last.release_id}"
        if not live:
            raise PermanentError(
                "roll back",
                environment,
                f"{back}, and no other one is live",
                "Start a release of the version that you want",
            )
        raise PermanentError(
            "roll back",
            environment,
            f"{back}; live is {live[-1].release_id}",
            f"To take that one back too, name it: --release {live[-1].release_id}",
        )
    newest = live[-1]
    if release_id not in {"", newest.release_id}:
        raise PermanentError(
            "roll back",
            environment,
            f"{release_id} is not the newest release that is live: {newest.release_id} is",
            "Take that one back first, or release the version that you want",
        )
    return newest


def live_releases(journals: Sequence[Journal]) -> list[Journal]:
    """Given journals, oldest first, return those of the releases that are live, one upon the other: each that came out and was not taken back since."""
    live: list[Journal] = []
    for one in journals:
        if one.kind == "release" and one.outcome == "released":
            live.append(one)
        elif one.kind == "rollback" and one.outcome == "rolled back":
            live = [other for other in live if other.release_id != one.plan_id]
    return live


def why_not_live(journals: Sequence[Journal], release_id: str) -> tuple[str, str] | None:
    """Given journals, oldest first, return why a release of theirs does not serve any more and by which release or rollback; None while it does, or nobody knows."""
    for one in journals:
        if one.kind == "rollback" and one.outcome == "rolled back" and one.plan_id == release_id:
            return f"taken back by {one.release_id}", one.release_id
    live = [one.release_id for one in live_releases(journals)]
    return (f"superseded by release {live[-1]}", live[-1]) if release_id in live[:-1] else None


def passed_over(journals: Sequence[Journal], chosen: Journal) -> list[Journal]:
    """The releases after the chosen one: all of them were rolled back."""
    place = [one.release_id for one in journals].index(chosen.release_id)
    return [
        one for one in journals[place + 1 :] if one.kind == "release" and one.outcome in {"released", "rolled back"}
    ]


def refuse_migrated(passed: Sequence[Journal], chosen: Journal, environment: str) -> None:
    """Raise PermanentError when one that is passed over migrated the database: whether the version before the chosen one works with that, nobody said."""
    for one in passed:
        if one.facts_of(MIGRATE).get("applied"):
            names = one.facts_of(MIGRATE).get("migrations") or "its migrations"
            raise PermanentError(
                "roll back",
                environment,
                f"{one.release_id}, newer than {chosen.release_id} and rolled back, left the schema with {names}: nobody said that an older version fits",
                "Start a release of the version that you want, once you know that it works with the schema",
            )


def version_before(plan: ReleasePlan) -> str:
    """The image that serves again once a release is taken back."""
    target = (plan.deployments("api") or plan.targets)[0]
    return images_of(target.before)[target.containers[0]]


def _changed_what_serves(journal: Journal) -> bool:
    return journal.outcome == "released" or (journal.kind == "rollback" and journal.outcome == "rolled back")


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
