"""Finding the Prefect server that a command speaks to, and its errors as ours.

For `local` it is the platform that `nightshift try` runs in another terminal. For any other environment it is PREFECT_API_URL (a variable, or the active
profile of `prefect config`), and when none is set, the server that `nightshift up` keeps running, else that same platform.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from deployments.local.running import LOCAL, RunningPlatform, find_running

# In the virtual environment whose Python runs this; seldom on PATH.
PREFECT = Path(sys.executable).with_name("prefect")
HOW_TO_GET_ONE = "Start one on this machine with `make up`, or name yours: export PREFECT_API_URL=https://HOST/api (and PREFECT_API_AUTH_STRING if it asks)"


@dataclass(frozen=True)
class Server:
    """A Prefect server: its addresses, and the variables with which `prefect` commands reach it. `platform` is set when it is this machine's own."""

    api_url: str
    ui_url: str
    platform: RunningPlatform | None = None
    variables: dict[str, str] = field(default_factory=dict, repr=False)

    def run_url(self, run_id: object) -> str:
        """The page of a flow run in the UI that docs/ speaks of: without /v2 it would be the old UI's (Prefect 3.8.8), where the buttons are others."""
        return f"{self.ui_url.removesuffix('/v2')}/v2/runs/flow-run/{run_id}"

    @contextmanager
    def client(self) -> Iterator[SyncPrefectClient]:
        """A client for the length of the block. Errors of the connection and of the server's answers come out as ours."""
        if self.platform is not None:
            # Without the user's proxy and without what the active profile says of another server.
            client = SyncPrefectClient(
                self.api_url, auth_string=self.platform.auth_string, httpx_settings={"trust_env": False}
            )
        else:
            client = get_client(sync_client=True)
        with client, explained(self.api_url):
            yield client


def server_of(platform: RunningPlatform) -> Server:
    """The server of a platform that runs on this machine."""
    variables = {"PREFECT_API_URL": platform.api_url, "PREFECT_API_AUTH_STRING": platform.auth_string}
    return Server(platform.api_url, platform.ui_url, platform, variables)


def find_server(environment: str) -> Server:
    """Given an environment's name, return the server to speak to. Raise ConfigurationError, saying how to get one, when there is none."""
    platform = find_running(environment)
    configured = PREFECT_API_URL.value()
    if platform is not None and (environment == LOCAL or not configured):
        return server_of(platform)
    if not configured:
        raise ConfigurationError(
            "find a Prefect server",
            f"environment {environment}",
            "none runs from this checkout and PREFECT_API_URL is not set",
            HOW_TO_GET_ONE,
        )
    return Server(
        configured.rstrip("/"), (PREFECT_UI_URL.value() or configured.rstrip("/").removesuffix("/api")).rstrip("/")
    )


def prefect_command(arguments: str) -> str:
    """Given arguments for `prefect`, return the command as a person can run it: with the program's path where it is known."""
    return f"{PREFECT if PREFECT.exists() else 'prefect'} {arguments}"


def deploy_command(environment: str) -> str:
    """Given an environment, return the command that puts its deployments on the server, as a person can run it; those of others stay as they are."""
    return prefect_command(f"--no-prompt deploy --name '*/{environment}'")


def prefect_variables(server: Server) -> dict[str, str]:
    """All variables for a `prefect` command that is to reach the server."""
    return {**os.environ, **server.variables}


@contextmanager
def explained(api_url: str) -> Iterator[None]:
    """Within the block, errors of httpx and of Prefect's client become ConfigurationError (401, 403), PermanentError (4xx) or TemporaryError."""
    try:
        yield
    except NightshiftError:
        raise
    except PrefectHTTPStatusError as error:
        raise _refused(api_url, error) from error
    except httpx.HTTPError as error:
        raise TemporaryError(
            "reach the Prefect server", api_url, f"{type(error).__name__}: {error}".rstrip(": "), HOW_TO_GET_ONE
        ) from error


def _refused(api_url: str, error: PrefectHTTPStatusError) -> NightshiftError:
    status = error.response.status_code
    what = f"{error.request.method} {error.request.url.path}"
    if status in {401, 403}:
        return ConfigurationError(
            what,
            api_url,
            f"the server answered {status}",
            "Give user and password: export PREFECT_API_AUTH_STRING=USER:PASSWORD",
        )
    found = f"the server answered {status}: {error.response.text[:500]}"
    if status >= 500 or status == 429:
        return TemporaryError(what, api_url, found, "Try again")
    return PermanentError(what, api_url, found)
