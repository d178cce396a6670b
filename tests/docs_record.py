"""Which test runs each command of README and docs/, and what is not run here, with the reason.

A command stands here by its form: what a reader replaces (environments, versions, ids, reasons) is a word in capitals, so that the same command with another
example is the same form. A command whose form is in neither table fails test_docs_commands, and so does a form that no page has any more.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.docs_pages import CHECKOUT, Command

# What test_docs_read leaves for the end of the run, where it is told (conftest).
TOLD = CHECKOUT / ".nightshift" / "docs-commands.txt"

_ENVIRONMENTS = {"production", "staging", "mine", "local", "NAME", "ENV", "<environment>"}
# The word before, and what the one after it is called.
_GIVEN = {
    "--commit": "SHA",
    "--reason": "TEXT",
    "--decision": "WAY",
    "--release": "RELEASE",
    "--frontend": "FRONTEND",
    "--notify": "BLOCK",
}


def form_of(command: Command) -> str:
    """Given a command as a page has it, return its form."""
    words = [command.program, *command.words[1:]]
    if words[0] != "nightshift":
        return " ".join(words)
    form: list[str] = []
    for word in words:
        before = form[-1] if form else ""
        if before in _GIVEN:
            form.append(_GIVEN[before])
        elif word in _ENVIRONMENTS:
            form.append("ENV")
        elif form[:3] == ["nightshift", "release", "ENV"] and len(form) == 3 and not word.startswith("-"):
            form.append("IMAGE")
        else:
            form.append("RELEASE" if re.match(r"[rb]-", word) else word)
    return " ".join(form)


# tests/test_docs_read.py: typed at bash, in the pages' order.
READ = frozenset({
    ". .nightshift/server/client.env",
    ". .venv/bin/activate",
    "aws ecr put-image-tag-mutability --repository-name api --image-tag-mutability IMMUTABLE",
    "aws iam create-open-id-connect-provider --url https://token.actions.githubusercontent.com --client-id-list sts.amazonaws.com",
    "aws iam create-role --role-name github-push-api --assume-role-policy-document file://deployments/github/ecr-trust-policy.json",
    "aws iam put-role-policy --role-name github-push-api --policy-name push --policy-document file://deployments/github/ecr-push-policy.json",
    "cat 0*.zst",
    "cd deployments/compose",
    "cp deployments/systemd/nightshift.service /etc/systemd/system/",
    "cp example.env .env",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api PREFECT_API_AUTH_STRING=user:password",
    "export PREFECT_API_URL=https://prefect.example.com/api PREFECT_API_AUTH_STRING=user:password",
    "make install",
    "make up",
    "nightshift automations",
    "nightshift backup ENV",
    "nightshift backup ENV --database app",
    "nightshift catalog ENV",
    "nightshift check ENV",
    "nightshift drill ENV",
    "nightshift drill ENV --backup before:2026-03-01T00:00:00Z",
    "nightshift drill ENV --read-from-copy",
    "nightshift evidence verify",
    "nightshift init ENV",
    "nightshift metrics ENV --push http://pushgateway.monitoring.svc:9091",
    "nightshift metrics ENV --textfile /var/lib/prometheus/node-exporter/nightshift.prom",
    "nightshift metrics ENV ENV",
    "nightshift metrics ENV ENV --listen 127.0.0.1:9464",
    "nightshift restore ENV ENV --dry-run",
    "nightshift restore ENV app --backup newest-decoded",
    "nightshift restore ENV app --backup newest-decoded --server new --target app",
    "nightshift restore ENV app --backup newest-decoded --server new --target app --dry-run",
    "nightshift restore ENV app --backup newest-decoded --swap",
    "nightshift restore ENV app --backup newest-decoded --target app",
    "nightshift restore ENV app --backup newest-proven --table public.invoices --table billing.*",
    "nightshift restore ENV app --backup newest-proven --target app_masked --masking /etc/nightshift/mask.sql",
    "nightshift restore ENV app --dry-run --backup newest-decoded",
    "nightshift status",
    "nightshift undo-swap ENV ID",
    "nightshift webhook --listen 127.0.0.1:8088",
    "openssl rand -hex 32",
    "pg_restore --dbname=NEW --no-owner",
    "prefect --no-prompt deploy --all",
    "prefect --no-prompt deploy --name */mine",
    "prefect variable set nightshift_pool _ecs",
    "prefect variable set nightshift_pool _kubernetes",
    "prefect work-pool create nightshift --type process",
    "prefect work-pool create nightshift_ecs --type ecs --base-job-template deployments/aws/ecs-job-template.json",
    "prefect work-pool create nightshift_kubernetes --type kubernetes --base-job-template deployments/kubernetes/job-template.json",
    "prefect worker start --pool nightshift",
    "prefect worker start --pool nightshift_ecs --type ecs",
    "promtool check rules deployments/observability/nightshift-rules.yml",
    "promtool test rules deployments/observability/nightshift-rules.test.yml",
    "promtool test rules deployments/observability/rules.test.yml",
    "systemctl enable --now nightshift",
    "useradd --system --home-dir /var/lib/nightshift nightshift",
    "zstd -d",
})  # fmt: skip

_INSTALLED = "cluster/test_docs_on_a_cluster, and cluster/test_kubernetes_installation with all that is shipped"
# Run where the first word says.
RUN_ELSEWHERE = {
    "make down": "test_machine: `nightshift down`, which it is",
    "make try": "test_platform: the platform that it starts",
    "nightshift --help": "test_command: lists every command",
    "nightshift automations --notify BLOCK": "test_automations",
    "nightshift up --port 4300 --listen 127.0.0.1:8090 --proxy 10.0.0.7": "test_machine: with other ports",
    "nightshift down --wait 3600": "test_machine: with --wait 0",
    "python -m deployments.local.prefect_database": "test_machine: beside the running server",
    "prefect flow-run delete 0d5e6a5e-3c5c-4a55-9d5f-0f6d2f0e7f11": "test_machine: a run of its own",
    "prefect server database upgrade -y": "fix_distributed: before the servers start",
    "export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs": "test_docs_commands: Prefect knows the setting; nothing is pruned by it",
    "export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=7776000": "test_docs_commands: as the line before",
    "nightshift judge COUNTS.csv --path": "test_judge_command: in the test's process",
    "nightshift watches ENV": "test_watches_command: in the test's process",
    "nightshift release ENV IMAGE --commit SHA": "cluster/test_release_platform: through server and worker",
    "nightshift release ENV IMAGE --commit SHA --dry-run": "test_release_commands and test_release_dry_run: command and flow apart",
    "nightshift release ENV IMAGE --commit SHA --frontend FRONTEND": "test_release_commands and test_release_frontend: command and flow apart",
    "nightshift release ENV IMAGE --commit SHA --frontend FRONTEND --dry-run": "as the line before",
    "nightshift release ENV IMAGE --commit SHA --strategy blue-green --adopt": "cluster/test_colours: the flow",
    "nightshift release ENV IMAGE --commit SHA --strategy blue-green --adopt --dry-run": "as the line before",
    "nightshift rollback ENV --reason TEXT": "test_release_commands and test_release_taken_back: command and flow apart",
    "nightshift rollback ENV --release RELEASE --reason TEXT": "as the line before",
    "nightshift release-recovery ENV": "test_release_commands and test_release_recovery: command and flow apart",
    "nightshift release-recovery ENV RELEASE --decision WAY --reason TEXT": "as the line before",
    "nightshift releases ENV": "test_release_commands: in the test's process",
    "nightshift app-state-backup ENV": "test_app_state_platform: through server and worker",
    "nightshift app-state-backup ENV --drill": "test_app_state_platform: through server and worker",
    "openssl genpkey -algorithm ed25519": "test_docs_commands: makes a key",
    "prefect server start --no-services": "test_high_availability: two of them, behind a balancer",
    "prefect server services start": "test_high_availability: two of them",
    "kubectl --namespace nightshift create configmap nightshift-environments --from-file=deployments/environments": _INSTALLED,
    "kubectl -n production get pods": "cluster/test_docs_on_a_cluster",
    "kubectl --namespace nightshift rollout status deployment/nightshift-server": _INSTALLED,
    "kubectl --namespace nightshift port-forward service/nightshift-server 4200": _INSTALLED,
    "kubectl apply -k deployments/kubernetes": "cluster/test_kubernetes_installation: as `kubectl kustomize`, whose objects the test makes in a namespace of its own",
}

_DOCKER = "no docker where the tests run: test_image_files holds its files to their schema and to hadolint"
_ITSELF = "the tests, run by a test of theirs, would not end; `make -n` says what it would do"
_BENCHMARK = "minutes on a quiet machine; its options are looked up"
_VELERO = "another project's program, which Debian lacks, on a cluster with a real Velero and its bucket"
# Not run by any test, and why.
NOT_RUN = {
    "make demo": "a minute of two cores; its parts are tested one by one, and `make -n` says what it would do",
    "git pull --rebase --autostash": "the upgrade as a whole is test_machine's, without a new version to pull; tried by hand",
    "prefect --no-prompt deploy --name */production": "the same with */mine is typed by test_docs_read",
    "cp .nightshift/server/backups/prefect-3.8.8-2026-11-27T02-00-00-000000Z.db .nightshift/server/prefect/prefect.db": "test_machine opens the copy",
    "rm -f .nightshift/server/prefect/prefect.db-wal .nightshift/server/prefect/prefect.db-shm": "as the line before",
    "apt-get install make git python3.11-venv": "changes the machine that the tests run on; tests/services/install.sh calls apt-get the same way",
    "make demo-release": "takes a cluster for minutes: cluster/test_demo_release runs `nightshift demo-release`",
    "make lint": _ITSELF,
    "make test": _ITSELF,
    "make test-services": _ITSELF,
    "make test-cluster": _ITSELF,
    "make test-platform": _ITSELF,
    "docker build -t nightshift:0.1.0 .": _DOCKER,
    "docker compose up --detach --wait": _DOCKER,
    "docker compose exec worker prefect --no-prompt deploy --prefect-file /opt/nightshift/prefect.yaml --name */production": _DOCKER,
    "docker compose exec worker nightshift automations": _DOCKER,
    "velero backup describe NAME --details -n velero": _VELERO,
    "velero backup logs NAME -n velero": _VELERO,
    "velero backup get -n velero": _VELERO,
    "velero restore create --from-backup NAME --include-namespaces production -n velero --wait": _VELERO,
    "python -m benchmarks.backup --mib 1024 --pairs 5": _BENCHMARK,
    "python -m benchmarks.retention --backups 100000": _BENCHMARK,
    "python -m benchmarks.restore --mib 1024 --pairs 5": _BENCHMARK,
    "python -m benchmarks.release --pairs 5": _BENCHMARK,
    "python -m benchmarks.judgement --days 4000": _BENCHMARK,
    "python -m benchmarks.watch --ticks 7": _BENCHMARK,
    "python -m benchmarks.webhook --seconds 30": _BENCHMARK,
    "python -m benchmarks.fleet": _BENCHMARK,
}


def tell(ran: Iterable[tuple[str, str, str]], file: Path = TOLD) -> None:
    """Given every line that was typed, as its page has it and as it was typed, write which commands ran, which others do, and which none does."""
    lines = [
        f"ran       {page}: {line}" + (f"\n    typed {typed}" if typed != line else "") for page, line, typed in ran
    ]
    lines += [f"elsewhere {form}: {where}" for form, where in RUN_ELSEWHERE.items()]
    lines += [f"NOT RUN   {form}: {why}" for form, why in NOT_RUN.items()]
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
