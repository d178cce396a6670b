"""What deployments/observability ships is what Prometheus takes: checked and tried by promtool."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.own_metrics import METRICS
from deployments.webhook.figures import Figures
from tasks.prometheus import PrometheusClient
from tests.fix_platform import CHECKOUT
from tests.fix_prometheus import run_prometheus
from tests.leave_out import leave_out

pytestmark = pytest.mark.services
FOLDER = CHECKOUT / "deployments" / "observability"
KUBERNETES = CHECKOUT / "deployments" / "kubernetes"


def promtool(*arguments: object) -> str:
    """Run promtool and return what it says; an assertion fails when it is not content."""
    program = shutil.which("promtool")
    if program is None:
        leave_out("no promtool")
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, cwd=FOLDER
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


RULES = {"rules": 4, "nightshift-rules": 21}


@pytest.mark.parametrize("name", RULES)
def test_the_rules_are_well_formed(name: str) -> None:
    assert f"{RULES[name]} rules found" in promtool("check", "rules", f"{name}.yml")


@pytest.mark.parametrize("name", RULES)
def test_each_alert_comes_when_it_must_and_not_when_it_must_not(name: str) -> None:
    promtool("test", "rules", f"{name}.test.yml")


@pytest.mark.parametrize("name", RULES)
def test_each_alert_has_a_test_in_which_it_comes(name: str) -> None:
    rules = [one["alert"] for group in _read(f"{name}.yml")["groups"] for one in group["rules"]]
    tests = [one for case in _read(f"{name}.test.yml")["tests"] for one in case["alert_rule_test"]]
    assert {one["alertname"] for one in tests if one["exp_alerts"]} == set(rules)


def test_rules_and_dashboard_know_nightshifts_metrics_and_their_labels() -> None:
    """A metric that is called otherwise has no sample, and an alert on it never comes."""
    text = "".join((FOLDER / name).read_text() for name in ("nightshift-rules.yml", "nightshift-dashboard.json"))
    named = set(re.findall(r"nightshift_[a-z0-9_]+", text))
    receivers = {sample.name for family in Figures().registry.collect() for sample in family.samples}
    assert named <= {*METRICS, *receivers}, named - {*METRICS, *receivers}
    labels = {
        label
        for one in re.findall(r"nightshift_[a-z0-9_]+\{([^}]*)\}", text)
        for label in re.findall(r"(\w+)[!=]=?~?", one)
    }
    assert labels <= {"environment", *(label for _, own in METRICS.values() for label in own), "result"}


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    """Debian's build knows no discovery by Kubernetes: that one key is taken out of the copy that is checked."""
    document = _read("prometheus.yml")
    discovering = [job for job in document["scrape_configs"] if job.pop("kubernetes_sd_configs", None)]
    assert [job["job_name"] for job in discovering] == ["api-server"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))
    for name in document["rule_files"]:
        shutil.copy(FOLDER / name, tmp_path)
    promtool("check", "config", tmp_path / "prometheus.yml")
    assert document["rule_files"] == [f"{name}.yml" for name in RULES]


def test_the_receiver_is_scraped_and_its_policy_lets_prometheus_in() -> None:
    """Without it none of its alerts ever comes."""
    jobs = {one["job_name"]: one for one in _read("prometheus.yml")["scrape_configs"]}
    ((target,),) = [one["targets"] for one in jobs["nightshift-webhook"]["static_configs"]]
    documents = [*yaml.safe_load_all((KUBERNETES / "receiver.yaml").read_text())]
    (service,) = [one for one in documents if one["kind"] == "Service"]
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert target == f"{name}.{service['metadata']['namespace']}.svc:{port}"
    policies = yaml.safe_load_all((KUBERNETES / "network-policies.yaml").read_text())
    (rule,) = next(one["spec"]["ingress"] for one in policies if one["metadata"]["name"] == "nightshift-receiver")
    assert {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}} in rule["from"]


def test_each_query_of_the_dashboards_is_one_that_prometheus_takes(tmp_path: Path) -> None:
    queries = [
        target["expr"].replace("$job", "api").replace("$environment", "local")
        for file in FOLDER.glob("*-dashboard.json")
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(queries) >= 4
    with run_prometheus(tmp_path, {"scrape_configs": []}) as address, PrometheusClient(address) as client:
        for query in queries:
            assert client.query(query, 0) == (), query


def test_a_dashboard_shows_releases_and_lets_its_data_source_be_chosen() -> None:
    for file in FOLDER.glob("*-dashboard.json"):
        document = json.loads(file.read_text())
        (releases,) = document["annotations"]["list"]
        assert releases["target"]["tags"] == ["nightshift", "release"]
        assert all(one["datasource"]["uid"] == "${datasource}" for one in document["panels"])
        assert len({one["id"] for one in document["panels"]}) == len(document["panels"])


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return document
