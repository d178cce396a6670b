"""What the checks of the small Kubernetes API rely on is true of a real one: the same checks as in test_kubernetes_conformance."""

from collections.abc import Callable

import pytest

from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tests import conformance_controllers, conformance_objects
from tests.fix_hello import HelloImages
from tests.kubernetes_conformance import World

pytestmark = pytest.mark.cluster
CHECKS = (*conformance_objects.CHECKS, *conformance_controllers.CHECKS)


@pytest.fixture
def world(cluster: KubernetesClient, drill_namespace: str, hello_images: HelloImages) -> World:
    return World(
        client=cluster,
        namespace=drill_namespace,
        first=hello_images.first,
        second=hello_images.second,
        missing=hello_images.missing,
        good_job=hello_images.first,
        bad_job=hello_images.first,
        slices=find_kind(cluster, "EndpointSlice").api_version,
        progress_deadline=10,
    )


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_cluster_does_so(world: World, check: Callable[[World], None]) -> None:
    check(world)
