"""The journal of a release: what it was about to do and what came of it, written before and after each change, outside of Prefect.

Each entry carries a signature over itself and the one before, so that an edit is found. Entries can be cut off at the end without being noticed; so
recovery never concludes from a missing entry that something did not happen, but looks at the world (core.release_recovery).
"""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import AwareDatetime, Field

from core.errors import IntegrityError
from core.fence import RELEASE
from core.manifest import Record, Sha256
from core.signature import SigningKey

Event = Literal["opened", "intent", "done", "failed", "compensate", "held", "decided", "closed"]
Outcome = Literal["released", "rolled back", "unchanged", "held"]
JOURNAL_LABEL, RELEASE_LABEL = "nightshift.dev/journal", RELEASE
LARGEST_BYTES = 256 * 1024


class Entry(Record):
    """One line of the journal. `fence`: the number of the holder who wrote it."""

    number: int = Field(ge=1)
    at: AwareDatetime
    fence: int
    holder: str
    event: Event
    step: str = ""
    facts: dict[str, str | int] = Field(default_factory=dict)
    signature: str = ""


class Journal(Record):
    """A release's journal. `kind`: a rollback of a finished release only ever goes back."""

    format: Literal["nightshift-journal/1"] = "nightshift-journal/1"
    environment: str
    release_id: str
    kind: Literal["release", "rollback"] = "release"
    plan_id: str
    plan_sha256: Sha256
    flow_run_id: str
    entries: tuple[Entry, ...] = ()

    @property
    def outcome(self) -> str:
        """How it ended: an Outcome; "" while it is open."""
        last = self.entries[-1] if self.entries else None
        return str(last.facts.get("outcome", "")) if last is not None and last.event == "closed" else ""

    @property
    def is_open(self) -> bool:
        """Whether it did not come to its end."""
        return not self.outcome

    @property
    def goes_back(self) -> bool:
        """Whether it was decided to go back; then nobody goes forward any more."""
        return self.kind == "rollback" or any(one.event == "compensate" for one in self.entries)

    @property
    def is_held(self) -> bool:
        """Whether it waits for a person's decision: nobody goes forward or back by himself any more."""
        last = next((one for one in reversed(self.entries) if one.event in {"held", "decided"}), None)
        return last is not None and last.event == "held" and self.is_open and not self.goes_back

    def intents(self, step: str) -> int:
        """How often a step was about to be done."""
        return sum(one.step == step and one.event == "intent" for one in self.entries)

    def is_done(self, step: str) -> bool:
        """Whether the last that is known of a step is that it was done."""
        last = next((one for one in reversed(self.entries) if one.step == step), None)
        return last is not None and last.event == "done"

    def facts_of(self, step: str) -> dict[str, str | int]:
        """What was noted when a step was last done; empty when it was not."""
        return next((one.facts for one in reversed(self.entries) if one.step == step and one.event == "done"), {})

    @property
    def why(self) -> str:
        """Why it goes back, or is held: what was noted then."""
        back = next((one for one in self.entries if one.event == "compensate"), None)
        noted = back or next((one for one in reversed(self.entries) if one.event == "held"), None)
        return "" if noted is None else str(noted.facts.get("why", ""))


def with_entry(
    journal: Journal,
    key: SigningKey,
    *,
    at: datetime,
    fence: int,
    holder: str,
    event: Event,
    step: str = "",
    facts: dict[str, str | int] | None = None,
) -> Journal:
    """Given a journal, return it with one more signed entry."""
    before = journal.entries[-1].signature if journal.entries else ""
    entry = Entry(
        number=len(journal.entries) + 1, at=at, fence=fence, holder=holder, event=event, step=step, facts=facts or {}
    )
    signature = key.sign(_signed(journal, entry, before))["value"]
    return journal.model_copy(update={"entries": (*journal.entries, entry.model_copy(update={"signature": signature}))})


def without_repeats(journal: Journal) -> Journal:
    """Given a journal, return it without its last steps where they failed as the same steps before them did, word by word.

    Whatever keeps a release open, each sweep tries again: every two minutes two entries and more, and a ConfigMap would be full within hours. What is kept is
    that it was tried and failed before, and what is written next; so nothing that was ever seen is lost, but how often.
    """
    entries = journal.entries
    for length in range(2, len(entries) // 2 + 1):
        last, before = entries[-length:], entries[-2 * length : -length]
        if last[-1].event != "failed" or not {one.event for one in last} <= {"intent", "failed"}:
            return journal
        if [(one.event, one.step, one.facts) for one in last] == [(one.event, one.step, one.facts) for one in before]:
            return journal.model_copy(update={"entries": entries[:-length]})
    return journal


def check_signatures(journal: Journal, keys: Sequence[SigningKey], *, on: str) -> None:
    """Raise IntegrityError, naming the entry, when one was not written by a holder of a key, or was changed, moved or taken out in the middle."""
    before = ""
    for number, entry in enumerate(journal.entries, start=1):
        if entry.number != number or not _verifies(keys, _signed(journal, entry, before), entry.signature):
            raise IntegrityError(
                "verify the journal",
                on,
                f"entry {number} was not written so by nightshift: somebody edited it",
                "Find out who; recovery goes by the signed plan in S3 and by what it sees in the cluster",
            )
        before = entry.signature


def outcome_of(journal: Journal) -> Outcome:
    """The outcome of a closed journal. Raise ValueError when it is open, or closed with none that is known."""
    known: dict[str, Outcome] = {one: one for one in get_args(Outcome)}
    if journal.outcome not in known:
        raise ValueError(f"{journal.release_id} has no outcome: {journal.outcome!r}")
    return known[journal.outcome]


def journal_name(release_id: str) -> str:
    """The name of a journal's ConfigMap."""
    return f"nightshift-{release_id}"


def _signed(journal: Journal, entry: Entry, before: str) -> dict[str, Any]:
    head = journal.model_dump(mode="json", exclude={"entries"})
    return {"journal": head, "entry": entry.model_dump(mode="json", exclude={"signature"}), "before": before}


def _verifies(keys: Sequence[SigningKey], document: dict[str, Any], signature: str) -> bool:
    try:
        value = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    return any(key.verifies(document, value) for key in keys)
