"""A deployment's run is of its own environment, whatever its parameters were changed to."""

from collections.abc import Iterator

import pytest
from prefect.client.orchestration import get_client

from core.errors import ConfigurationError
from flows.release import release
from tasks.report_steps import begin_run
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage

pytestmark = pytest.mark.xdist_group("other-environment")


@pytest.fixture
def deployed(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a run of release/production."""
    with get_client(sync_client=True) as prefect:
        made = prefect.create_deployment(
            prefect.create_flow(release), name="production", parameters={"environment": "production"}
        )
        monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", str(made))
        yield
        prefect.delete_deployment(made)


@pytest.mark.usefixtures("deployed")
def test_a_run_of_another_environments_deployment_is_refused_before_anything_is_touched(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    stage.write()
    begin = len(kubernetes.requests)
    with pytest.raises(ConfigurationError, match="is of environment production, and the run was given stage") as raised:
        begin_run("stage", flow="release", run_id="1", run_name="a run")
    assert "release/production" in str(raised.value)
    assert kubernetes.requests[begin:] == []


def test_a_run_without_a_deployment_names_any_environment(stage: Stage) -> None:
    stage.write()
    assert begin_run("stage", flow="release", run_id="1", run_name="a run").environment.name == "stage"
