"""The small Kubernetes API of the tests does what a real one does: the same checks run on both (cluster/test_conformance)."""

from collections.abc import Callable, Iterator

import pytest

from tasks.kubernetes_client import KubernetesClient
from tests import conformance_controllers, conformance_objects
from tests.fix_kubernetes import KubernetesApi
from tests.kubernetes_conformance import Document, World

CHECKS = (*conformance_objects.CHECKS, *conformance_controllers.CHECKS)


def _fail(_job: Document, log: Callable[[str], None]) -> bool:
    log("broken")
    return False


def _succeed(_job: Document, log: Callable[[str], None]) -> bool:
    log("done")
    return True


@pytest.fixture
def world(kubernetes: KubernetesApi) -> Iterator[World]:
    controllers = kubernetes.run_controllers()
    controllers.mark("hello:missing", "pull")
    controllers.script("job:good", _succeed)
    controllers.script("job:bad", _fail)
    # As in the real one of the tests no gateway is at work.
    controllers.answer_routes(accepts=None)
    with KubernetesClient.open(None) as client:
        yield World(
            client=client,
            namespace="default",
            first="hello:1",
            second="hello:2",
            missing="hello:missing",
            good_job="job:good",
            bad_job="job:bad",
            slices="discovery.k8s.io/v1",
            progress_deadline=20,
        )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_is_as_in_a_cluster(world: World, check: Callable[[World], None]) -> None:
    check(world)
