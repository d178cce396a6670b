"""What a drill found, told apart: damage, a blind drill, a rule that does not hold, something that could not be proven, another environment, an objective missed.

Only `proven` is good. What could not be proven fails the drill as damage does, in other words: a drill that looks green every night while it proves nothing would be
found out on the day of the disaster.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from core.checks import Check
from core.compared_tables import ComparedTables
from core.evidence import Finding
from core.manifest import Record
from core.restore_record import Control, Restored
from core.restored_comparison import Verification
from core.units import human_duration

# What must have been tried, or the drill says nothing.
EXPECTED_CONTROLS = frozenset(
    {"value changed", "values exchanged", "row duplicated", "stored byte flipped", "plain byte flipped"}
)
_SHOWN = 5


Outcome = Literal["proven", "not proven", "failed"]


class DrillVerdict(Record):
    """What the drill came to, and what was found. `failed`: damage was seen, or would not have been, or a rule does not hold. `not proven`: nothing was found wrong,
    and not everything could be looked at. The finding that decided is an error, and the first."""

    outcome: Outcome
    findings: tuple[Finding, ...]

    @property
    def proven(self) -> bool:
        """Whether the backup may be marked so."""
        return self.outcome == "proven"


def judge_drill(
    restored: Restored,
    verification: Verification,
    invariants: Sequence[Check],
    controls: Sequence[Control],
    *,
    restore_minutes: int,
    indicative: bool,
) -> DrillVerdict:
    """Given all that a drill saw and the recovery time objective (minutes; 0: none), return its verdict.

    Proven: everything was restored and looked at and matched, every invariant held, and every control was detected. What the scratch server does otherwise (a role's
    attributes, a collation's version) and a missed objective do not make the data wrong, and leave it proven, with a warning.
    """
    wrong = [
        *_mismatches(verification),
        *blind_spots(controls),
        *(_error(f"invariant {check.name}: {check.found}") for check in invariants if check.state != "passed"),
    ]
    unproven = list(_unproven(restored, verification, controls, found_wrong=bool(wrong)))
    findings = [
        *wrong,
        *unproven,
        *(
            Finding(severity="warning", text=f"environment: {one.text}")
            for one in verification.findings
            if one.severity == "environment" and one.kind != "not looked at"
        ),
        *objective_missed(restored, restore_minutes, indicative=indicative),
        *(Finding(severity="note", text=one.text) for one in verification.findings if one.severity == "note"),
        *(Finding(severity="note", text=text) for text in restored.notes),
    ]
    outcome: Outcome = "failed" if wrong else "not proven" if unproven else "proven"
    return DrillVerdict(outcome=outcome, findings=tuple(findings))


def _mismatches(verification: Verification) -> Iterator[Finding]:
    for one in verification.findings:
        if one.severity == "mismatch":
            yield _error(f"mismatch: {one.text}")
    for difference in verification.differences:
        yield _error(
            f"mismatch: {difference.name}: expected {difference.expected_rows} rows, digest {difference.expected_digest};"
            f" found {difference.found_rows}, {difference.found_digest}"
        )


def _unproven(
    restored: Restored, verification: Verification, controls: Iterable[Control], *, found_wrong: bool
) -> Iterator[Finding]:
    """Why nothing is proven though nothing was found wrong: one error with the reasons, then each thing that was not looked at as a warning."""
    unseen = verification.unseen
    # What an entry needs is told once; its hundred dependents are listed below.
    causes = [one.why for one in restored.skipped if one.entry.startswith("EXTENSION ")] or [
        f"{one.entry} was not restored: {one.why}" for one in restored.skipped
    ]
    untried = (f"negative controls were not tried: {one.how}" for one in controls if not one.tried)
    reasons = [*dict.fromkeys(causes), *unseen, *_nothing_compared(verification.compared), *dict.fromkeys(untried)]
    if restored.masked or restored.partial:
        reasons.append("the copy is not the whole backup")
    if not reasons:
        return
    shown = "; ".join(reasons[:_SHOWN]) + (f"; and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else "")
    besides = "" if found_wrong else "; nothing was found wrong"
    yield _error(f"not proven: {shown}{besides}")
    for entry in restored.skipped:
        yield Finding(severity="warning", text=f"not restored: {entry.entry}: {entry.why}")
    for text in unseen:
        yield Finding(severity="warning", text=f"not looked at: {text}")


def _nothing_compared(compared: ComparedTables) -> Iterator[str]:
    if compared.reserved and not compared.full:
        yield f"the content of none of its {compared.all} tables was compared: {compared.reservation}"


def blind_spots(controls: Iterable[Control]) -> Iterable[Finding]:
    """Given the negative controls, return an error for each damage that was not seen, and for each that is not among them.

    One for which nothing could be damaged says nothing of this drill's sight: it leaves the backup unproven.
    """
    controls = tuple(controls)
    for control in controls:
        if control.tried and not control.detected:
            yield _error(
                f"this drill cannot see damage: {control.name} on {control.on} was not detected ({control.how})"
            )
    for name in sorted(EXPECTED_CONTROLS - {control.name for control in controls}):
        yield _error(f"this drill cannot see damage: the control {name!r} was not tried")


def objective_missed(restored: Restored, restore_minutes: int, *, indicative: bool) -> Iterable[Finding]:
    """Given the restore and its objective in minutes (0: none), return a warning when it took longer."""
    if restore_minutes and restored.ms > restore_minutes * 60_000:
        how = " (indicative: the scratch server is tuned, a production server would be slower)" if indicative else ""
        text = f"over objective: the restore took {human_duration(restored.ms)}, the objective is {restore_minutes} min{how}"
        yield Finding(severity="warning", text=text)


def _error(text: str) -> Finding:
    return Finding(severity="error", text=text)
