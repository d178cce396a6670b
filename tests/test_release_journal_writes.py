"""The journal is written by compare-and-swap with what our last write left there, and read only when that is not there any more."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from core.environment_release import Release
from core.fence import Fence, FencedError
from core.release_journal import Journal, journal_name
from core.signature import SigningKey
from tasks.kubernetes_client import KubernetesClient
from tasks.release_journal import Journals, KeptJournal
from tests.fix_kubernetes import KubernetesApi

KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")
RELEASE = Release.model_validate(
    {
        "namespace": "shop",
        "control_namespace": "nightshift",
        "repository": "registry.test/hello",
        "workloads": [{"name": "hello"}],
    }
)
EMPTY = Journal(
    environment="stage",
    release_id="r-000000000001",
    plan_id="r-000000000001",
    plan_sha256="0" * 64,
    flow_run_id="run-1",
)
OURS = Fence("stage", "r-000000000001", 5)
NAME = journal_name(EMPTY.release_id)
PATH = f"/api/v1/namespaces/nightshift/configmaps/{NAME}"


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    """A client of the small API, with nightshift's namespace."""
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "nightshift"}})
    with KubernetesClient.open(None) as opened:
        yield opened


@pytest.fixture
def kept(client: KubernetesClient) -> KeptJournal:
    """A journal that was opened by us."""
    journal = KeptJournal(RELEASE, EMPTY, [KEY], OURS)
    journal.append(client, "opened")
    return journal


def stored(client: KubernetesClient) -> Journal:
    """The journal as it is in the cluster, verified."""
    found = Journals(client, RELEASE, "stage", [KEY]).read(EMPTY.release_id)
    assert found is not None
    return found


def test_an_entry_costs_one_request(kubernetes: KubernetesApi, client: KubernetesClient, kept: KeptJournal) -> None:
    kubernetes.requests.clear()
    for event in ("intent", "done", "intent", "done"):
        kept.append(client, event, "roll out")  # type: ignore[arg-type]
    assert [method for method, _ in kubernetes.requests] == ["PATCH"] * 4
    assert stored(client) == kept.journal


def test_an_edit_between_two_entries_is_put_right_and_told(client: KubernetesClient, kept: KeptJournal) -> None:
    client.merge(PATH, {"data": {"journal.json": "{}"}})
    kept.append(client, "intent", "roll out")
    assert stored(client) == kept.journal
    assert kept.noted == ["somebody edited the journal; it was put right"]


def test_a_journal_that_was_deleted_between_two_entries_is_made_again(
    client: KubernetesClient, kept: KeptJournal
) -> None:
    client.delete(PATH, uid=client.get(PATH)["metadata"]["uid"])
    kept.append(client, "intent", "roll out")
    assert stored(client) == kept.journal
    assert kept.noted == ["somebody deleted the journal; it was made again"]
    kept.append(client, "done", "roll out")
    assert stored(client) == kept.journal


def test_nothing_is_written_over_the_entry_of_a_later_holder(client: KubernetesClient, kept: KeptJournal) -> None:
    later = KeptJournal(RELEASE, kept.journal, [KEY], replace(OURS, number=6), stored=True)
    later.append(client, "compensate")
    with pytest.raises(FencedError):
        kept.append(client, "intent", "roll out")
    assert stored(client) == later.journal


@pytest.mark.parametrize("after", [False, True], ids=["lost before it was carried out", "carried out and lost"])
def test_a_write_without_an_answer_is_there_once(
    kubernetes: KubernetesApi, client: KubernetesClient, kept: KeptJournal, after: bool
) -> None:
    kubernetes.fail("PATCH", "/configmaps/", 0, after=after)
    kept.append(client, "intent", "roll out")
    kept.append(client, "done", "roll out")
    assert [one.event for one in stored(client).entries] == ["opened", "intent", "done"]
    assert kept.noted == []


def test_a_journal_that_grew_too_large_for_the_api_server_is_no_silence(
    kubernetes: KubernetesApi, client: KubernetesClient, kept: KeptJournal
) -> None:
    kubernetes.fail("PATCH", "/configmaps/", 413)
    with pytest.raises(Exception, match="413"):
        kept.append(client, "intent", "roll out")
    assert [one.event for one in stored(client).entries] == ["opened"]
