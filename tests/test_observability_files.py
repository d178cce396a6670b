"""What deployments/observability ships is what Prometheus takes: checked and tried by promtool."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fix_platform import CHECKOUT

pytestmark = pytest.mark.services
FOLDER = CHECKOUT / "deployments" / "observability"


def promtool(*arguments: object) -> str:
    """Run promtool and return what it says; an assertion fails when it is not content."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("no promtool: apt-get install prometheus")
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, cwd=FOLDER
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_four_and_well_formed() -> None:
    assert "4 rules found" in promtool("check", "rules", "rules.yml")


def test_each_alert_comes_when_it_must_and_not_when_it_must_not() -> None:
    promtool("test", "rules", "rules.test.yml")


def test_each_alert_has_a_test_in_which_it_comes() -> None:
    rules = [one["alert"] for group in _read("rules.yml")["groups"] for one in group["rules"]]
    tests = [one for case in _read("rules.test.yml")["tests"] for one in case["alert_rule_test"]]
    assert {one["alertname"] for one in tests if one["exp_alerts"]} == set(rules)


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    """Debian's build knows no discovery by Kubernetes: that one key is taken out of the copy that is checked."""
    document = _read("prometheus.yml")
    discovering = [job for job in document["scrape_configs"] if job.pop("kubernetes_sd_configs", None)]
    assert [job["job_name"] for job in discovering] == ["api-server"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(document))
    shutil.copy(FOLDER / "rules.yml", tmp_path)
    promtool("check", "config", tmp_path / "prometheus.yml")


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return document
