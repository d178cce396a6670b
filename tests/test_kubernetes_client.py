"""The client of the Kubernetes API: what it repeats and what not, fresh credentials, pages, and waiting by watch."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import ConfigurationError, PermanentError, TemporaryError
from tasks.kubeconfig import find_connection
from tasks.kubernetes_answers import ExistsError, ForbiddenError, GoneError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_watch import NotInTimeError, wait_for_object
from tests.fix_kubernetes import Document, KubernetesApi

MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str, **data: str) -> Document:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


@pytest.fixture
def paused() -> list[float]:
    """The seconds that the client slept, or would have."""
    return []


@pytest.fixture
def client(kubernetes: KubernetesApi, paused: list[float]) -> Iterator[KubernetesClient]:
    with KubernetesClient(lambda: find_connection(None), sleep=paused.append) as opened:
        yield opened


def test_a_read_is_repeated_while_the_server_fails_and_no_longer_than_five_times(
    kubernetes: KubernetesApi, client: KubernetesClient, paused: list[float]
) -> None:
    kubernetes.put(config_map("a"))
    kubernetes.fail("GET", "configmaps/a", 500, times=4)
    assert client.get(f"{MAPS}/a")["metadata"]["name"] == "a"
    assert len(paused) == 4
    kubernetes.fail("GET", "configmaps/a", 500, times=5)
    with pytest.raises(TemporaryError, match="scripted 500"):
        client.get(f"{MAPS}/a")


def test_a_connection_that_breaks_during_a_read_is_bridged(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.put(config_map("a"))
    kubernetes.fail("GET", "configmaps/a", 0, times=2)
    assert client.get(f"{MAPS}/a")["metadata"]["name"] == "a"


def test_it_waits_as_long_as_the_server_asks_for(
    kubernetes: KubernetesApi, client: KubernetesClient, paused: list[float]
) -> None:
    kubernetes.fail("POST", "configmaps", 429, Retry_After="7")
    client.create(MAPS, config_map("a"))
    assert paused == [7.0]
    assert kubernetes.count("POST", "configmaps") == 2


@pytest.mark.parametrize("code", [0, 500, 504])
def test_a_write_whose_outcome_is_unknown_is_not_repeated(
    kubernetes: KubernetesApi, client: KubernetesClient, code: int
) -> None:
    kubernetes.fail("POST", "configmaps", code, after=True)
    with pytest.raises(TemporaryError):
        client.create(MAPS, config_map("a"))
    assert kubernetes.count("POST", "configmaps") == 1
    assert client.get(f"{MAPS}/a")


def test_a_token_that_expired_is_renewed_once(kubernetes: KubernetesApi, tmp_path: Path) -> None:
    kubernetes.tokens = {"second-token"}
    tokens = iter(["first-token", "second-token"])

    def connect() -> object:
        kubernetes.kubeconfig(tmp_path, next(tokens))
        return find_connection(None)

    with KubernetesClient(connect) as client:  # type: ignore[arg-type]
        assert list(client.list("/api/v1/namespaces"))


def test_credentials_that_are_refused_twice_are_told_and_not_tried_on(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.tokens = set()
    with pytest.raises(ConfigurationError, match="renew them"):
        client.get(MAPS)
    assert kubernetes.count("GET", "configmaps") == 2


@pytest.mark.parametrize(("code", "error"), [(403, ForbiddenError), (404, MissingError), (422, PermanentError)])
def test_a_mistake_is_told_at_once_with_the_servers_own_words(
    kubernetes: KubernetesApi, client: KubernetesClient, code: int, error: type[PermanentError]
) -> None:
    kubernetes.fail("GET", "configmaps", code)
    with pytest.raises(error, match=f"scripted {code}"):
        client.get(MAPS)
    assert kubernetes.count("GET", "configmaps") == 1


def test_a_taken_name_and_another_resource_version_are_conflicts(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    version = kubernetes.put(config_map("a"))["metadata"]["resourceVersion"]
    with pytest.raises(ExistsError):
        client.create(MAPS, config_map("a"))
    changed = client.merge(f"{MAPS}/a", {"metadata": {"resourceVersion": version}, "data": {"x": "1"}})
    assert changed["data"] == {"x": "1"}
    with pytest.raises(ExistsError):
        client.merge(f"{MAPS}/a", {"metadata": {"resourceVersion": version}, "data": {"x": "2"}})


def test_only_the_very_object_that_was_looked_at_is_deleted(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    made = kubernetes.put(config_map("a"))
    with pytest.raises(ExistsError):
        client.delete(f"{MAPS}/a", uid="another")
    client.delete(f"{MAPS}/a", uid=made["metadata"]["uid"])
    with pytest.raises(MissingError):
        client.get(f"{MAPS}/a")


def test_a_list_is_read_page_by_page(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.kubernetes_client.PAGE", 3)
    for number in range(7):
        kubernetes.put(config_map(f"m{number}"))
    listed = [item["metadata"]["name"] for item in client.list(MAPS)]
    assert listed == ["kube-root-ca.crt", *(f"m{number}" for number in range(7))]
    assert kubernetes.count("GET", "configmaps") == 3


def test_with_metadata_only_no_content_travels(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.put(config_map("a", password="x"))
    assert all(item.keys() == {"metadata"} for item in client.list(MAPS, metadata_only=True))


def test_a_dry_run_keeps_nothing(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    client.create(MAPS, config_map("a"), dry_run=True)
    with pytest.raises(MissingError):
        client.get(f"{MAPS}/a")


def test_a_server_that_is_not_there_is_a_temporary_error(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.close()
    with pytest.raises(TemporaryError, match="reaches the API server"):
        client.get(MAPS)


# Watching


def wait_for_data(client: KubernetesClient, seconds: float = 5) -> Document | None:
    """Wait until ConfigMap a has data.state = done."""
    return wait_for_object(
        client,
        MAPS,
        "a",
        lambda found: bool(found) and (found or {}).get("data", {}).get("state") == "done",
        seconds=seconds,
    )


def later(action: object, seconds: float = 0.15) -> threading.Timer:
    timer = threading.Timer(seconds, action)  # type: ignore[arg-type]
    timer.start()
    return timer


def finish(kubernetes: KubernetesApi) -> None:
    kubernetes.merge("v1", "configmaps", "default", "a", {"data": {"state": "done"}})


def test_a_change_is_seen_by_watch_without_asking_again(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.put(config_map("a"))
    timer = later(lambda: finish(kubernetes))
    assert (wait_for_data(client) or {})["data"] == {"state": "done"}
    timer.join()
    # One list and one watch.
    assert kubernetes.count("GET", "configmaps") == 2


def test_a_broken_watch_and_a_forgotten_version_are_listed_anew(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.put(config_map("a"))

    def trouble() -> None:
        kubernetes.forget_history()
        kubernetes.cut_watches()
        finish(kubernetes)

    timer = later(trouble)
    assert wait_for_data(client)
    timer.join()
    assert kubernetes.count("GET", "watch=1") >= 1


def test_a_version_that_is_too_old_is_told_as_gone(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.forget_history()
    with pytest.raises(GoneError):
        list(client.watch(MAPS, "1", seconds=1))


def test_a_watch_that_is_refused_for_its_token_goes_on_with_a_new_one(
    kubernetes: KubernetesApi, client: KubernetesClient, tmp_path: Path
) -> None:
    kubernetes.put(config_map("a"))

    def expire() -> None:
        kubernetes.kubeconfig(tmp_path, "second-token")
        kubernetes.tokens = {"second-token"}
        kubernetes.cut_watches()
        finish(kubernetes)

    timer = later(expire)
    assert wait_for_data(client)
    timer.join()


def test_what_does_not_come_in_time_is_told_as_it_was_last_seen(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.put(config_map("a", state="half"))
    began = time.monotonic()
    with pytest.raises(NotInTimeError) as late:
        wait_for_data(client, seconds=0.4)
    assert (late.value.last or {})["data"] == {"state": "half"}
    assert time.monotonic() - began < 10


def test_a_deleted_object_is_seen_as_gone(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.put(config_map("a"))
    timer = later(lambda: kubernetes.delete("v1", "configmaps", "default", "a", None))
    assert wait_for_object(client, MAPS, "a", lambda found: found is None, seconds=5) is None
    timer.join()


def test_a_kind_that_does_not_exist_is_told_at_once(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    with pytest.raises(MissingError):
        wait_for_object(client, "/apis/velero.io/v9/namespaces/velero/backups", "a", lambda _: False, seconds=5)


def test_the_token_is_in_no_message(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.fail("GET", "configmaps", 422)
    with pytest.raises(PermanentError) as told:
        client.get(MAPS)
    assert "first-token" not in f"{told.value!r} {find_connection(None)!r}"
