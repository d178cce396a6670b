"""A release whose journal is closed while the bucket does not answer: it has ended, and nothing that is left to write keeps others waiting or takes it back."""

import pytest

from core.errors import TemporaryError
from tasks.release_records import read_closed
from tests.fix_release import Stage

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-closing")]


def test_a_bucket_that_is_away_when_the_journal_is_closed_neither_keeps_the_lease_nor_takes_the_release_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[str] = []

    def away(*_arguments: object) -> None:
        holders.append(stage.lease_holder())
        raise TemporaryError("write", "s3://bucket", "no answer")

    with monkeypatch.context() as patched:
        patched.setattr("flows.release_runbook.keep_closed", away)
        state = stage.release("v2")
    assert state.is_completed(), state.message
    assert holders == [""]
    (journal,) = stage.journals()
    assert (journal.outcome, stage.image_of(), stage.lease_holder()) == ("released", stage.image("v2"), "")
    told = [one.text for step in stage.reports()[-1].steps for one in step.findings]
    assert any("its end could not be kept in the bucket" in one and "no answer" in one for one in told)
    # The next sweep keeps it.
    stage.recover()
    closed = read_closed(stage.environment, journal.release_id)
    assert closed is not None
    assert closed.outcome == "released"
