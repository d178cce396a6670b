"""The pages' commands as a reader types them, in a fresh checkout: quick start, backup, drill, restore, observability, webhook, kubernetes, GitHub Actions."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from tests.docs_pages import lines_of
from tests.fix_machine import webhook_settings
from tests.fix_reader import Reader
from tests.fix_reader_home import Home, image
from tests.leave_out import leave_out
from tests.ports import free_port

pytestmark = [pytest.mark.services, pytest.mark.platform, pytest.mark.timeout(1500), pytest.mark.xdist_group("reader")]


def test_the_nights_of_the_quick_start(home: Home) -> None:
    reader = home.reader
    reader.types("quickstart.md", ". .nightshift/server/client.env")
    reader.types("quickstart.md", "prefect --no-prompt deploy --name '*/mine'")


def test_backup(home: Home) -> None:
    reader = home.reader
    reader.types("backup.md", "nightshift backup production")
    reader.types("backup.md", "nightshift catalog production")
    reader.types("backup.md", "nightshift backup production --database app")
    export = "export PREFECT_API_URL=https://prefect.example.com/api PREFECT_API_AUTH_STRING=user:password"
    own = {"https://prefect.example.com/api": home.api_url, "user:password": home.server.auth_string()}
    reader.types("backup.md", export, stands_for=own)
    # `make up` has made the pool.
    assert "already exists" in reader.types(
        "backup.md", ".venv/bin/prefect work-pool create nightshift --type process", code=1
    )
    reader.types("backup.md", ".venv/bin/prefect --no-prompt deploy --all", seconds=580)
    with reader.goes_on("backup.md", ".venv/bin/prefect worker start --pool nightshift") as worker:
        worker.until("Worker 'ProcessWorker")
    # What lies in the bucket, as files, without nightshift.
    folder = home.newest_dump(reader.root / "dump")
    home.postgres.execute("postgres", "CREATE DATABASE by_hand")
    own = {"pg_restore --dbname=NEW": f"{home.postgres.bin}/pg_restore --dbname='{home.postgres.conninfo('by_hand')}'"}
    reader.shell(f"cd {folder}")
    reader.types("backup.md", "cat 0*.zst | zstd -d | pg_restore --dbname=NEW --no-owner", stands_for=own)
    reader.shell(f"cd {reader.checkout}")
    with home.postgres.connect("by_hand") as session:
        assert session.execute("SELECT count(*) FROM orders").fetchone() == (500,)


def test_drill(home: Home) -> None:
    reader = home.reader
    reader.types("drill.md", "nightshift drill production")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = "nightshift drill production --backup before:2026-03-01T00:00:00Z"
    reader.types("drill.md", line, stands_for={"2026-03-01T00:00:00Z": tomorrow})
    newest = max(key.partition("/dump/")[0] for key in home.objects() if "/dump/" in key).rpartition("/")[2]
    reader.types("drill.md", "nightshift drill production --backup ID", stands_for={"ID": newest})
    home.copy_bucket()
    reader.types("drill.md", "nightshift drill production --read-from-copy")
    reader.types(
        "concepts.md",
        "nightshift evidence verify",
        stands_for={"nightshift evidence verify": "nightshift evidence verify mine"},
    )


def test_restore(home: Home) -> None:
    reader, page = home.reader, "restore.md"
    admin = {
        "host": "127.0.0.1",
        "port": home.postgres.port,
        "user": home.postgres.superuser,
        "password": "env:READERS_ADMIN_PASSWORD",
    }
    home.add(servers={"new": admin})
    reader.types(page, "nightshift catalog production")
    reader.types(
        "quickstart.md",
        "nightshift restore mine NAME --dry-run",
        stands_for={"NAME --dry-run": "app --dry-run --backup newest-decoded"},
    )
    reader.types(page, "nightshift restore production app --dry-run --backup newest-decoded")
    reader.types(page, "nightshift restore production app --backup newest-decoded")
    reader.types(page, "nightshift restore production app --backup newest-decoded --target app")
    assert home.rows("app") == 500
    reader.types(page, "make install && . .venv/bin/activate")
    assert "it runs already" in reader.types(page, "make up", stands_for=reader.up)
    again = {"--target app": "--target app_again"}
    line = "nightshift restore production app --backup newest-decoded --server new --target app"
    reader.types(page, f"{line} --dry-run", stands_for=again)
    reader.types(page, line, stands_for=again)
    assert home.rows("app_again") == 500
    reader.types(
        page, "nightshift restore production app --backup newest-proven --table public.invoices --table 'billing.*'"
    )
    masking = reader.root / "mask.sql"
    masking.write_text("UPDATE orders SET what = 'x';")
    line = (
        "nightshift restore staging app --backup newest-proven --target app_masked --masking /etc/nightshift/mask.sql"
    )
    reader.types(page, line, stands_for={"staging": "mine", "/etc/nightshift/mask.sql": str(masking)})
    assert home.rows("app_masked", "what = 'x'") == 500


def test_swap_and_the_way_back(home: Home) -> None:
    reader, page = home.reader, "restore.md"
    answer = {"database_name": "shop", "approver": "Ada", "reason": "INC-7"}
    reader.types(page, "nightshift restore production app --backup newest-decoded --swap", code=3)
    [run] = home.runs("restore")[:1]
    home.resumes(run, answer)
    [old] = [name for name in home.databases() if name.startswith("shop_before_")]
    restore_id = old.removeprefix("shop_before_")
    reader.types(page, "nightshift undo-swap production ID", code=3, stands_for={"ID": restore_id})
    home.resumes(home.runs("undo-swap")[0], answer)
    assert f"shop_undone_{restore_id}" in home.databases()


def test_observability(home: Home, pushgateway: str) -> None:
    reader, page = home.reader, "observability.md"
    # The reader has one environment.
    one = {"production staging": "mine"}
    assert "nightshift_" in reader.types(page, "nightshift metrics production staging", stands_for=one)
    port = free_port()
    line = "nightshift metrics production staging --listen 127.0.0.1:9464"
    with reader.goes_on(page, line, stands_for={**one, "9464": str(port)}) as exporter:
        exporter.until_it_answers(f"http://127.0.0.1:{port}/metrics")
    line = "nightshift metrics production --push http://pushgateway.monitoring.svc:9091"
    reader.types(page, line, stands_for={"http://pushgateway.monitoring.svc:9091": pushgateway})
    folder = "/var/lib/prometheus/node-exporter"
    line = f"nightshift metrics production --textfile {folder}/nightshift.prom"
    reader.types(page, line, stands_for={folder: str(reader.root)})
    assert "nightshift_" in (reader.root / "nightshift.prom").read_text()
    reader.types(page, "promtool check rules deployments/observability/nightshift-rules.yml")
    reader.types(page, "promtool test rules deployments/observability/nightshift-rules.test.yml")
    reader.types("watch.md", "promtool test rules deployments/observability/rules.test.yml")


def test_webhook(home: Home) -> None:
    reader, page = home.reader, "webhook.md"
    secret = reader.types(page, "openssl rand -hex 32").strip()
    reader.shell(f"export NIGHTSHIFT_TEST_HOOK_SECRET={secret}")
    home.add(webhook=webhook_settings(image("v2").rpartition("@")[2]))
    port = free_port()
    with reader.goes_on(page, "nightshift webhook --listen 127.0.0.1:8088", stands_for={"8088": str(port)}) as receiver:
        receiver.until_it_answers(f"http://127.0.0.1:{port}/healthz")
    home.drop("webhook")


def test_kubernetes_and_ecs_on_the_server(home: Home) -> None:
    reader, page = home.reader, "kubernetes.md"
    export = "export PREFECT_API_URL=http://127.0.0.1:4200/api PREFECT_API_AUTH_STRING=user:password"
    reader.types(
        page, export, stands_for={"http://127.0.0.1:4200/api": home.api_url, "user:password": home.server.auth_string()}
    )
    for pool, template in (
        ("kubernetes", "deployments/kubernetes/job-template.json"),
        ("ecs", "deployments/aws/ecs-job-template.json"),
    ):
        reader.types(page, f"prefect work-pool create nightshift_{pool} --type {pool} --base-job-template {template}")
        reader.types(page, f"prefect variable set nightshift_pool _{pool}", code=0 if pool == "kubernetes" else 1)
    reader.types(page, "prefect --no-prompt deploy --all", seconds=580)
    reader.types(page, "nightshift automations")
    with amazon(reader), reader.goes_on(page, "prefect worker start --pool nightshift_ecs --type ecs") as worker:
        worker.until("Worker 'ECSWorker")
    reader.types(page, "cd deployments/compose")
    reader.types(page, "cp example.env .env")
    reader.shell(f"cd {reader.checkout}")
    reader.shell("prefect variable unset nightshift_pool; prefect --no-prompt deploy --all", seconds=580)


def test_github_actions(home: Home) -> None:
    reader, page = home.reader, "github-actions.md"
    if shutil.which("aws") is None:
        leave_out("no aws; test_docs_commands holds the same commands to AWS' own description of them")
    with amazon(reader) as endpoint:
        # Debian's knows no variable for it.
        moto = f"aws --endpoint-url {endpoint}"
        made = reader.shell(f"{moto} ecr create-repository --repository-name api")
        assert made.returncode == 0, made.stderr
        for line in lines_of(page):
            if line.startswith("aws "):
                reader.types(page, line, stands_for={"aws iam": f"{moto} iam", "aws ecr": f"{moto} ecr"})


@contextmanager
def amazon(reader: Reader) -> Iterator[str]:
    """A stand-in for AWS, whose account the reader's terminal has; its address."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    account = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    try:
        reader.shell("export " + " ".join(f"{name}={value}" for name, value in account.items()))
        yield account["AWS_ENDPOINT_URL"]
    finally:
        reader.shell("unset " + " ".join(account))
        server.stop()
