"""The scratch Pod on a real cluster: it comes, serves, gives a dump's code nothing, goes in any case, and says in one sentence why it does not come."""

import os
import secrets
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.environment import Environment
from core.errors import NightshiftError, PermanentError
from core.scratch_pod import SEEN_ANNOTATION
from tasks.clients import find_clients
from tasks.kubernetes_client import KubernetesClient
from tasks.postgres import connect, libpq_environment
from tasks.postgres_binaries import installed_servers
from tasks.scratch import open_scratch, sweep_scratch
from tasks.scratch_folder import SOCKET_PREFIX
from tests.fix_cluster import objects_of
from tests.fix_platform import CHECKOUT
from tests.fix_scratch import manifest_of, scratch_environment
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]
MAJOR = installed_servers()[0].major
# Seconds that a busy node may take to notice.
PATIENCE = 150.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.drill_pod._GONE_SECONDS", PATIENCE)


def environment_for(
    namespace: str, image: str, *, name: str = "local", require_isolation: bool = False, **pod: Any
) -> Environment:
    choice = {"namespace": namespace, "image": image, "memory": "512Mi", "cpu": "500m", "disk": "1Gi", **pod}
    return scratch_environment(name=name, scratch="pod", require_isolation=require_isolation, pod=choice)


def refused(environment: Environment, major: int = MAJOR) -> NightshiftError:
    """The error with which opening a scratch Pod ends."""
    with (
        pytest.raises(NightshiftError) as caught,
        open_scratch(environment, manifest_of(major), run_id="refused", work_parent=None),
    ):
        pass
    return caught.value


def test_a_pod_serves_sessions_and_pg_restore_and_goes_with_all_that_was_made_for_it(
    cluster: KubernetesClient, drill_namespace: str, postgres_image: str, tmp_path: Path
) -> None:
    environment = environment_for(drill_namespace, postgres_image)
    with open_scratch(
        environment, manifest_of(MAJOR, superusers=("boss",)), run_id="Run_1", work_parent=None
    ) as scratch:
        with connect(scratch.login, application_name="test") as connection:
            connection.execute(
                "CREATE TABLE public.t AS SELECT g AS a, repeat('x', 100) AS b FROM generate_series(1, 200000) AS g"
            )
            assert connection.execute(
                "SELECT current_user, current_setting('fsync'), current_setting('listen_addresses')"
            ).fetchone() == (
                "boss",
                "off",
                "127.0.0.1",
            )
        programs, variables = find_clients(MAJOR), libpq_environment(scratch.login)
        dump = tmp_path / "dump"
        subprocess.run([programs.pg_dump, "-Fc", "-Z0", "-f", dump], env=variables, check=True, timeout=120)
        with connect(scratch.login, application_name="test") as connection:
            connection.execute("CREATE DATABASE copy TEMPLATE template0")
        subprocess.run([programs.pg_restore, "-j2", "-d", "copy", dump], env=variables, check=True, timeout=120)
        with connect(scratch.login.model_copy(update={"name": "copy"}), application_name="test") as connection:
            assert connection.execute("SELECT count(*), sum(a) FROM public.t").fetchone() == (
                200000,
                200000 * 200001 // 2,
            )
        kinds = [item for item in objects_of(cluster, drill_namespace) if "data" in item or item.get("type")]
        # The Secret was removed as soon as the server had read it.
        assert kinds == []
    assert objects_of(cluster, drill_namespace) == []
    assert not Path(scratch.login.host).exists()
    assert (scratch.kind, scratch.indicative) == ("pod", True)


def test_a_dumps_code_finds_no_token_no_address_and_no_variable_in_the_pod(
    drill_namespace: str, postgres_image: str
) -> None:
    environment = environment_for(drill_namespace, postgres_image)
    script = (
        "env; ls /var/run/secrets; cat /var/run/secrets/kubernetes.io/serviceaccount/token; id -u; cat /scratch/api; "
        "touch /usr/x /etc/x && echo wrote; grep -E '^(NoNewPrivs|CapEff)' /proc/self/status; true"
    )
    with (
        open_scratch(environment, manifest_of(MAJOR), run_id="1", work_parent=None) as scratch,
        connect(scratch.login, application_name="test") as connection,
    ):
        connection.execute("CREATE TEMPORARY TABLE loot (line text)")
        connection.execute(
            f"COPY pg_temp.loot FROM PROGRAM $$ ({script}) 2>/dev/null $$ WITH (FORMAT csv, DELIMITER E'\\x01', QUOTE E'\\x02')".encode()
        )
        lines = [row[0] for row in connection.execute("SELECT line FROM pg_temp.loot").fetchall()]
    found = "\n".join(lines)
    assert "KUBERNETES" not in found
    assert "wrote" not in found
    assert "999" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "CapEff:\t0000000000000000" in lines
    # PostgreSQL adds its own (PG…, LC_…), the shell its few.
    names = {line.split("=")[0] for line in lines if "=" in line}
    assert {name for name in names if not name.startswith(("PG", "LC_"))} <= {"PATH", "PWD", "SHLVL", "_", "OLDPWD"}


def test_whether_the_network_is_closed_is_tried_not_believed(drill_namespace: str, postgres_image: str) -> None:
    # A cluster that enforces NetworkPolicy gives the one, a cluster that does not the other; never both, never neither.
    with open_scratch(
        environment_for(drill_namespace, postgres_image), manifest_of(MAJOR), run_id="1", work_parent=None
    ) as scratch:
        closed = any("tried from inside" in sentence for sentence in scratch.isolation)
        noted = any("does not enforce the NetworkPolicy" in note for note in scratch.notes)
    assert closed != noted
    if noted:
        error = refused(environment_for(drill_namespace, postgres_image, require_isolation=True))
        assert isinstance(error, PermanentError)
        assert "drill.require_isolation is set, and this cluster does not enforce" in str(error)


def test_an_image_that_cannot_be_pulled_is_named_with_the_cause(
    cluster: KubernetesClient, drill_namespace: str
) -> None:
    error = refused(environment_for(drill_namespace, "localhost/never-made:1"))
    assert isinstance(error, PermanentError)
    assert "its image cannot be pulled (ImagePullBackOff" in str(error)
    # A busy kubelet that still tries to pull lets such a Pod go after more than a minute: then its NetworkPolicy stays as long, and a later drill sweeps it.
    left = objects_of(cluster, drill_namespace)
    assert [item["metadata"]["name"] for item in left if "type" in item] == []
    assert all("deletionTimestamp" in item["metadata"] or "podSelector" in item["spec"] for item in left)


def test_a_pod_that_no_node_can_take_is_told_after_the_time_that_was_given(
    drill_namespace: str, postgres_image: str
) -> None:
    # Of memory alone there is too little, whoever else runs.
    error = refused(environment_for(drill_namespace, postgres_image, memory="900Gi", cpu="10m", start_seconds=10))
    assert (
        "not ready after 10 s: no node takes the Pod (Unschedulable: 0/1 nodes are available: 1 Insufficient memory"
        in str(error)
    )


def test_a_quota_is_told(cluster: KubernetesClient, drill_namespace: str, postgres_image: str) -> None:
    cluster.create(
        f"/api/v1/namespaces/{drill_namespace}/resourcequotas",
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "small"},
            "spec": {"hard": {"limits.memory": "1Mi"}},
        },
    )
    path = f"/api/v1/namespaces/{drill_namespace}/resourcequotas/small"
    wait_until(lambda: cluster.get(path).get("status", {}).get("hard"), "the quota holds", seconds=PATIENCE)
    error = refused(environment_for(drill_namespace, postgres_image))
    assert "exceeded quota: small" in str(error)
    assert "Raise the namespace's quota" in str(error)


def test_a_pod_whose_program_fails_says_what_it_said(drill_namespace: str) -> None:
    error = refused(environment_for(drill_namespace, "localhost/python:3"))
    assert "exit code 3): the image holds no initdb" in str(error)


def test_a_namespace_that_is_not_there_is_named(cluster: KubernetesClient, postgres_image: str) -> None:
    error = refused(environment_for("not-there", postgres_image))
    assert 'namespaces "not-there" not found' in str(error)
    assert "drill.pod.namespace" in str(error)


def test_an_image_older_than_the_dump_is_refused(drill_namespace: str, postgres_image: str) -> None:
    error = refused(environment_for(drill_namespace, postgres_image), major=99)
    assert "is older than the dump's 99.1" in str(error)


def test_a_pod_that_ends_while_it_is_used_says_why(
    cluster: KubernetesClient, drill_namespace: str, postgres_image: str
) -> None:
    environment = environment_for(drill_namespace, postgres_image, disk="64Mi")
    with (
        pytest.raises(PermanentError, match=r"keep the scratch Pod.*the Pod ended"),
        open_scratch(environment, manifest_of(MAJOR), run_id="1", work_parent=None) as scratch,
        connect(scratch.login, application_name="test") as connection,
    ):
        # Its server is stopped for good, as an eviction would. PostgreSQL then ends with 1 when it saw a backend crash meanwhile, and with 0 otherwise.
        connection.execute("CREATE TEMPORARY TABLE said (line text)")
        connection.execute("COPY pg_temp.said FROM PROGRAM 'kill -QUIT 1'")
        wait_until(
            lambda: [
                pod
                for pod in objects_of(cluster, drill_namespace)
                if pod.get("status", {}).get("phase") in {"Failed", "Succeeded"}
            ],
            "the Pod has ended",
            seconds=PATIENCE,
        )
        connect(scratch.login, application_name="test")
    assert objects_of(cluster, drill_namespace) == []


KILLED = (
    "import os, sys; from tasks.scratch import open_scratch\n"
    "from tests.cluster.test_scratch_pod import environment_for; from tests.fix_scratch import manifest_of\n"
    "environment = environment_for(sys.argv[1], sys.argv[2], name=sys.argv[4])\n"
    "with open_scratch(environment, manifest_of(int(sys.argv[3])), run_id='killed', work_parent=None):\n"
    "    os.kill(os.getpid(), 9)\n"
)


def test_a_killed_drills_pod_is_swept_when_nobody_marks_it_any_more_and_by_its_own_environment_only(
    cluster: KubernetesClient, drill_namespace: str, postgres_image: str
) -> None:
    # Of a name of its own: drills of other tests sweep this machine's folders, too.
    name = f"killed-{secrets.token_hex(4)}"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, drill_namespace, postgres_image, str(MAJOR), name],
        cwd=CHECKOUT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    environment = environment_for(drill_namespace, postgres_image, name=name)
    later = datetime.now(UTC) + timedelta(minutes=6)
    assert sweep_scratch(environment_for(drill_namespace, postgres_image, name="other"), now=later) == ()
    # Its mark is fresh: as far as anybody elsewhere can tell, the drill is alive. On this machine its lock is gone, and so is its password.
    (removed,) = sweep_scratch(environment)
    folder = Path(removed.split()[4])
    assert folder.name.startswith(SOCKET_PREFIX)
    assert not folder.exists()
    assert [
        item
        for item in objects_of(cluster, drill_namespace)
        if SEEN_ANNOTATION in item["metadata"].get("annotations", {})
    ]
    swept = sweep_scratch(environment, now=later)
    assert [sentence.split()[2] for sentence in swept] == ["Pod", "NetworkPolicy"]
    wait_until(lambda: not objects_of(cluster, drill_namespace), "all is gone", seconds=PATIENCE)
