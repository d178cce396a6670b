"""Items monitoring and baseline, asked of a real Prometheus: what its API answers is what the items read."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.release_checks import ReleaseCheck
from tasks.check_monitoring import check_baseline, check_monitoring
from tests.fix_preflight import preflight_for
from tests.leave_out import leave_out
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.services
RULES = {
    "groups": [
        {
            "name": "api",
            "rules": [
                {"alert": "ApiDown", "expr": 'up{job="api"} == 0'},
                {"record": "broken", "expr": "up * on() group_left() up"},
            ],
        }
    ]
}


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes itself as job api, and nobody as job gone."""
    program = shutil.which("prometheus")
    if program is None:
        leave_out("no prometheus")
    port = free_port()
    jobs = [("api", f"127.0.0.1:{port}"), ("gone", "127.0.0.1:9")]
    settings: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "rules.yml")],
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in jobs],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(settings))
    (tmp_path / "rules.yml").write_text(json.dumps(RULES))
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _scraped(address), "both jobs were scraped and the rules evaluated")
        yield address
    finally:
        process.terminate()
        process.wait(60)


def _scraped(address: str) -> bool:
    try:
        found = httpx.get(f"{address}/api/v1/query", params={"query": "up"}).json()["data"]["result"]
        groups = httpx.get(f"{address}/api/v1/rules").json()["data"]["groups"]
    except (httpx.TransportError, KeyError, ValueError):
        return False
    healths = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    scraped = {one["metric"]["job"]: one["value"][1] for one in found}
    return scraped == {"api": "1", "gone": "0"} and healths == {"ApiDown": "ok", "broken": "err"}


def monitoring(prometheus: str, **settings: Any) -> ReleaseCheck:
    return check_monitoring(preflight_for(monitoring={"prometheus": prometheus, **settings}))


def test_a_real_prometheus_is_read_as_its_api_answers(prometheus: str) -> None:
    assert monitoring(prometheus, rules=["ApiDown"], jobs=["api"]).state == "passed"
    check = monitoring(prometheus, rules=["ApiDown", "Other", "broken"], jobs=["gone", "none"])
    assert check.state == "failed"
    assert "rule Other is not loaded" in check.found
    assert "rule broken is err: " in check.found
    assert "job gone: 1 of 1 targets down: 127.0.0.1:9" in check.found
    assert "job none has no target" in check.found


def test_a_real_prometheus_gives_a_baseline(prometheus: str) -> None:
    queries = [{"name": "up", "query": 'up{job="api"}'}, {"name": "nothing", "query": "no_such_metric"}]

    def look(count: int) -> ReleaseCheck:
        tables = {
            "monitoring": {"prometheus": prometheus},
            "baseline": {"queries": queries[:count], "hours": 1, "samples": 1},
        }
        return check_baseline(preflight_for(clock=lambda: datetime.now(UTC), **tables))

    # The query ends at a whole second, which may lie before the first scrape.
    wait_until(lambda: look(1).state == "passed", "a whole second has passed since the first scrape")
    assert "nothing has 0 numbers in 1 h" in look(2).found
    mistaken = [{"name": "wrong", "query": "rate("}]
    tables = {"monitoring": {"prometheus": prometheus}, "baseline": {"queries": mistaken}}
    check = check_baseline(preflight_for(**tables))
    assert (check.state, "parse error" in check.found) == ("failed", True)
