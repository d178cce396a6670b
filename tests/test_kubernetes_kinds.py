"""Which version of a kind a cluster serves is asked once a minute, not at each use; what is not there is asked for again."""

from collections.abc import Iterator

import pytest

from core.errors import PermanentError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import KEPT_SECONDS, find_kind
from tests.fix_kubernetes import KubernetesApi
from tests.fix_kubernetes_kinds import NOT_IN_1_20


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    """A client of a cluster like 1.20."""
    kubernetes.absent |= NOT_IN_1_20
    with KubernetesClient.open(None) as opened:
        yield opened


def test_a_kind_is_found_in_its_older_version_and_not_asked_for_again(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    versions = {find_kind(client, "HorizontalPodAutoscaler").version for _ in range(3)}
    with KubernetesClient.open(None) as another:
        versions.add(find_kind(another, "HorizontalPodAutoscaler").version)
    assert versions == {"v2beta2"}
    assert kubernetes.count("GET", "/apis/autoscaling/") == 2


def test_it_is_asked_for_again_after_a_minute(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    now = [100.0]
    assert find_kind(client, "HorizontalPodAutoscaler", clock=lambda: now[0]).version == "v2beta2"
    kubernetes.absent.discard("autoscaling/v2")
    now[0] += KEPT_SECONDS - 1
    assert find_kind(client, "HorizontalPodAutoscaler", clock=lambda: now[0]).version == "v2beta2"
    now[0] += 1
    assert find_kind(client, "HorizontalPodAutoscaler", clock=lambda: now[0]).version == "v2"


def test_a_kind_that_is_installed_now_is_found_at_once(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.absent |= {"httproutes"}
    with pytest.raises(PermanentError, match="serves neither"):
        find_kind(client, "HTTPRoute")
    kubernetes.absent.discard("httproutes")
    assert find_kind(client, "HTTPRoute").plural == "httproutes"
