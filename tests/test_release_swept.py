"""A release that somebody else's change keeps open: every sweep tries again, and neither the evidence nor the journal fills up with one sentence."""

import pytest

from core.evidence import Finding, Report, Step, StepState
from core.told_before import is_about, tells_news
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.test_release_api_faults import HELLO
from tests.test_release_recovery import NOW
from tests.test_release_shift import set_image

pytestmark = pytest.mark.xdist_group("release-swept")


def step_of(text: str = "it runs v9", *, state: StepState = "failed", subject: str = "r-1", fence: int = 3) -> Step:
    findings = (Finding(severity="error", text=text),)
    facts = {"fence": fence}
    return Step(name="back", subject=subject, state=state, started=NOW, duration_ms=fence, findings=findings, facts=facts)  # fmt: skip


def report_of(*steps: Step, flow: str = "release-recovery") -> Report:
    given = {
        "sequence": 1,
        "previous_sha256": None,
        "environment": "stage",
        "run_id": "x",
        "run_name": "x",
        "inputs": {},
    }
    return Report.model_validate(
        {**given, "flow": flow, "tools": {}, "started": NOW, "finished": NOW, "steps": steps, "verdict": "failed"}
    )


def test_only_what_is_done_how_it_ends_and_what_is_found_is_news() -> None:
    last = report_of(step_of())
    assert not tells_news([step_of(fence=4)], last)
    for other in ([step_of("it runs v8")], [step_of(state="passed")], [step_of(subject="r-2")], [step_of()] * 2, []):
        assert tells_news(other, last)
    assert tells_news([step_of()], None)


def test_a_report_counts_only_when_it_is_of_the_same_flow_and_about_the_same() -> None:
    assert is_about(report_of(step_of()), "release-recovery", ["r-1"])
    assert not is_about(report_of(step_of(), flow="release"), "release-recovery", ["r-1"])
    assert not is_about(report_of(step_of(), step_of(subject="r-2")), "release-recovery", ["r-1"])


@pytest.fixture
def left_open(stage: Stage, kubernetes: KubernetesApi) -> Stage:
    """Left open: somebody set an image of his own while the new version was rolled out."""
    kubernetes.after("PATCH", f"{HELLO}?", lambda *_: set_image(kubernetes, stage, "hello", "v9"), skip=1)
    state = stage.release("v2")
    assert (state.is_failed(), [one.is_open for one in stage.journals()]) == (True, [True]), state.message
    return stage


@pytest.mark.services
def test_a_sweep_reports_again_only_when_it_finds_something_else(left_open: Stage, kubernetes: KubernetesApi) -> None:
    first = left_open.recover()
    assert first.is_failed(), first.message
    assert left_open.image("v9") in str(first.message)
    before = len(left_open.reports())
    for _ in range(2):
        again = left_open.recover()
        assert again.is_failed(), again.message
        assert left_open.image("v9") in str(again.message)
        assert f"as told in report {before}" in str(again.message)
    assert len(left_open.reports()) == before
    set_image(kubernetes, left_open, "hello", "v8")
    other = left_open.recover()
    assert left_open.image("v8") in str(other.message)
    assert len(left_open.reports()) == before + 1
    (journal,) = left_open.journals()
    # A form's fields are filled in one by one: a word that names no release, or no reason, counts for none.
    for half in ({"decision": "back"}, {"decision": "back", "release_id": journal.release_id, "reason": " "}):
        unheard = left_open.recover(**half)
        assert "needs release_id and reason" in str(unheard.message)
    assert len(left_open.reports()) == before + 1
    # A person's word is kept in any case.
    asked = left_open.recover(release_id=journal.release_id, decision="back", reason="incident 7")
    assert asked.is_failed(), asked.message
    assert len(left_open.reports()) == before + 2
    set_image(kubernetes, left_open, "hello", "v1")
    assert left_open.recover().is_completed()
    assert len(left_open.reports()) == before + 3
    assert left_open.journals()[-1].outcome == "rolled back"


@pytest.mark.services
def test_the_journal_of_a_release_that_is_swept_again_and_again_does_not_grow(left_open: Stage) -> None:
    for _ in range(2):
        left_open.recover()
    lengths = set[int]()
    for _ in range(3):
        left_open.recover()
        (journal,) = left_open.journals()
        lengths.add(len(journal.entries))
    assert len(lengths) == 1, lengths
