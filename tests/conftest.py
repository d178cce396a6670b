"""Fixtures live one topic a file (fix_*.py) and are listed here."""

import signal

import pytest
from hypothesis import settings

from tests.docs_record import TOLD

# The major that no wheel of ours carries.
DEBIANS = 15
# Long in all, and nothing that a change elsewhere is likely to break: `make test` has eight minutes.
LATER = (
    "test_webhook_",
    "test_github_workflows",
    "test_metrics_command",
    "test_watch_schedule",
    "test_elasticsearch",
    "test_watch_probes",
    "test_watch_pod_logs",
    "test_post_deploy_watch",
)

# Timings are no tests: an example that takes long on a busy machine is no failure.
settings.register_profile("no deadlines", deadline=None)
settings.load_profile("no deadlines")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let `make test-services`, which installs Debian's PostgreSQL first, have the tests of that: in `make test` they would be left out wherever it is not there yet."""
    for item in items:
        # A test of a cluster has a server of its own there.
        if not isinstance(item, pytest.Function) or item.get_closest_marker("cluster"):
            continue
        if item.path.name.startswith(LATER):
            item.add_marker(pytest.mark.services)
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        # As a server's major: a parameter of its own, or one of those that choose a fixture.
        if "postgres_15" in item.fixturenames or any(type(one) is int and one == DEBIANS for one in parameters):
            item.add_marker(pytest.mark.services)
    # It looks at what those before it typed.
    items.sort(key=lambda item: item.path.name == "test_docs_read_record.py")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell which commands of the pages ran, where test_docs_read typed them in this run."""
    if TOLD.exists() and not hasattr(terminalreporter.config, "workerinput"):
        terminalreporter.section("the commands of README and docs/")
        terminalreporter.write(TOLD.read_text())
        TOLD.unlink()


# A shell that starts a test run in the background has it ignore SIGINT, and every child inherits that: those that are to end by Ctrl-C would not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins: list[str] = [
    "tests.fix_platform",
    "tests.fix_object_store",
    "tests.fix_keeping",  # after fix_object_store, which it imports
    "tests.fix_metrics",  # after fix_keeping
    "tests.fix_postgres",
    "tests.fix_standby",  # after fix_postgres
    "tests.fix_prefect",
    "tests.fix_restarting_prefect",
    "tests.fix_nightly",  # after those that it imports
    "tests.fix_flow_child",  # after fix_nightly, which it imports
    "tests.fix_proxy",
    "tests.fix_streams",
    "tests.fix_restore",  # after fix_object_store and fix_postgres, which it imports
    "tests.fix_kubernetes",
    "tests.fix_velero",  # after fix_kubernetes
    "tests.fix_port_forward",
    "tests.fix_restored",  # after fix_postgres
    "tests.fix_sample_servers",
    "tests.fix_swap",  # after fix_postgres and fix_keeping, which it imports
    "tests.fix_scratch",  # after fix_keeping
    "tests.fix_cluster",
    "tests.fix_nightshift_image",  # after fix_cluster and fix_platform, which it imports
    "tests.fix_release",  # after fix_object_store
    "tests.fix_lab_stage",  # after fix_cluster and fix_release
    "tests.fix_release_platform",  # after fix_release
    "tests.fix_migrated",  # after fix_release
    "tests.fix_kill_proxy",
    "tests.fix_fault_proxy",
    "tests.fix_registry",
    "tests.fix_sides",  # after fix_kubernetes
    "tests.fix_alb",  # after fix_sides and fix_object_store
    "tests.fix_release_shift",  # after fix_release, fix_alb
    "tests.fix_hello",  # after fix_cluster, which it imports
    "tests.fix_preflight",  # after fix_kubernetes and fix_object_store, which it imports
    "tests.fix_pod_proxy",
    "tests.fix_web_script",
    "tests.fix_vercel",  # after fix_release and fix_web_script
    "tests.fix_prometheus_api",
    "tests.fix_elasticsearch",
    "tests.fix_prometheus",
    "tests.fix_alertmanager",  # after fix_prometheus, which it imports
    "tests.fix_pushgateway",
    "tests.fix_release_gates",  # after fix_release, fix_prometheus_api
    "tests.fix_migration",
    "tests.fix_release_migration",  # after fix_release and fix_postgres
    "tests.fix_watch",  # after fix_release
    "tests.fix_pod_postgres",  # after fix_postgres
    "tests.fix_raw_server",
    "tests.fix_redis",  # after fix_postgres
    "tests.fix_webhook",
    "tests.fix_browser",
    "tests.fix_process_list",
    "tests.fix_office",  # after fix_platform, fix_kubernetes and fix_release
    "tests.fix_machine",  # after fix_release, fix_webhook
    "tests.fix_distributed",  # after fix_machine, fix_redis
    "tests.fix_lab_migration",  # after fix_lab_stage and fix_pod_postgres
    "tests.fix_reader_home",  # after those that it imports
]
