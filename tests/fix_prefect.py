"""A Prefect server for tests of flows: one a session, with a database of its own, in a process that ends with the session."""

from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

_END = "-----END CERTIFICATE-----"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server's API; PREFECT_API_URL is set to it while a test that asks for this runs."""
    # Each of Prefect's clients, several a run, reads all authorities anew, for 20 ms; the server is asked without TLS. One will do.
    authority = tmp_path_factory.mktemp("authority") / "one.pem"
    authority.write_text(Path(certifi.where()).read_text().partition(_END)[0] + _END)
    # The server takes 9 to 16 s to start on two cores, more beside other tests. Without the heartbeat's thread a flow takes 0.1 s instead of 1.1 s.
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings(
            {
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
                PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.2,
                PREFECT_API_SSL_CERT_FILE: str(authority),
            }
        ),
    ):
        yield str(PREFECT_API_URL.value())
