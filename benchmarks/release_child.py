"""One release in a process of its own, as a worker runs it, with its requests to the Kubernetes API and its waits written down.

    python -m benchmarks.release_child OUT IMAGE COMMIT

Requests are counted below our client, where httpx sends them; a watch is one. Waits are what the runbook waits for: a rollout, Pods that stay well, a balancer that
does what was written, a soak.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from flows.release import release
from tasks import release_gates, roll_out, shift_steps
from tasks.traffic import Traffic

requests: list[tuple[float, str, str]] = []
waits: list[tuple[float, float]] = []


def waited(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with its times written down."""

    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.time()
        try:
            return function(*arguments, **named)
        finally:
            waits.append((began, time.time()))

    return timed


def counted(send: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
    """The same function, with the requests to the Kubernetes API written down: they carry our client's name."""

    def counting(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.headers.get("User-Agent") == "nightshift":
            requests.append((time.time(), request.method, request.url.path))
        return send(transport, request)

    return counting


def main() -> None:
    """Run it and write what was seen."""
    out, image, commit = sys.argv[1:]
    httpx.HTTPTransport.handle_request = counted(httpx.HTTPTransport.handle_request)  # type: ignore[method-assign]
    for module in (roll_out, shift_steps):
        module.wait_for_rollout = waited(module.wait_for_rollout)
    roll_out.observe_stability = waited(roll_out.observe_stability)
    for module in (release_gates, shift_steps):
        module.pause = waited(module.pause)
    Traffic.wait_effective = waited(Traffic.wait_effective)  # type: ignore[method-assign]
    skipped = {"recovery-point": "a benchmark without a database"}
    state = release(
        "local",
        image,
        commit,
        migrate=False,
        adopt=True,
        skip_checks=skipped,
        requested_by="the benchmark",
        return_state=True,
    )
    seen = {
        "run_id": str(state.state_details.flow_run_id),
        "state": state.name,
        "message": state.message,
        "requests": requests,
        "waits": waits,
    }
    Path(out).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
