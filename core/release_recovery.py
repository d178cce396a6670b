"""What is to be done with a release that was left open: a pure decision from its journal, its plan and what lives. Never from a missing entry alone."""

from dataclasses import dataclass
from typing import Literal

from core.release_journal import Journal
from core.release_plan import Compatibility

Liveness = Literal["living", "ended", "unknown"]
What = Literal["nothing", "wait", "finish", "go back", "hold"]
MIGRATE = "migrate the database"
BACK = " (back)"


@dataclass(frozen=True)
class Situation:
    """What recovery sees.

    holder: whether the run that holds the lease lives. job: whether a Job of the migration runs. applied: whether the database is migrated: "yes", "no", "partly",
    "unknown", or "" where the plan has no migration. all_new: whether each workload that takes traffic runs the new version, rolled out and verified.
    """

    holder: Liveness
    job: bool
    applied: Literal["", "yes", "no", "partly", "unknown"]
    all_new: bool


@dataclass(frozen=True)
class Decision:
    """What to do, and why, in a sentence."""

    what: What
    why: str


def decide(journal: Journal | None, compatibility: Compatibility, situation: Situation) -> Decision:
    """Given a release's journal (None: there is none, or somebody edited it), return what to do.

    Going back is the rule: the old version is known to be good. Forward only when the new one takes all of the traffic and all of its gates passed, or when there is
    no way back: the schema was changed so that the old version cannot work with it.
    """
    if journal is not None and not journal.is_open:
        return Decision("nothing", f"it ended already: {journal.outcome}")
    if situation.holder == "living":
        return Decision("nothing", "its run lives")
    if situation.job:
        return Decision("wait", "a Job of its migration runs; a migration is never interrupted")
    return _direction(journal, compatibility, situation)


def _direction(journal: Journal | None, compatibility: Compatibility, situation: Situation) -> Decision:
    if journal is not None and journal.goes_back:
        return Decision("go back", "it was going back already")
    if compatibility == "breaking" and situation.applied in {"yes", "partly", "unknown"}:
        if situation.applied == "yes":
            return Decision(
                "finish",
                "the schema was changed so that the old version cannot work with it; there is no way back by itself",
            )
        return Decision(
            "hold", f"a breaking migration is {_HELD[situation.applied]}: a person must decide; nothing more is changed"
        )
    if journal is not None and situation.all_new:
        return Decision("finish", "the new version takes all of the traffic, and its gates passed")
    return Decision("go back", "it did not come to its end")


def shift_step(share: int) -> str:
    """The name of the step that gives the following side a share of the traffic (percent)."""
    return f"shift {share} % of the traffic"


_HELD = {"partly": "applied in part", "unknown": "in an unknown state"}


def liveness(state_type: str | None, seconds_since_renewal: float, lease_seconds: float) -> Liveness:
    """Given the state of a holder's flow run as Prefect tells it (None: it has no such run) and the age of its last renewal, say whether it lives.

    A run that ended in any way is dead. One that is said to run though it does not renew (worker and process killed together) is unknown: it is observed.
    """
    if state_type in _ENDED:
        return "ended"
    return "living" if seconds_since_renewal <= lease_seconds else "unknown"


_ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
