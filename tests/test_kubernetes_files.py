"""The files of deployments/kubernetes/ and the job templates: valid for the worker that reads them, confined, and of one mind with each other."""

import asyncio
import json
from typing import Any

import jsonschema
import pytest
import yaml
from prefect_aws.workers.ecs_worker import ECSJobConfiguration
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

from deployments.command.automations import read_automations
from deployments.command.deploying import PREFECT_FILE
from deployments.local.data_folder import CHECKOUT
from tests.fix_manifests import FOLDER, NAMESPACE, Document, documents
from tests.fix_nightshift_image import USER

IMAGE = "nightshift:0.1.0"
OURS = [
    "namespace.yaml",
    "external-secrets.yaml",
    "network-policies.yaml",
    "server.yaml",
    "worker.yaml",
    "receiver.yaml",
]
ALL = [document for name in OURS for document in documents(name)]
# It would be asked for blocks and variables, which no template names.
NO_SERVER: Any = object()
TEMPLATE: Document = json.loads((FOLDER / "job-template.json").read_text())


def of_kind(kind: str) -> list[Document]:
    """The documents of a kind."""
    return [one for one in ALL if one["kind"] == kind]


def job(**variables: Any) -> Document:
    """The Job that the worker makes of the template, with these job variables."""
    configuration = asyncio.run(
        KubernetesWorkerJobConfiguration.from_template_and_values(TEMPLATE, variables, client=NO_SERVER)
    )
    configuration._populate_env_in_manifest()
    manifest: Document = configuration.job_manifest
    return manifest


def pod_specs() -> list[tuple[str, Document]]:
    """Every Pod that these files make, by the name of what makes it."""
    made = [(one["metadata"]["name"], one["spec"]["template"]["spec"]) for one in of_kind("Deployment")]
    return [*made, ("a run", job()["spec"]["template"]["spec"])]


def containers_of(spec: Document) -> list[Document]:
    """A Pod's containers."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


def test_kustomize_is_given_every_file_but_those_that_are_anothers() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert listed == OURS
    assert {file.name for file in FOLDER.glob("*.yaml")} == {
        *OURS,
        "kustomization.yaml",
        "rbac.yaml",
        "drill-pods.yaml",
    }


def test_everything_lies_in_one_namespace() -> None:
    assert {one["metadata"].get("namespace") for one in ALL if one["kind"] != "Namespace"} == {NAMESPACE}


@pytest.mark.parametrize(("name", "spec"), pod_specs(), ids=[name for name, _ in pod_specs()])
def test_each_pod_is_as_the_standard_restricted_wants_it(name: str, spec: Document) -> None:
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not spec["enableServiceLinks"]
    for container in containers_of(spec):
        assert container["image"] == IMAGE
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()


def test_each_part_of_the_server_has_every_address_of_redis_and_migrates_in_turn() -> None:
    for name, spec in pod_specs():
        if name not in {"nightshift-server", "nightshift-services"}:
            continue
        (first,) = spec["initContainers"]
        assert first["args"][:3] == ["python", "-m", "deployments.distributed.in_turn"]
        for container in containers_of(spec):
            # One that is not set asks the Pod's own localhost.
            assert {one["name"] for one in container["env"]} >= {
                "PREFECT_REDIS_MESSAGING_URL",
                "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL",
                "PREFECT_SERVER_DOCKET_URL",
            }


def test_the_worker_makes_no_pool_of_prefects_own_template() -> None:
    ((container,),) = [spec["containers"] for name, spec in pod_specs() if name == "nightshift-worker"]
    assert "--no-create-pool-if-not-found" in container["args"]


def test_the_links_that_the_receiver_hands_out_begin_where_people_open_the_ui() -> None:
    # Without it they would begin with the server's name inside of the cluster.
    ((container,),) = [spec["containers"] for name, spec in pod_specs() if name == "nightshift-receiver"]
    (given,) = [one["valueFrom"]["configMapKeyRef"] for one in container["env"] if one["name"] == "PREFECT_UI_URL"]
    (settings,) = [one for one in of_kind("ConfigMap") if one["metadata"]["name"] == given["name"]]
    assert settings["data"][given["key"]] == "http://127.0.0.1:4200"


def test_only_the_worker_and_what_speaks_to_velero_have_a_token() -> None:
    with_token = {
        one["metadata"]["name"] for one in of_kind("ServiceAccount") if one.get("automountServiceAccountToken", True)
    }
    assert with_token == {"nightshift-worker", "nightshift-app-state"}


def test_each_account_that_prefect_yaml_names_is_there() -> None:
    pools = [one for one in yaml.safe_load(PREFECT_FILE.read_text())["definitions"].values() if "job_variables" in one]
    named = {one["job_variables"]["service_account_name"] for one in pools}
    there = {one["metadata"]["name"] for one in (*ALL, *documents("rbac.yaml")) if one["kind"] == "ServiceAccount"}
    assert named <= there
    assert TEMPLATE["variables"]["properties"]["service_account_name"]["default"] in there


def test_no_secret_stands_in_a_file_and_each_that_is_named_comes_from_outside() -> None:
    assert not of_kind("Secret")
    text = json.dumps([spec for _, spec in pod_specs()])
    named = {
        name
        for name in ("nightshift-prefect", "nightshift-server", "nightshift-run", "nightshift-receiver")
        if name in text
    }
    assert named == {one["spec"]["target"]["name"] for one in of_kind("ExternalSecret")}


def test_nothing_passes_that_no_policy_names() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind("NetworkPolicy")}
    assert policies["nightshift-default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    receiver = policies["nightshift-receiver"]
    (entrance,) = receiver["ingress"]
    assert [list(peer) for peer in entrance["from"]] == [["namespaceSelector"], ["namespaceSelector"]]
    assert [port["port"] for port in entrance["ports"]] == [8088]
    assert sorted(port["port"] for rule in receiver["egress"] for port in rule["ports"]) == [443, 4200]
    assert all("to" in rule for rule in receiver["egress"])
    assert "ingress" not in policies["nightshift-run"]


def test_each_component_has_a_policy_and_each_policy_a_component() -> None:
    components = {
        one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] for one in of_kind("Deployment")
    }
    components.add(job()["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"])
    chosen: set[str] = set()
    for one in of_kind("NetworkPolicy"):
        selector = one["spec"]["podSelector"]
        chosen |= {selector.get("matchLabels", {}).get("app.kubernetes.io/component", "")}
        chosen |= {value for expression in selector.get("matchExpressions", ()) for value in expression["values"]}
    assert chosen - {""} == components


def test_kubernetes_never_repeats_a_run_and_a_pod_that_is_told_to_end_is_told_as_crashed() -> None:
    made = job()
    assert made["spec"]["backoffLimit"] == 0
    (container,) = made["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    # Prefect would otherwise begin a run anew whose Pod is evicted: a release from its top, without its recovery.
    assert variables["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "crash"
    (zombies,) = [one for one in read_automations() if "heartbeat" in one.name]
    assert zombies.trigger.within.total_seconds() >= 3 * int(variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])


def test_what_a_deployment_adds_to_the_variables_takes_none_of_the_templates_away() -> None:
    (container,) = job(env={"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "OTHER": "1"})["spec"]["template"]["spec"][
        "containers"
    ]
    names = {one["name"] for one in container["env"]}
    assert names == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "OTHER"}


@pytest.mark.parametrize(
    "file",
    [FOLDER / "job-template.json", CHECKOUT / "deployments" / "aws" / "ecs-job-template.json"],
    ids=lambda file: file.stem,
)
def test_the_form_of_each_template_is_a_schema_that_prefect_yamls_job_variables_fit(file: Any) -> None:
    schema = json.loads(file.read_text())["variables"]
    jsonschema.Draft7Validator.check_schema(schema)
    assert all(one.get("description") for one in schema["properties"].values())
    defaults = {name: one["default"] for name, one in schema["properties"].items() if "default" in one}
    for one in yaml.safe_load(PREFECT_FILE.read_text())["definitions"].values():
        if "job_variables" in one:
            jsonschema.validate({**defaults, **one["job_variables"]}, schema)


def test_the_ecs_template_is_one_that_its_worker_reads() -> None:
    template = json.loads((CHECKOUT / "deployments" / "aws" / "ecs-job-template.json").read_text())
    values = {"image": "example/nightshift@sha256:0", "cluster": "ours", "task_role_arn": "arn:aws:iam::1:role/drill"}
    made = asyncio.run(ECSJobConfiguration.from_template_and_values(template, values, client=NO_SERVER))
    assert made.task_definition is not None
    (container,) = made.task_definition["containerDefinitions"]
    assert (container["image"], made.cluster) == (values["image"], "ours")
    assert container["user"] == f"{USER}:{USER}"
    assert made.env["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "crash"
    assert made.task_run_request["overrides"]["taskRoleArn"] == values["task_role_arn"]
    assert made.prefect_api_auth_string_secret_arn
