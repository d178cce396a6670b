"""One look of a watch in a process of its own, as a worker runs it, at a given time, with its requests written down by whom they went to.

    python -m benchmarks.watch_child OUT RELEASE TIME

Requests to Prometheus and Kubernetes are counted below our clients, where httpx sends them, and known by their port; those to S3 where botocore sends them.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from botocore.httpsession import URLLib3Session

from flows import post_deploy_watch as watch

requests: Counter[str] = Counter()


def counted(send: Callable[..., Any], who: Callable[[Any], str]) -> Callable[..., Any]:
    """The same function, with its requests counted by the port that they go to."""

    def counting(sender: Any, request: Any) -> Any:
        requests[who(request)] += 1
        return send(sender, request)

    return counting


def main() -> None:
    """Look once and write what was seen."""
    out, release_id, time = sys.argv[1:]
    httpx.HTTPTransport.handle_request = counted(  # type: ignore[method-assign]
        httpx.HTTPTransport.handle_request, lambda request: str(request.url.port)
    )
    URLLib3Session.send = counted(URLLib3Session.send, lambda _request: "s3")
    now = datetime.fromisoformat(time)
    watch.utc_now = lambda: now
    if profile := os.environ.get("NIGHTSHIFT_BENCHMARK_PROFILE"):
        import cProfile  # noqa: PLC0415 - costs time

        with cProfile.Profile() as profiler:
            state = watch.post_deploy_watch("local", release_id, return_state=True)
        profiler.dump_stats(profile)
    else:
        state = watch.post_deploy_watch("local", release_id, return_state=True)
    seen = {
        "run_id": str(state.state_details.flow_run_id),
        "state": state.name,
        "message": state.message,
        "requests": requests,
    }
    Path(out).write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
