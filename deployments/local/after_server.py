"""Becomes a command once the Prefect server answers: `python -m deployments.local.after_server COMMAND …`, with PREFECT_API_URL set.

The supervisor starts all programs at once, and a worker that finds no server gives up. It is said once that it waits.
"""

import os
import sys

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential


def main() -> None:
    """Wait for the server named by PREFECT_API_URL, then run the arguments in this process's place."""
    address = os.environ["PREFECT_API_URL"].rstrip("/")

    def tell(attempt: RetryCallState) -> None:
        if attempt.attempt_number == 1:
            print(f"waiting for the Prefect server at {address}", flush=True)  # noqa: T201

    waiting = Retrying(
        retry=retry_if_exception_type(httpx.HTTPError), wait=wait_exponential(multiplier=0.5, max=5), before_sleep=tell
    )
    waiting(lambda: httpx.get(f"{address}/health", timeout=10, trust_env=False).raise_for_status())
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - our own arguments, and no shell


if __name__ == "__main__":
    main()
