"""What GitHub is told of a run, as a deployment status ("Deployment statuses" in GitHub's REST manual: its states, 140 letters of description)."""

from dataclasses import dataclass
from typing import Literal

GitHubState = Literal["queued", "in_progress", "success", "failure", "error", "inactive"]
LONGEST_DESCRIPTION = 140


@dataclass(frozen=True)
class Told:
    """A state and a sentence. `final`: there is nothing more to tell of this run."""

    state: GitHubState
    description: str
    final: bool = False

    @property
    def kept(self) -> str:
        """As the inbox keeps it: what was told once is not told again."""
        return self.state if self.final else f"{self.state}: {self.description}"


def told_of(state_type: str, state_name: str, message: str, *, dry_run: bool = False, has_report: bool = True) -> Told:
    """Given a flow run's state (Prefect's type, name and message), and whether it shows its report, return what GitHub is told. Messages stay here: they name hosts
    and tables."""
    if state_type == "COMPLETED":
        return _completed(message if has_report else "", dry_run)
    if state_type == "FAILED":
        went_back = state_name == "RolledBack"
        return Told("failure", "the old version serves again" if went_back else "failed", final=True)
    return _OTHERS.get(state_type, Told("queued", "waits for a worker"))


def _completed(message: str, dry_run: bool) -> Told:
    if not message:
        # None of our flows that may be started completes without a word, or before its report is kept; a person may type one.
        return Told("error", "its state was set by hand: nobody knows what was done", final=True)
    return (
        Told("inactive", "dry run: nothing was changed", final=True) if dry_run else Told("success", "done", final=True)
    )


_OTHERS = {
    "CRASHED": Told("error", "its process ended in the middle; what it left is brought to its end", final=True),
    "CANCELLED": Told("failure", "cancelled", final=True),
    "PAUSED": Told("in_progress", "waits for a person"),
    "RUNNING": Told("in_progress", "running"),
    "CANCELLING": Told("in_progress", "running"),
}


def answer_of(state: str, reported: str, note: str) -> tuple[str, str]:
    """Given what the inbox keeps of a delivery, return the state and the sentence for the job that asks how it goes. It is never better than what GitHub is told."""
    if reported == "not told" or (state == "ended" and not reported):
        return "error", note or "how it ended is not known here: look at its run"
    if state == "started" and note and not reported:
        # Given up before a run was made, which GitHub is still to be told.
        return "error", note
    if not reported:
        return "queued", note or "waits to be started"
    name, _, words = reported.partition(": ")
    return name, note or words


NOT_STARTED = Told("error", "was not started", final=True)
SUPERSEDED = Told("inactive", "a later release took its place", final=True)
TAKEN_BACK = Told("inactive", "taken back", final=True)
GONE = Told("error", "its run was removed", final=True)
