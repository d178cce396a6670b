"""So many flow runs at the same moment, in one process: each makes its steps one after another, as a backup does, and waits in each for what is not Prefect's.

    python -m benchmarks.server_child OUT RUNS STEPS SECONDS

A process for each would need the machine for its imports; here they are imported once, and what reaches the Prefect server is the same: states, task runs, log lines,
heartbeats. What the server answers is counted below Prefect's client, which asks again.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
from prefect import flow, get_run_logger, task

answers: Counter[int] = Counter()
_send = httpx.AsyncHTTPTransport.handle_async_request


async def _counted(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
    try:
        response = await _send(transport, request)
    except httpx.TransportError:
        answers[0] += 1
        raise
    answers[response.status_code] += 1
    return response


@task(name="step")
async def step(seconds: float) -> None:
    """Wait, and say so."""
    await asyncio.sleep(seconds)
    get_run_logger().info("waited %.1f s", seconds)


@flow(name="benchmark")
async def benchmark(steps: int, seconds: float) -> None:
    """So many steps, one after another."""
    for _ in range(steps):
        await step(seconds)


async def _timed(steps: int, seconds: float) -> tuple[str, float]:
    began = time.monotonic()
    state = await benchmark(steps, seconds, return_state=True)
    return state.type.value, time.monotonic() - began


async def _all(runs: int, steps: int, seconds: float) -> list[tuple[str, float]]:
    found = await asyncio.gather(*(_timed(steps, seconds) for _ in range(runs)), return_exceptions=True)
    return [one if isinstance(one, tuple) else (type(one).__name__, 0.0) for one in found]


def main() -> None:
    """Run them, and write how each ended, how long each took, and the answers by their status (0: none came)."""
    out, runs, steps, seconds = sys.argv[1:]
    httpx.AsyncHTTPTransport.handle_async_request = _counted  # type: ignore[method-assign]
    ended = asyncio.run(_all(int(runs), int(steps), float(seconds)))
    Path(out).write_text(json.dumps({"ended": ended, "answers": answers}))


if __name__ == "__main__":
    main()
