"""A dry run of a release: every object that it would make or change, as a difference, and not one of them is touched."""

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort

from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_shift import Route, add_autoscaler, blue_green

pytestmark = pytest.mark.services


def artifact(stage: Stage) -> str:
    """The plan that the newest run showed."""
    with get_client(sync_client=True) as prefect:
        # The server is every test's, and answers with two hundred at the most.
        newest = prefect.read_artifacts(sort=ArtifactSort.CREATED_DESC)
    return str(next(one.data for one in newest if str(one.key).startswith("release-plan-")))


def test_a_dry_run_shows_every_object_that_would_change_and_changes_none(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    before, begun = kubernetes.snapshot(), len(kubernetes.writes())
    state = stage.release("v2", adopt=True, dry_run=True)
    assert state.is_completed(), state.message
    assert kubernetes.writes()[begun:] == []
    assert kubernetes.snapshot() == before
    text = artifact(stage)
    for part in (
        f"+      - image: {stage.image('v2')}",
        "+++ deployments/hello-blue (after)",
        "+++ services/hello-blue (after)",
        "+++ httproutes/hello (after)",
        "+      name: hello-blue",
        "-      weight: 1",
        "+      weight: 0",
        "+      weight: 100",
        "+++ deployment/worker (after)",
        "+++ cronjob/nightly (after)",
        f"-  - image: {stage.image('v1')}",
    ):
        assert part in text, part


def test_a_dry_run_by_a_services_selector_shows_the_selectors_change_and_the_autoscalers(stage: Stage) -> None:

    blue_green(stage)
    add_autoscaler(stage, least=1, most=9)
    assert stage.release("v2", adopt=True, dry_run=True).is_completed()
    text = artifact(stage)
    service = text.partition("+++ services/hello (after)")[2].partition("```")[0]
    assert "+    nightshift.dev/colour: blue" in service
    scaler = text.partition("+++ horizontalpodautoscalers/hello (after)")[2].partition("```")[0]
    assert "+  minReplicas: 2" in scaler
    assert "+++ horizontalpodautoscalers/hello-blue (after)" in text
