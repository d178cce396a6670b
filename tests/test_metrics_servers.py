"""`nightshift metrics` with the real programs: a Prometheus that scrapes it and knows the rules, a Pushgateway, promtool's linter; and how it ends."""

import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import pytest
from typer.testing import CliRunner

from core.keys import evidence_head_key
from tasks.metrics_registry import PATIENCE_SECONDS
from tasks.prometheus import PrometheusClient
from tests.fix_metrics import Metered, names_of, told, value, write_environment
from tests.fix_nightly import Night
from tests.fix_object_store import FaultProxy, S3Server
from tests.fix_platform import CHECKOUT, start_nightshift
from tests.fix_prometheus import run_prometheus
from tests.fix_pushgateway import page
from tests.leave_out import leave_out
from tests.test_metrics_command import app, fill
from tests.test_metrics_command import run as run_metrics
from tests.waiting import wait_until

pytestmark = pytest.mark.services
RULES = CHECKOUT / "deployments" / "observability" / "nightshift-rules.yml"


@contextmanager
def serving(*names: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`nightshift metrics` as a process, and the address that it serves."""
    process = start_nightshift("metrics", *names, "--listen", "127.0.0.1:0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/metrics", line)
        assert found is not None, line + (
            process.stderr.read() if process.stderr and process.poll() is not None else ""
        )
        yield process, found.group()
    finally:
        process.kill()
        process.communicate()


@contextmanager
def deaf_server() -> Iterator[str]:
    """An address where connections are taken and nothing is ever answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_real_prometheus_scrapes_two_environments_and_alerts_on_the_one_that_cannot_be_read(
    metered: Metered, s3_faults: FaultProxy, s3_server: S3Server, tmp_path: Path
) -> None:
    fill(metered)
    write_environment(tmp_path, "broken", "no-such-bucket", s3_server.endpoint)
    with serving("local", "broken") as (_, address):
        target = address.removeprefix("http://").removesuffix("/metrics")
        document = {
            # Time enough for a page beside other tests: after a scrape that failed Prometheus knows nothing until the next one.
            "global": {"scrape_interval": "5s", "scrape_timeout": "5s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "nightshift", "static_configs": [{"targets": [target]}]}],
        }
        begun = time.monotonic()
        page(address)
        s3_faults.requests.clear()
        with run_prometheus(tmp_path, document) as server, PrometheusClient(server) as client:

            def ask(query: str) -> dict[str, float]:
                return {one.labels.get("environment", ""): one.value for one in client.query(query, time.time())}

            wait_until(lambda: ask("nightshift_up") == {"local": 1, "broken": 0}, "both were scraped", seconds=60)
            age = "time() - nightshift_recovery_point_timestamp_seconds"
            before = ask(age)["local"]
            assert before == pytest.approx(0.2 * 86400, abs=300)
            wait_until(lambda: ask(age).get("local", 0) > before + 2, "the age grows by itself")
            pending = 'ALERTS{alertname="NightshiftCannotReadBucket",alertstate="pending"}'
            wait_until(lambda: ask(pending) == {"broken": 1}, "the alert is pending", seconds=60)
            assert ask('ALERTS{alertname="NightshiftMetricsGone"}') == {}
            assert (
                ask("sum by (environment) (ALERTS{alertname=~'RecoveryPointTooOld|NoBackup|ProofTooOld|DrillFailed'})")
                == {}
            )
        # Scraped each five seconds, and read once a minute at most: the first look was before.
        minutes = int((time.monotonic() - begun) // 60)
        assert s3_faults.count("GET", evidence_head_key("local")) <= minutes
        assert minutes or s3_faults.requests == []


def test_what_is_served_passes_promtools_linter(metered: Metered) -> None:
    program = shutil.which("promtool")
    if program is None:
        leave_out("no promtool")
    fill(metered)
    text = run_metrics("local").stdout
    done = subprocess.run(
        [program, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_many_scrapes_at_once_are_answered_by_one_look(metered: Metered, s3_faults: FaultProxy) -> None:
    fill(metered)
    with serving("local") as (_, address):
        s3_faults.requests.clear()
        with ThreadPoolExecutor(20) as pool:
            pages = list(pool.map(page, [address] * 40))
        assert {value(told(one), "up", environment="local") for one in pages} == {1}
        assert s3_faults.count("GET", evidence_head_key("local")) == 1


def test_sigterm_ends_it_though_a_bucket_does_not_answer_and_the_other_environment_is_told_meanwhile(
    metered: Metered, tmp_path: Path
) -> None:
    fill(metered)
    with deaf_server() as endpoint:
        write_environment(tmp_path, "deaf", "some-bucket", endpoint)
        with serving("local", "deaf") as (process, address):
            began = time.monotonic()
            found = told(page(address))
            # Prometheus gives up after ten seconds; the rest is what a busy machine may take beside the waiting.
            assert PATIENCE_SECONDS < 9
            assert time.monotonic() - began < 2 * PATIENCE_SECONDS
            assert (value(found, "up", environment="local"), value(found, "up", environment="deaf")) == (1, 0)
            scrape = threading.Thread(target=lambda: _ignored(address), daemon=True)
            scrape.start()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM
            assert "Traceback" not in (process.stderr.read() if process.stderr else "")


def test_a_gateway_keeps_a_group_for_each_environment_and_a_broken_one_loses_what_was_known(
    metered: Metered, s3_faults: FaultProxy, s3_server: S3Server, tmp_path: Path, pushgateway: str
) -> None:
    fill(metered)
    write_environment(tmp_path, "other", metered.keeping.store.bucket, s3_server.endpoint)
    assert run_metrics("local", "other", "--push", pushgateway).exit_code == 0
    found = told(page(f"{pushgateway}/metrics"))
    pushed = {name for name, labels in found if {("job", "nightshift"), ("environment", "local")} <= labels}
    assert "nightshift_recovery_point_timestamp_seconds" in pushed
    s3_faults.refuse("GET", "/evidence-head.json", times=100, status=403)
    result = run_metrics("local", "other", "--push", f"{pushgateway}/")
    assert result.exit_code == 1
    found = told(page(f"{pushgateway}/metrics"))
    own = {name for name in names_of(found, "local") if name.startswith("nightshift_")}
    assert own == {"nightshift_up", "nightshift_build_info"}
    assert found["nightshift_up", frozenset({("environment", "local"), ("job", "nightshift"), ("instance", "")})] == 0
    assert "nightshift_recovery_point_objective_seconds" in names_of(found, "other")


def test_what_is_no_gateway_is_told(metered: Metered, pushgateway: str) -> None:
    result = CliRunner().invoke(app, ["local", "--push", f"{pushgateway}/nowhere"])
    assert "HTTP 404" in str(result.exception)


@pytest.mark.xdist_group("prefect")
def test_a_real_backup_and_a_real_drill_are_told_and_the_database_without_one_is_not(night: Night) -> None:
    assert night.run(databases=["first"]).is_completed()
    assert night.drill(databases=["first"]).is_completed()
    result = run_metrics("night")
    assert result.exit_code == 0, result.output
    found = told(result.stdout)
    first, second = ({"environment": "night", "database": name} for name in ("first", "second"))
    assert value(found, "backup_rows", **first) == 500
    assert value(found, "backups", **first, state="proven") == 1
    assert value(found, "recovery_point_timestamp_seconds", **first) == value(found, "proof_timestamp_seconds", **first)
    assert value(found, "recovery_point_timestamp_seconds", **second) is None
    for flow in ("nightly-backup", "dr-drill"):
        assert value(found, "flow_last_success_timestamp_seconds", **first, flow=flow) is not None
        assert value(found, "flow_last_success_timestamp_seconds", **second, flow=flow) is None
    phases = {dict(labels)["phase"] for name, labels in found if name == "nightshift_drill_recovery_seconds"}
    assert phases >= {"fetch", "restore", "verify"}
    assert value(found, "distrusted_objects", environment="night", kind="evidence") == 0


def _ignored(address: str) -> None:
    try:
        page(address)
    except (OSError, HTTPError):
        return
