"""The checklist before a release: what stops, and what a person may waive."""

import pytest

from core.environment_checks import ReleaseChecks
from core.errors import ConfigurationError
from core.release_checks import check_skips, failed, not_configured, passed, stops, verdict, waive

CHECKS = (
    passed("ci", "6 checks passed"),
    failed("scan", "1 CRITICAL finding", "Mend it"),
    not_configured("staging", "no table"),
)


def test_a_waived_failure_does_not_stop_and_keeps_what_was_found_by_whom_and_why() -> None:
    waived = waive(CHECKS, {"scan": " no fix yet, see ticket 17 "}, " anna ")
    assert [check.item for check in stops(CHECKS)] == ["scan"]
    assert stops(waived) == ()
    assert (waived[1].state, waived[1].by, waived[1].why) == ("waived", "anna", "no fix yet, see ticket 17")
    assert waived[1].found == "1 CRITICAL finding"


def test_what_passed_and_what_nobody_looked_at_cannot_be_waived_into_something_else() -> None:
    waived = waive(CHECKS, {"ci": "in a hurry", "staging": "no staging"}, "anna")
    assert waived == CHECKS


def test_a_failure_that_nobody_asked_to_skip_stops() -> None:
    assert [check.item for check in stops(waive(CHECKS, {"ci": "in a hurry"}, "anna"))] == ["scan"]
    assert stops(()) == ()


@pytest.mark.parametrize(
    ("skips", "by", "found"),
    [
        ({"scann": "typing"}, "anna", "skip_checks: scann.*no such item.*ci, scan, staging"),
        ({"image": "x"}, "anna", "skip_checks: image.*cannot be waived"),
        ({"lease": "x", "rights": "y"}, "anna", "lease, rights.*cannot be waived"),
        ({"scan": "  "}, "anna", "skip_checks: scan.*no reason"),
        ({"scan": "reason"}, " ", "nobody is named"),
    ],
)
def test_a_skip_that_means_nothing_or_too_much_is_refused_by_name(skips: dict[str, str], by: str, found: str) -> None:
    with pytest.raises(ConfigurationError, match=found):
        waive(CHECKS, skips, by)
    with pytest.raises(ConfigurationError, match=found):
        check_skips(skips, ["ci", "scan", "staging"], by)


def test_problems_make_a_failed_item_of_all_of_them() -> None:
    assert verdict("ci", ["a failed", "b is missing"], "good", "Mend").found == "a failed; b is missing"
    assert verdict("ci", [], "good", "Mend", checks=3).evidence == {"checks": 3}


def test_tables_that_need_another_one_say_so() -> None:
    with pytest.raises(ValueError, match=r"needs \[release.checks.ci\]"):
        ReleaseChecks.model_validate({"scan": {"kind": "check-run", "name": "trivy"}})
    with pytest.raises(ValueError, match=r"needs \[release.checks.monitoring\]"):
        ReleaseChecks.model_validate({"baseline": {"queries": [{"name": "errors", "query": "up"}]}})
    with pytest.raises(ValueError, match="pattern"):
        ReleaseChecks.model_validate({"secrets": {"external": ["../configmaps/x"]}})
    with pytest.raises(ValueError, match="name goes with"):
        ReleaseChecks.model_validate({"scan": {"kind": "ecr", "name": "trivy"}})
