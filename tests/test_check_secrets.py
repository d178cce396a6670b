"""Item secrets: present, synced, fresh; and never told."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.external_secrets import external_secret_problem, read_once
from core.release_checks import ReleaseCheck
from tasks.check_secrets import check_secrets
from tasks.kubernetes_client import KubernetesClient
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_preflight import NAMESPACE, NOW, preflight_for

Apps = tuple[KubernetesApi, KubernetesClient]
HOUR = timedelta(hours=1)


def stamp(ago: timedelta) -> str:
    return f"{NOW - ago:%Y-%m-%dT%H:%M:%SZ}"


def external_secret(name: str = "api", *, ago: timedelta = HOUR, **changes: Any) -> Document:
    document: Document = {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": NAMESPACE, "generation": 2},
        "spec": {"refreshInterval": "1h0m0s"},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "reason": "SecretSynced", "message": "secret synced"}],
            "refreshTime": stamp(ago),
            "syncedResourceVersion": "2-9f86d081884c7d65",
        },
    }
    for path, value in changes.items():
        part, _, key = path.partition("__")
        document[part][key] = value
    return document


def secret(name: str = "api-secrets", **data: str) -> Document:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "data": encoded}


def look(client: KubernetesClient, **settings: Any) -> ReleaseCheck:
    return check_secrets(preflight_for(client=client, secrets=settings))


def test_secrets_that_are_ready_synced_fresh_and_complete_pass(apps: Apps) -> None:
    api, client = apps
    api.put(external_secret())
    api.put(secret(DATABASE_URL="postgres://hidden", TOKEN="hidden-token"))
    check = look(client, external=["api"], named=[{"name": "api-secrets", "keys": ["DATABASE_URL", "TOKEN"]}])
    assert check.state == "passed"
    assert check.found == "1 ExternalSecret ready, synced and fresh; 1 Secret with every key"
    assert "hidden" not in check.model_dump_json()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status__conditions": []}, "operator has not seen it"),
        (
            {
                "status__conditions": [
                    {"type": "Ready", "status": "False", "reason": "SecretSyncedError", "message": "no access"}
                ]
            },
            "not Ready: SecretSyncedError no access",
        ),
        ({"status__conditions": [{"type": "Ready", "status": "Unknown"}]}, "is not Ready"),
        ({"metadata__generation": 3}, "changed since it was synced (generation 3, synced 2)"),
        ({"status__syncedResourceVersion": ""}, "synced none"),
        ({"status__syncedResourceVersion": "22-1"}, "synced 22"),
        ({"status__refreshTime": ""}, "never refreshed"),
        ({"status__refreshTime": stamp(25 * HOUR)}, "refreshed 25 h ago; the limit is 24 h"),
        ({"status__refreshTime": stamp(-HOUR)}, "in the future"),
    ],
)
def test_an_external_secret_that_is_not_well_says_why(apps: Apps, changes: dict[str, Any], problem: str) -> None:
    api, client = apps
    api.put(external_secret(**changes))
    check = look(client, external=["api"])
    assert check.state == "failed"
    assert problem in check.found


@pytest.mark.parametrize(
    "spec",
    [
        {"refreshInterval": "0"},
        {"refreshInterval": "0s"},
        {"refreshInterval": "0h0m0s"},
        {"refreshPolicy": "CreatedOnce"},
    ],
)
def test_what_is_read_only_once_has_no_age(spec: dict[str, str]) -> None:
    assert read_once(spec)
    document = external_secret(ago=1000 * HOUR)
    assert external_secret_problem(document, NOW, HOUR)
    assert external_secret_problem({**document, "spec": spec}, NOW, HOUR) == ""


@given(st.integers(0, 60 * 24 * 3), st.integers(1, 72))
def test_the_age_that_passes_is_the_limit_and_no_more(minutes: int, hours: int) -> None:
    age, limit = timedelta(minutes=minutes), timedelta(hours=hours)
    assert bool(external_secret_problem(external_secret(ago=age), NOW, limit)) == (age > limit)


def test_what_does_not_exist_is_named(apps: Apps) -> None:
    api, client = apps
    api.put(secret(TOKEN="x", EMPTY=""))
    named = [{"name": "api-secrets", "keys": ["TOKEN", "EMPTY", "OTHER"]}, {"name": "gone"}]
    check = look(client, external=["gone"], named=named)
    assert check.state == "failed"
    assert check.found == (
        "ExternalSecret gone does not exist; Secret api-secrets lacks EMPTY, OTHER, or it is empty; Secret gone does not exist"
    )


def test_secrets_are_not_read_when_that_is_switched_off(apps: Apps) -> None:
    api, client = apps
    api.put(external_secret())
    named = [{"name": "api-secrets", "keys": ["TOKEN"]}]
    check = look(client, external=["api"], named=named, read_secrets=False)
    assert (check.state, "not looked into: read_secrets = false" in check.found) == ("passed", True)
    assert api.count("GET", "/secrets") == 0
    assert look(client, named=named, read_secrets=False).state == "not-configured"
    assert check_secrets(preflight_for(client=client)).state == "not-configured"


@pytest.mark.parametrize("code", [403, 500, 0])
@pytest.mark.parametrize("part", ["/externalsecrets/", "/secrets/"])
def test_secrets_that_may_not_or_cannot_be_read_fail(apps: Apps, code: int, part: str) -> None:
    api, client = apps
    api.put(external_secret())
    api.put(secret(TOKEN="x"))
    api.fail("GET", part, code, times=9)
    check = look(client, external=["api"], named=[{"name": "api-secrets", "keys": ["TOKEN"]}])
    assert check.state == "failed"


def test_a_cluster_without_the_operator_fails_the_item(apps: Apps) -> None:
    api, client = apps
    api.absent.add("externalsecrets")
    check = look(client, external=["api"])
    assert (check.state, "serves neither" in check.found) == ("failed", True)
