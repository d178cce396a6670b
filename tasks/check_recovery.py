"""Items recovery-point and proof-age of the checklist: could one go back, if the database had to. As `nightshift check` looks at it: signatures and data, not names."""

from core.catalogue import Catalogue
from core.checks import Check
from core.objectives import check_objectives
from core.release_checks import ReleaseCheck, not_configured, verdict
from tasks.catalogue import read_catalogue
from tasks.object_store import ObjectStore
from tasks.preflight_item import Preflight, asked
from tasks.secrets import signing_keys
from tasks.trust import Examiner, gap_sentence


@asked("recovery-point")
def check_recovery_point(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the newest decoded backup of each database is young enough."""
    checks = [point for point, _ in _ages(preflight)]
    return _of("recovery-point", checks)


@asked("proof-age")
def check_proof_age(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether the newest backup of each database that a drill restored is young enough."""
    if not preflight.environment.objectives.proof_age_hours:
        return not_configured(
            "proof-age", "not asked for: objectives.proof_age_hours is 0", "Rehearse restores (dr-drill), and set it"
        )
    return _of("proof-age", [proof for _, proof in _ages(preflight)])


def _ages(preflight: Preflight) -> list[tuple[Check, Check]]:
    environment = preflight.environment
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    found = []
    for database in environment.databases:
        examiner = Examiner(store, environment, database, keys)
        verified: Catalogue = examiner.verified(read_catalogue(store, environment, database), without_gaps=True)
        point, proof = check_objectives(
            environment.name,
            database,
            verified,
            environment.objectives,
            preflight.clock(),
            reservations=examiner.reservations,
        )
        bad = [one.told for one in examiner.examined.values() if one.told]
        bad += [gap_sentence(backup_id, one.gaps) for backup_id, one in examiner.examined.items() if one.gaps]
        # What was passed over is told: a forged newest backup is found out here, too.
        told = f" (passed over: {'; '.join(bad[:3])})" if bad else ""
        found.append((point.model_copy(update={"found": point.found + told}), proof.model_copy(update={"found": proof.found + told})))  # fmt: skip
    return found


def _of(item: str, checks: list[Check]) -> ReleaseCheck:
    bad = [check for check in checks if check.state != "passed"]
    return verdict(
        item,
        [f"{check.name}: {check.found}" for check in bad],
        "; ".join(f"{check.name}: {check.found}" for check in checks),
        bad[0].next_step if bad else "",
        ages={check.name: check.found for check in checks},
    )
