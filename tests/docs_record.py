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


# tests/test_docs_read*.py: typed at bash, in a fresh checkout.
READ = frozenset({
    ". .nightshift/server/client.env",
    ". .venv/bin/activate",
    "apt-get install make git python3.11-venv",
    "apt-get install make python3.11-venv",
    "apt-get install postgresql-client-N",
    "aws ecr put-image-tag-mutability --repository-name api --image-tag-mutability IMMUTABLE",
    "aws iam create-open-id-connect-provider --url https://token.actions.githubusercontent.com --client-id-list sts.amazonaws.com",
    "aws iam create-role --role-name github-push-api --assume-role-policy-document file://deployments/github/ecr-trust-policy.json",
    "aws iam put-role-policy --role-name github-push-api --policy-name push --policy-document file://deployments/github/ecr-push-policy.json",
    "cat 0*.zst",
    "cd deployments/compose",
    "cp .nightshift/server/backups/prefect-3.8.8-2026-11-27T02-00-00-000000Z.db .nightshift/server/prefect/prefect.db",
    "cp deployments/systemd/nightshift.service /etc/systemd/system/",
    "cp example.env .env",
    "export PREFECT_API_URL=http://127.0.0.1:4200/api PREFECT_API_AUTH_STRING=user:password",
    "export PREFECT_API_URL=https://prefect.example.com/api PREFECT_API_AUTH_STRING=user:password",
    "export PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs",
    "export PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD=7776000",
    "git add prefect.yaml",
    "git checkout --conflict=diff3 prefect.yaml",
    "git checkout --merge ORIG_HEAD",
    "git checkout --merge main",
    "git pull --rebase --autostash",
    "git stash drop",
    "make down",
    "make install",
    "make lint",
    "make test",
    "make test-cluster",
    "make up",
    "nightshift --help",
    "nightshift app-state-backup ENV",
    "nightshift app-state-backup ENV --drill",
    "nightshift automations",
    "nightshift automations --notify BLOCK",
    "nightshift backup ENV",
    "nightshift backup ENV --database app",
    "nightshift catalog ENV",
    "nightshift check ENV",
    "nightshift down --wait 3600",
    "nightshift drill ENV",
    "nightshift drill ENV --backup ID",
    "nightshift drill ENV --backup before:2026-03-01T00:00:00Z",
    "nightshift drill ENV --read-from-copy",
    "nightshift evidence verify",
    "nightshift init ENV",
    "nightshift judge COUNTS.csv --path",
    "nightshift metrics ENV --push http://pushgateway.monitoring.svc:9091",
    "nightshift metrics ENV --textfile /var/lib/prometheus/node-exporter/nightshift.prom",
    "nightshift metrics ENV ENV",
    "nightshift metrics ENV ENV --listen 127.0.0.1:9464",
    "nightshift release ENV IMAGE --commit SHA",
    "nightshift release ENV IMAGE --commit SHA --dry-run",
    "nightshift release ENV IMAGE --commit SHA --frontend FRONTEND",
    "nightshift release ENV IMAGE --commit SHA --frontend FRONTEND --dry-run",
    "nightshift release ENV IMAGE --commit SHA --strategy blue-green --adopt",
    "nightshift release ENV IMAGE --commit SHA --strategy blue-green --adopt --dry-run",
    "nightshift release-recovery ENV",
    "nightshift release-recovery ENV RELEASE --decision WAY --reason TEXT",
    "nightshift releases ENV",
    "nightshift restore ENV ENV --dry-run",
    "nightshift restore ENV app --backup newest-decoded",
    "nightshift restore ENV app --backup newest-decoded --server new --target app",
    "nightshift restore ENV app --backup newest-decoded --server new --target app --dry-run",
    "nightshift restore ENV app --backup newest-decoded --swap",
    "nightshift restore ENV app --backup newest-decoded --target app",
    "nightshift restore ENV app --backup newest-proven --table public.invoices --table billing.*",
    "nightshift restore ENV app --backup newest-proven --target app_masked --masking /etc/nightshift/mask.sql",
    "nightshift restore ENV app --dry-run --backup newest-decoded",
    "nightshift rollback ENV --reason TEXT",
    "nightshift rollback ENV --release RELEASE --reason TEXT",
    "nightshift status",
    "nightshift undo-swap ENV ID",
    "nightshift up --port 4300 --listen 127.0.0.1:8090 --proxy 10.0.0.7",
    "nightshift watches ENV",
    "nightshift webhook --listen 127.0.0.1:8088",
    "openssl genpkey -algorithm ed25519",
    "openssl rand -hex 32",
    "pg_restore --dbname=NEW --no-owner",
    "prefect --no-prompt deploy --all",
    "prefect --no-prompt deploy --name */mine",
    "prefect --no-prompt deploy --name */production",
    "prefect flow-run delete 0d5e6a5e-3c5c-4a55-9d5f-0f6d2f0e7f11",
    "prefect server database upgrade -y",
    "prefect server services start",
    "prefect server start --no-services",
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
    "python -m benchmarks.backup --mib 1024 --pairs 5",
    "python -m benchmarks.fleet",
    "python -m benchmarks.judgement --days 4000",
    "python -m benchmarks.restore --mib 1024 --pairs 5",
    "python -m benchmarks.retention --backups 100000",
    "python -m benchmarks.server",
    "python -m benchmarks.watch --ticks 7",
    "python -m benchmarks.webhook --seconds 30",
    "python -m deployments.environment_reference",
    "python -m deployments.local.prefect_database",
    "rm -f .nightshift/server/prefect/prefect.db-wal .nightshift/server/prefect/prefect.db-shm",
    "sqlite3 prefect.db VACUUM",
    "sudo -u nightshift NIGHTSHIFT_DATA=/var/lib/nightshift /opt/nightshift/.venv/bin/nightshift status",
    "systemctl enable --now nightshift",
    "useradd --system --home-dir /var/lib/nightshift nightshift",
    "zstd -d",
})  # fmt: skip

# Run where the first word says; by test_docs_first_steps, test_docs_on_a_cluster and test_demo_release typed in the same way.
RUN_ELSEWHERE = {
    "make demo": "test_docs_first_steps: in a checkout of its own",
    "make try": "test_docs_first_steps: in a checkout of its own",
    "kubectl --namespace nightshift create configmap nightshift-environments --from-file=deployments/environments": "cluster/test_docs_on_a_cluster",
    "kubectl -n production get pods": "cluster/test_docs_on_a_cluster",
    "kubectl --namespace nightshift rollout status deployment/nightshift-server": "cluster/test_docs_on_a_cluster",
    "kubectl --namespace nightshift port-forward service/nightshift-server 4200": "cluster/test_docs_on_a_cluster",
    "kubectl apply -k deployments/kubernetes": "cluster/test_docs_on_a_cluster",
    "kubectl apply -f namespace.yaml -f network-policies.yaml …": "cluster/test_docs_on_a_cluster",
    "kubectl apply -f deployments/kubernetes/drill-pods.yaml": "cluster/test_docs_on_a_cluster",
    "kubectl create namespace nightshift": "cluster/test_docs_on_a_cluster",
    "kubectl -n production get deployments": "cluster/test_docs_on_a_cluster",
    "kubectl -n production rollout undo deployment/hello-green": "cluster/test_docs_on_a_cluster",
    "kubectl -n production rollout undo deployment/api-server": "cluster/test_docs_on_a_cluster",
    "kubectl -n nightshift delete configmap nightshift-r-…": "cluster/test_docs_on_a_cluster",
    'kubectl -n nightshift patch lease nightshift-production --type merge --patch {"spec":{"holderIdentity":""}}': "cluster/test_docs_on_a_cluster",
    "kubectl -n velero get backupstoragelocations": "cluster/test_docs_on_a_cluster",
    "kubectl -n velero get pods": "cluster/test_docs_on_a_cluster",
    "make demo-release": "cluster/test_demo_release",
    "python -m benchmarks.release --pairs 5": "cluster/test_docs_on_a_cluster: --pairs 1",
}

# docs/kubernetes.md tells what was tried by hand.
_DOCKER = "wants images of Docker Hub, and compose 2.24, which Debian lacks: test_image_files holds its files to their schema and to hadolint"
_VELERO = "another project's program, which Debian lacks, on a cluster with a real Velero and its bucket"
_GITHUB = "GitHub's program, and a repository there"
_VERCEL = "Vercel's program, and an account there"
# Not run by any test, and why.
NOT_RUN = {
    "docker build -t nightshift:0.1.0 .": _DOCKER,
    "docker compose up --detach --wait": _DOCKER,
    "docker compose down": _DOCKER,
    "docker compose exec worker prefect --no-prompt deploy --prefect-file /opt/nightshift/prefect.yaml --name */production": _DOCKER,
    "docker compose exec worker nightshift automations": _DOCKER,
    "docker compose --profile webhook up --detach": _DOCKER,
    "docker compose -f compose.yaml -f compose.development.yaml up --detach --wait": _DOCKER,
    "make test-services": "test_docs_commands looks up the target; `make test` and `make test-cluster` are typed, with few tests or their names alone",
    "make test-platform": "as the line before",
    "bash .ci/run": "it is what runs the tests",
    "gh api repos/acme/api --jq .id": _GITHUB,
    "gh api repos/acme/api/actions/oidc/customization/sub": _GITHUB,
    "npm install --save-dev vercel": _VERCEL,
    "vercel deploy --prebuilt --prod --skip-domain": _VERCEL,
    "vercel rollback DEPLOYMENT": _VERCEL,
    "kubectl -n velero get datauploads,podvolumebackups": "kinds that a real Velero brings",
    "velero restore logs NAME-NAMESPACE-1": _VELERO,
    "velero backup describe NAME --details -n velero": _VELERO,
    "velero backup logs NAME -n velero": _VELERO,
    "velero backup get -n velero": _VELERO,
    "velero restore create --from-backup NAME --include-namespaces production -n velero --wait": _VELERO,
}

# What sentences only speak of, and tell nobody to type.
NAMES = frozenset({
    "kubectl exec",
    "kubectl expose",
    "kubectl patch",
    "kubectl port-forward",
    "kubectl rollout status",
    "kubectl set image",
})  # fmt: skip


def tell(ran: Iterable[tuple[str, str, str]], file: Path = TOLD) -> None:
    """Given every line that was typed, as its page has it and as it was typed, write which commands ran, which others do, and which none does."""
    lines = [
        f"ran       {page}: {line}" + (f"\n    typed {typed}" if typed != line else "") for page, line, typed in ran
    ]
    lines += [f"elsewhere {form}: {where}" for form, where in RUN_ELSEWHERE.items()]
    lines += [f"NOT RUN   {form}: {why}" for form, why in NOT_RUN.items()]
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(lines) + "\n")
