"""What a drill comes to: proven only when all was restored, looked at, equal, and damage would have been seen; and what could not be proven never looks well."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.checks import Check
from core.compared_tables import ComparedTables
from core.digest_comparison import Difference
from core.drill_verdict import EXPECTED_CONTROLS, DrillVerdict, judge_drill
from core.restore_record import Control, Phase, Restored, Skipped
from core.restored_comparison import ComparisonFinding, Verification

CITEXT = Skipped(entry="EXTENSION - citext", why="the server has no extension citext")
MAIL = Skipped(entry="TABLE DATA public mail owner", why="it needs the extension citext")
UNREAD = ComparisonFinding(kind="not looked at", severity="environment", text="public.secret could not be read")
OTHER_ROLE = ComparisonFinding(kind="roles", severity="environment", text="role app is NOLOGIN here")
DAMAGE = ComparisonFinding(kind="sequences", severity="mismatch", text="sequence public.s is behind")
KNOWN = ComparisonFinding(kind="schema", severity="note", text="definitions were not compared")
ALL_SEEN = tuple(Control(name=name, on="x", detected=True, how="") for name in sorted(EXPECTED_CONTROLS))  # type: ignore[arg-type]


def restored(**more: Any) -> Restored:
    facts: dict[str, Any] = {
        "backup_id": "b",
        "server": "scratch",
        "name": "nightshift_00000000",
        "oid": 1,
        "system_identifier": "7",
        "server_version": "16.4",
        "server_version_number": 160004,
        "pg_restore": "16.4",
        "phases": (Phase(name="restore", ms=90_000),),
    }
    return Restored(**(facts | more))


def verified(*findings: ComparisonFinding, differences: tuple[Difference, ...] = ()) -> Verification:
    return Verification(tables_compared=1, rows=5, differences=differences, findings=findings)


def judge(
    copy: Restored,
    verification: Verification,
    *,
    invariants: tuple[Check, ...] = (),
    controls: tuple[Control, ...] = ALL_SEEN,
    minutes: int = 0,
) -> DrillVerdict:
    return judge_drill(copy, verification, invariants, controls, restore_minutes=minutes, indicative=False)


def errors(verdict: DrillVerdict) -> list[str]:
    return [finding.text for finding in verdict.findings if finding.severity == "error"]


def test_what_was_restored_whole_and_matches_is_proven_and_other_attributes_are_a_warning() -> None:
    verdict = judge(restored(), verified(OTHER_ROLE, KNOWN), minutes=1)
    assert verdict.proven
    assert errors(verdict) == []
    assert {finding.text.partition(":")[0] for finding in verdict.findings if finding.severity == "warning"} == {
        "environment",
        "over objective",
    }


def test_a_missing_extension_leaves_it_unproven_and_is_told_as_that_and_not_as_damage() -> None:
    verdict = judge(restored(skipped=(CITEXT, MAIL)), verified())
    assert verdict.outcome == "not proven"
    assert errors(verdict) == ["not proven: the server has no extension citext; nothing was found wrong"]
    assert f"not restored: {MAIL.entry}: {MAIL.why}" in [finding.text for finding in verdict.findings]


def test_what_could_not_be_read_leaves_it_unproven_and_is_no_mismatch() -> None:
    verdict = judge(restored(), verified(UNREAD))
    assert verdict.outcome == "not proven"
    assert errors(verdict) == ["not proven: public.secret could not be read; nothing was found wrong"]


def test_controls_for_which_nothing_could_be_damaged_leave_it_unproven_and_are_told_once() -> None:
    untried = tuple(
        one.model_copy(
            update={
                "on": "no table",
                "detected": False,
                "tried": False,
                "how": "no table could be damaged: app is not a superuser",
            }
        )
        if "byte" not in one.name
        else one
        for one in ALL_SEEN
    )
    verdict = judge(restored(), verified(UNREAD), controls=untried)
    assert verdict.outcome == "not proven"
    assert errors(verdict) == [
        "not proven: public.secret could not be read; negative controls were not tried: no table could be damaged: app is not a superuser; nothing was found wrong"
    ]


def test_tables_that_are_not_compared_leave_it_proven_unless_all_are() -> None:
    some = verified().model_copy(update={"compared": ComparedTables(full=1, off=2, off_names=("a.b", "a.c"))})
    assert judge(restored(), some).proven
    for compared in (ComparedTables(off=1, off_names=("a.b",)), ComparedTables(counts=1, counts_names=("a.b",))):
        verdict = judge(restored(), verified().model_copy(update={"compared": compared}))
        assert verdict.outcome == "not proven"
        assert errors(verdict)[0].startswith("not proven: the content of none of its 1 tables was compared: ")


def test_damage_comes_first_and_nobody_says_then_that_nothing_was_found_wrong() -> None:
    verdict = judge(restored(skipped=(CITEXT,)), verified(DAMAGE, UNREAD))
    assert verdict.outcome == "failed"
    assert errors(verdict)[0] == "mismatch: sequence public.s is behind"
    assert not any("nothing was found wrong" in text for text in errors(verdict))


@pytest.mark.parametrize(
    "unseen", [ALL_SEEN[1:], (*ALL_SEEN[1:], ALL_SEEN[0].model_copy(update={"detected": False})), ()]
)
def test_a_control_that_was_not_seen_or_not_tried_fails_the_drill(unseen: tuple[Control, ...]) -> None:
    verdict = judge(restored(), verified(), controls=unseen)
    assert verdict.outcome == "failed"
    assert all(text.startswith("this drill cannot see damage") for text in errors(verdict))


def test_an_invariant_that_does_not_hold_fails_the_drill() -> None:
    broken = Check(name="debts", state="failed", found="'5', '7' was expected")
    verdict = judge(restored(), verified(), invariants=(broken,))
    assert (verdict.outcome, errors(verdict)) == ("failed", ["invariant debts: '5', '7' was expected"])


@given(
    st.lists(st.sampled_from([UNREAD, OTHER_ROLE, DAMAGE, KNOWN]), max_size=4),
    st.booleans(),
    st.lists(st.sampled_from([CITEXT, MAIL]), max_size=2),
    st.sets(st.sampled_from(ALL_SEEN)),
    st.sampled_from(["passed", "warning", "failed"]),
    st.sampled_from([{}, {"partial": True}, {"masked": True}]),
)
def test_proven_means_that_nothing_differs_is_missing_or_was_not_looked_at(  # noqa: PLR0917 - a space of six sides
    findings: list[ComparisonFinding],
    differs: bool,
    skipped: list[Skipped],
    controls: set[Control],
    invariant: str,
    less: dict[str, bool],
) -> None:
    difference = Difference(name="public.t", expected_rows=1, found_rows=2, expected_digest="1", found_digest="2")
    verification = verified(*findings, differences=(difference,) if differs else ())
    check = Check(name="c", state=invariant, found="x")  # type: ignore[arg-type]
    copy = restored(skipped=tuple(skipped), **less)
    verdict = judge(copy, verification, invariants=(check,), controls=tuple(controls))
    whole = verification.matches and not skipped and not less
    assert verdict.proven == (whole and len(controls) == 5 and invariant == "passed")
    # Whatever is not proven has an error, so the run is never green.
    assert bool(errors(verdict)) == (not verdict.proven)
