"""The rights that releases need: rbac.yaml grants exactly those that are listed, and the check before a release names each that is missing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.access_right import AccessRight, is_granted
from core.environment_release import Release
from core.release_rights import NAMED, WANTED, rights_for
from tasks.kubernetes_client import KubernetesClient
from tasks.release_rights import check_rights
from tests.fix_kubernetes import KubernetesApi
from tests.fix_platform import CHECKOUT

RBAC = CHECKOUT / "deployments" / "kubernetes" / "rbac.yaml"
ROLES = {"nightshift": "control", "production": "workloads", None: "cluster"}
API = {"name": "api-server"}


def settings(**more: Any) -> Release:
    return Release.model_validate(
        {"namespace": "production", "repository": "registry.example.com/api", "workloads": [API], **more}
    )


EVERYTHING = settings(
    strategy="blue-green",
    traffic={"kind": "httproute", "name": "shop"},
    migration={"database": "app", "command": ["migrate"], "secret": "database"},
    workloads=[{**API, "config_maps": ["settings"]}, {"name": "nightly", "kind": "CronJob"}],
)


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    with KubernetesClient.open(None) as opened:
        yield opened


def granted(path: Path) -> set[tuple[str, str, str, str, str]]:
    """What the roles of a file grant, as (role, group, resource, verb, NAMED or "")."""
    return {
        (ROLES[role["metadata"].get("namespace")], group, resource, verb, NAMED if rule.get("resourceNames") else "")
        for role in yaml.safe_load_all(path.read_text())
        for rule in role.get("rules", ())
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_roles_grant_exactly_what_is_listed() -> None:
    listed = {(right.role, right.group, right.resource, right.verb, right.name) for right in WANTED}
    assert granted(RBAC) == listed


def test_each_role_is_bound_to_the_one_account_of_releases() -> None:
    documents = list(yaml.safe_load_all(RBAC.read_text()))
    (account,) = (one["metadata"] for one in documents if one["kind"] == "ServiceAccount")
    roles = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in documents if "rules" in one}  # fmt: skip
    bindings = [one for one in documents if one["kind"].endswith("Binding")]
    assert {
        (one["roleRef"]["kind"], one["metadata"].get("namespace"), one["roleRef"]["name"]) for one in bindings
    } == roles
    assert all(one["subjects"] == [{"kind": "ServiceAccount", **account}] for one in bindings)


def test_nothing_but_old_journals_can_be_deleted_nothing_run_in_a_pod_or_read_of_secrets_that_are_not_named() -> None:
    assert not {right.verb for right in WANTED} & {"deletecollection", "*", "escalate", "bind", "impersonate"}
    assert [(right.role, right.resource) for right in WANTED if right.verb == "delete"] == [("control", "configmaps")]
    assert not {right.resource for right in WANTED} & {"pods/exec", "pods/attach", "pods/portforward", "*"}
    secrets = [right for right in WANTED if right.resource == "secrets"]
    assert [(right.verb, right.name) for right in secrets] == [("get", NAMED)]
    assert {right.resource for right in WANTED if right.verb == "update"} == {"leases", "configmaps"}


def test_rights_are_asked_for_in_the_namespaces_of_the_file_and_only_where_the_settings_need_them() -> None:
    plain = rights_for(settings(namespace="shop", control_namespace="ops"))
    assert {right.namespace for right in plain if right.resource == "leases"} == {"ops"}
    assert {right.namespace for right in plain if right.resource != "leases"} == {"ops", "shop"}
    assert {right.in_words() for right in plain if right.verb == "create"} == {
        "create leases.coordination.k8s.io in ops",
        "create configmaps in ops",
    }
    assert not {right.resource for right in plain} & {"jobs", "cronjobs", "httproutes", "ingresses", "secrets"}


@pytest.mark.parametrize(
    ("more", "resource"),
    [
        ({"strategy": "blue-green", "traffic": {"kind": "service", "name": "shop"}}, "deployments/scale"),
        ({"strategy": "blue-green", "traffic": {"kind": "httproute", "name": "shop"}}, "httproutes"),
        ({"strategy": "blue-green", "traffic": {"kind": "alb", "name": "shop", "action": "shop"}}, "ingresses"),
        ({"migration": {"database": "app", "command": ["migrate"], "secret": "database"}}, "jobs"),
        ({"workloads": [API, {"name": "nightly", "kind": "CronJob"}]}, "cronjobs"),
    ],
)
def test_a_setting_brings_its_rights(more: dict[str, Any], resource: str) -> None:
    assert resource not in {right.resource for right in rights_for(settings())}
    assert resource in {right.resource for right in rights_for(settings(**more))}


def test_secrets_are_asked_for_by_their_names() -> None:
    rights = rights_for(settings(), secrets=("database", "tokens"), external_secrets=True)
    assert [right.in_words() for right in rights if "secrets" in right.resource] == [
        "get secrets database in production",
        "get secrets tokens in production",
        "get externalsecrets.external-secrets.io in production",
    ]


def test_every_right_but_that_to_look_at_nodes_is_bound_to_a_namespace() -> None:
    assert all(right.namespace for right in rights_for(EVERYTHING, secrets=("database",), external_secrets=True))
    assert [right.in_words() for right in rights_for(EVERYTHING, optional=True)] == ["list nodes"]


def all_of(release: Release) -> str:
    return f"all {len(rights_for(release)) + len(rights_for(release, optional=True))}"


def test_an_account_that_has_all_rights_passes_by_one_review_a_namespace_and_one_of_nodes(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    check = check_rights(client, EVERYTHING)
    assert (check.state, check.found) == ("passed", all_of(EVERYTHING))
    assert kubernetes.count("POST", "selfsubjectrulesreviews") == 2
    assert kubernetes.count("POST", "selfsubjectaccessreviews") == 1
    assert kubernetes.writes() == []


def test_what_the_rules_do_not_show_is_asked_for_right_by_right(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.hides_rules = True
    check = check_rights(client, EVERYTHING)
    assert (check.state, check.found) == ("passed", all_of(EVERYTHING))
    assert kubernetes.count("POST", "selfsubjectaccessreviews") == int(check.found.split()[1])
    kubernetes.denied = {("patch", "deployments")}
    assert "patch deployments.apps in production" in check_rights(client, EVERYTHING).found


def test_an_api_server_that_lists_no_rules_is_asked_right_by_right(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.fail("POST", "selfsubjectrulesreviews", 403, times=2)
    kubernetes.denied = {("get", "leases")}
    assert check_rights(client, EVERYTHING).found == "our account may not get leases.coordination.k8s.io in nightshift"


def test_of_an_incomplete_list_of_rules_no_right_to_change_something_is_believed(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    answer = {"status": {"resourceRules": everything, "incomplete": True}}
    monkeypatch.setattr(kubernetes, "rules_reviewed", lambda _review: answer)
    kubernetes.denied = {("patch", "deployments"), ("list", "pods")}
    found = check_rights(client, settings()).found
    assert found == "our account may not patch deployments.apps in production"


@pytest.mark.parametrize(
    ("rule", "granted"),
    [
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}, True),
        ({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}, True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "resourceNames": []}, True),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, False),
        ({"verbs": ["list"], "apiGroups": [""], "resources": ["pods/log"]}, False),
        ({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["pods/log"]}, False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["*/proxy"]}, False),
        ({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["one"]}, False),
        ({"verbs": ["get"], "resources": ["pods/log"]}, False),
    ],
)
def test_a_rule_grants_what_rbac_reads_in_it(rule: dict[str, Any], granted: bool) -> None:
    assert is_granted(AccessRight("get", "pods/log", namespace="shop"), [rule]) is granted


def test_a_rule_with_names_grants_those_alone() -> None:
    rule = {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["database"]}
    assert is_granted(AccessRight("get", "secrets", namespace="shop", name="database"), [rule])
    assert not is_granted(AccessRight("get", "secrets", namespace="shop", name="another"), [rule])
    assert not is_granted(AccessRight("get", "secrets", namespace="shop"), [rule])


def test_every_missing_verb_and_resource_is_named(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.denied = {("patch", "deployments"), ("get", "pods/log"), ("create", "jobs"), ("list", "nodes")}
    check = check_rights(client, EVERYTHING)
    assert check.state == "failed"
    assert check.found == (
        "our account may not patch deployments.apps in production, get pods/log in production, create jobs.batch in production"
    )
    assert "deployments/kubernetes/rbac.yaml" in check.next_step


def test_a_right_that_a_release_can_do_without_is_a_warning(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.denied = {("list", "nodes")}
    check = check_rights(client, settings())
    assert check.state == "warning"
    assert "list nodes: what those would tell is not looked at" in check.found
