"""What is to be done with a release that was left open, or that was stopped on its way forward: one pure decision from its journal, its plan and what lives.

Never from a missing entry alone.
"""

from dataclasses import dataclass
from typing import Literal

from core.errors import PermanentError
from core.release_journal import Journal
from core.release_plan import Compatibility

Liveness = Literal["living", "ended", "unknown"]
What = Literal["nothing", "wait", "finish", "go back", "hold"]
Applied = Literal["", "yes", "no", "partly", "unknown"]
MIGRATE = "migrate the database"
BACK = " (back)"
# On the way back: no Job of it that was asked for may come about any more.
BAR = "keep the migration from starting"


@dataclass(frozen=True)
class Situation:
    """What is seen by whoever decides.

    holder: whether another run that holds the lease lives. job: whether a Job of the migration runs, or a session of it. applied: whether the database is migrated:
    "yes", "no", "partly", "unknown", or "" where the plan has no migration. all_new: whether each workload that takes traffic runs the new version, rolled out and
    verified. failed: whether going forward was tried just now, and was stopped. theirs: why the traffic must not go back to what somebody else made of the side that
    served before (core.old_side); "" when it may. by: who lives and is at work on it, in a sentence.
    """

    holder: Liveness
    job: bool
    applied: Applied
    all_new: bool
    failed: bool = False
    theirs: str = ""
    by: str = ""


@dataclass(frozen=True)
class Decision:
    """What to do, and why, in a sentence."""

    what: What
    why: str


def decide(journal: Journal | None, compatibility: Compatibility, situation: Situation) -> Decision:
    """Given a release's journal (None: there is none, or somebody edited it), return what to do.

    Going back is the rule: the old version is known to be good. Forward only when the new one takes all of the traffic and all of its gates passed, or when there is
    no way back: the schema was changed so that the old version cannot work with it. Where forward failed then, too, a person decides, and nothing more is changed;
    so where somebody else changed the side that the traffic would go back to.
    """
    if journal is not None and not journal.is_open:
        return Decision("nothing", f"it ended already: {journal.outcome}")
    if situation.holder == "living":
        return Decision("nothing", situation.by or "its run lives")
    if situation.job:
        return Decision(
            "wait", "its migration still runs (a Job, or a session in the server), and is never interrupted"
        )
    return _direction(journal, compatibility, situation)


def _direction(journal: Journal | None, compatibility: Compatibility, situation: Situation) -> Decision:
    if journal is not None and journal.goes_back:
        return Decision("go back", "it was going back already")
    if journal is not None and journal.is_held and not situation.failed:
        return Decision("hold", journal.why)
    if compatibility == "breaking" and situation.applied in _CHANGED:
        if situation.applied == "yes" and not situation.failed:
            return Decision(
                "finish",
                "the schema was changed so that the old version cannot work with it; there is no way back by itself",
            )
        return Decision("hold", f"a breaking migration is {_CHANGED[situation.applied]}: a person must decide")
    if journal is not None and situation.all_new and not situation.failed:
        return Decision("finish", "the new version takes all of the traffic, and its gates passed")
    return Decision("hold", situation.theirs) if situation.theirs else Decision("go back", "it did not come to its end")


def instead_of(decided: Decision, chosen: Decision | None, journal: Journal | None, release_id: str) -> Decision:
    """Given our decision and a person's (None: nobody said anything), return the one that counts: the person's, where there is one to make.

    Raise PermanentError for forward where it goes back already: steps that the journal knows as done were undone since.
    """
    if chosen is None or decided.what in {"nothing", "wait"}:
        return decided
    if chosen.what == "finish" and journal is not None and journal.goes_back:
        raise PermanentError(
            "bring the release forward",
            release_id,
            f"it goes back already: {journal.why or 'it is a rollback'}",
            "Let it come to its end, then start a release of the version that you want",
        )
    return chosen


def ask_for_decision(environment: str, release_id: str) -> str:
    """The next step of a release that is held."""
    return f"Decide: nightshift release-recovery {environment} {release_id} --decision forward|back --reason …"


def made_step(attempt: int) -> str:
    """The name of the step after which an attempt's Job is known to have been made: it is never made again."""
    return f"start the migration, attempt {attempt}"


def judged_step(attempt: int) -> str:
    """The name of the step in which an attempt is waited for and judged."""
    return f"judge the migration, attempt {attempt}"


def shift_step(share: int) -> str:
    """The name of the step that gives the following side a share of the traffic (percent)."""
    return f"shift {share} % of the traffic"


_CHANGED = {
    "yes": "applied, so that the old version cannot work with the schema, and the new one could not be brought out",
    "partly": "applied in part",
    "unknown": "in an unknown state",
}


def liveness(state_type: str | None, seconds_since_renewal: float, lease_seconds: float) -> Liveness:
    """Given the state of a holder's flow run as Prefect tells it (None: it has no such run) and the age of its last renewal, say whether it lives.

    A run that ended in any way is dead. One that is said to run though it does not renew (worker and process killed together) is unknown: it is observed.
    """
    if state_type in _ENDED:
        return "ended"
    return "living" if seconds_since_renewal <= lease_seconds else "unknown"


_ENDED = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
