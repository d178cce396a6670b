"""The mark of a backup that a drill or a restore found damaged: what it says, and what the backup is worth with it.

No clock decides whether it stands: the clocks of two machines may differ. Who restores the backup later and finds it whole writes so into the mark itself.
"""

from typing import Literal

from pydantic import AwareDatetime, Field

from core.catalogue import State
from core.manifest import Record, Sha256

MOST_TOLD = 500
Finder = Literal["dr-drill", "restore"]


class Damaged(Record):
    """The state object of a backup whose data was not what was recorded: what was found, when, by which flow and run.

    `whole_at`: when a later run found it whole again, which takes the mark away; None while it stands."""

    format: Literal["nightshift-damaged/1"] = "nightshift-damaged/1"
    backup_id: str
    manifest_sha256: Sha256
    found: str = Field(max_length=MOST_TOLD)
    found_at: AwareDatetime
    flow: Finder
    run_id: str
    whole_at: AwareDatetime | None = None
    whole_run_id: str = ""

    @property
    def stands(self) -> bool:
        """Whether nobody has found the backup whole since."""
        return self.whole_at is None


def worth_with_mark(worth: State, mark: Damaged | None, manifest_sha256: str) -> State:
    """Given what a backup is worth without its mark, the verified mark (None: none that can be trusted) and its manifest's SHA-256, return what it is worth.

    A mark that stands outdoes a proof, which was made before. One of another manifest says nothing of this backup; what is no backup stays none.
    """
    if mark is None or not mark.stands or mark.manifest_sha256 != manifest_sha256 or worth == "incomplete":
        return worth
    return "damaged"


def damage_sentence(mark: Damaged, environment: str, database: str) -> str:
    """Given a mark that stands, return the sentence that tells it, with what can be done."""
    who = "a drill" if mark.flow == "dr-drill" else "a restore"
    return (
        f"{mark.backup_id} is damaged: {who} found so on {mark.found_at:%Y-%m-%d %H:%M} UTC (run {mark.run_id}): {mark.found.rstrip('.')}. It does not count. "
        f"Put back what the bucket's versioning kept of it, if it does, and drill it: nightshift drill {environment} --database {database} --backup {mark.backup_id}"
    )
