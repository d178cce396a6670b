"""What a drill found, told apart: damage, a blind drill, an environment that lacks something, an objective missed. Only one of these outcomes proves a backup."""

from collections.abc import Iterable, Sequence

from core.checks import Check
from core.evidence import Finding
from core.manifest import Record
from core.restore_record import Control, Restored
from core.restored_comparison import Verification
from core.units import human_duration

# What must have been tried, or the drill says nothing.
EXPECTED_CONTROLS = frozenset(
    {"value changed", "values exchanged", "row duplicated", "stored byte flipped", "plain byte flipped"}
)


class DrillVerdict(Record):
    """Whether the backup is proven, whether the run failed, and what was found."""

    proven: bool
    failed: bool
    findings: tuple[Finding, ...]


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

    Proven: everything matched, nothing was skipped, every invariant held, and every control was detected. An environment's fault (a missing role or extension,
    explained) and a missed objective do not make the data wrong: the first leaves the backup unproven, the second does not.
    """
    damage = [
        *(_error(f"mismatch: {one.text}") for one in verification.findings if one.severity == "mismatch"),
        *(
            _error(
                f"mismatch: {one.name}: expected {one.expected_rows} rows, digest {one.expected_digest}; found {one.found_rows}, {one.found_digest}"
            )
            for one in verification.differences
        ),
    ]
    if not verification.matches and not damage:
        damage.append(_error("mismatch: the copy is not what was backed up"))
    blind = list(blind_spots(controls))
    environment = [
        *(
            Finding(severity="warning", text=f"environment: {one.text}")
            for one in verification.findings
            if one.severity == "environment"
        ),
        *(
            Finding(severity="warning", text=f"environment: not restored: {one.entry}: {one.why}")
            for one in restored.skipped
        ),
    ]
    rules = [
        _error(f"invariant {check.name}: {check.found}")
        if check.state == "failed"
        else Finding(severity="warning", text=f"invariant {check.name}: {check.found}")
        for check in invariants
        if check.state != "passed"
    ]
    late = list(objective_missed(restored, restore_minutes, indicative=indicative))
    notes = [Finding(severity="note", text=one.text) for one in verification.findings if one.severity == "note"]
    notes += [Finding(severity="note", text=text) for text in restored.notes]
    failed = bool(damage or blind or any(rule.severity == "error" for rule in rules))
    proven = not (failed or restored.skipped or restored.masked or restored.partial) and verification.matches
    return DrillVerdict(proven=proven, failed=failed, findings=(*damage, *blind, *rules, *environment, *late, *notes))


def blind_spots(controls: Iterable[Control]) -> Iterable[Finding]:
    """Given the negative controls, return an error for each damage that was not seen, or not even tried."""
    controls = tuple(controls)
    for control in controls:
        if not control.detected:
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
