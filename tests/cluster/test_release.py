"""Releases on the real node: out, back, and brought to their end."""

from typing import Any

import pytest

from flows.release import release
from tests.fix_fault_proxy import FaultProxy
from tests.fix_lab_stage import manifest_of
from tests.fix_registry import ImageRegistry
from tests.fix_release import COMMIT, NEXT_COMMIT, SKIPPED, Stage, serving

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_good_release_is_rolled_out_and_leaves_a_closed_journal_a_free_lease_and_a_report(lab_stage: Stage) -> None:
    state = lab_stage.release("v2")
    assert state.is_completed(), state.message
    assert lab_stage.image_of() == lab_stage.image("v2")
    assert lab_stage.lease_holder() == ""
    (journal,) = lab_stage.journals()
    assert journal.outcome == "released"
    done = [one.step for one in journal.entries if one.event == "done"]
    assert [one.event for one in journal.entries] == ["opened", *["intent", "done"] * len(done), "closed"]
    # Rolled out, its Pods asked, and its size looked at once more.
    assert len(done) == 3
    (report,) = lab_stage.reports()
    # The waived recovery point is a warning.
    assert report.verdict == "passed with warnings"
    assert NEXT_COMMIT[:12] in str(state.message)


def test_the_same_release_again_changes_nothing_and_says_so(lab_stage: Stage) -> None:
    lab_stage.release("v2")
    before = written_in(lab_stage)
    state = lab_stage.release("v2")
    assert state.is_completed()
    assert "is live already" in str(state.message)
    assert written_in(lab_stage) == before


def written_in(stage: Stage) -> tuple[Any, ...]:
    """All of the Deployment but what its controller tells of it, at whatever time."""
    found = stage.deployment()
    named = ("uid", "generation", "labels", "annotations")
    return found["spec"], *(found["metadata"].get(name) for name in named)


def test_a_tag_that_moves_after_the_checks_changes_nothing_and_the_digest_of_then_is_rolled_out(
    lab_stage: Stage, image_registry: ImageRegistry, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = {name: lab_stage.digest(name) for name in ("v1", "v2", "crashing")}
    for name, digest in digests.items():
        image_registry.manifests["hello", digest] = manifest_of(lab_stage.image(name))
    image_registry.tags["hello", "new"] = digests["v2"]
    lab_stage.settings["release"]["registry"] = {"kind": "registry", "address": image_registry.address}
    lab_stage.write()
    # The first write of a release: planned and checked, and looked at once more under the lease that it makes.
    fault_proxy.after(
        lambda method, path: method == "POST" and "/leases" in path,
        lambda: image_registry.move_tag("hello", "new", digests["crashing"]),
    )
    monkeypatch.setenv("KUBECONFIG", str(fault_proxy.kubeconfig))
    given: dict[str, Any] = {"migrate": False, "skip_checks": SKIPPED, "requested_by": "the test", "return_state": True}
    state = release("stage", "new", NEXT_COMMIT, **given)
    assert state.is_completed(), state.message
    assert image_registry.tags["hello", "new"] == digests["crashing"]
    assert serving(lab_stage) == lab_stage.image_of() == lab_stage.image("v2")
    (journal,) = lab_stage.journals()
    assert (journal.outcome, lab_stage.lease_holder()) == ("released", "")


@pytest.mark.parametrize(("bad", "cause"), [("crashing", "crash"), ("gone", "pull"), ("unready", "ready")])
def test_a_bad_image_is_rolled_back_with_its_cause_in_one_sentence(lab_stage: Stage, bad: str, cause: str) -> None:
    state = lab_stage.release(bad)
    assert state.name == "RolledBack"
    assert cause in str(state.message).lower(), state.message
    assert lab_stage.image_of() == lab_stage.image("v1")
    assert lab_stage.lease_holder() == ""
    assert lab_stage.journals()[-1].outcome == "rolled back"


def test_blue_green_adopts_a_plain_deployment_and_alternates_from_then_on(lab_stage: Stage) -> None:
    lab_stage.settings["release"] |= {
        "strategy": "blue-green",
        "drain_seconds": 1,
        "traffic": {"kind": "service", "name": "hello", "soak_seconds": 1},
    }
    refused = lab_stage.release("v2")
    assert refused.is_failed()
    assert "adopt = true" in str(refused.message)
    adopted = lab_stage.release("v2", adopt=True)
    assert adopted.is_completed(), adopted.message
    assert lab_stage.image_of("hello-blue") == lab_stage.image("v2")
    assert lab_stage.selector()["nightshift.dev/colour"] == "blue"
    back = lab_stage.run_rollback("the other way")
    assert back.is_completed(), back.message
    assert "nightshift.dev/colour" not in lab_stage.selector()
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0
    assert lab_stage.release("v2").is_failed()
    again = lab_stage.release("v2", adopt=True)
    assert again.is_completed(), again.message
    green = lab_stage.release("v1", COMMIT)
    assert green.is_completed(), green.message
    assert lab_stage.selector()["nightshift.dev/colour"] == "green"
    assert lab_stage.lease_holder() == ""


def test_a_bad_version_never_gets_traffic_in_blue_green(lab_stage: Stage) -> None:
    lab_stage.settings["release"] |= {
        "strategy": "blue-green",
        "drain_seconds": 1,
        "traffic": {"kind": "service", "name": "hello", "soak_seconds": 1},
    }
    state = lab_stage.release("unready", adopt=True)
    assert state.name == "RolledBack", state.message
    assert lab_stage.selector() == {"app": "hello"}
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0
