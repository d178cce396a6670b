"""How quickly the receiver says yes, and what kill -9 costs: nothing.

    .venv/bin/python -m benchmarks.webhook --seconds 30

The receiver is a process of its own with a stand-in for Prefect's run creation (tests/webhook_child.py): each run's key is a line of a file, synced. First requests
at an even pace, whether or not earlier ones were answered (else a slow answer would slow the questions down, and hide itself): the time from when each was due to
its answer counts. Then deliveries with a kill -9 in the middle: each that had been accepted must be a run, once; those that were not are sent again, as a person
would by GitHub's Redeliver.
"""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import httpx
import typer

from benchmarks.measuring import Ratio, finish
from deployments.local.ports import free_port
from tests.fix_webhook import OLD_SECRET, SECRET, Hook, body_of, deployment, github_headers
from tests.waiting import wait_until

RATE, P99_SECONDS, DELIVERIES = 200, 0.050, 1000


def started(folder: Path) -> Hook:
    """A receiver that answers."""
    os.environ |= {"NIGHTSHIFT_ENVIRONMENTS": str(folder), "HOOK_SECRET": SECRET, "HOOK_OLD_SECRET": OLD_SECRET}
    hook = Hook(folder, free_port())
    hook.write()
    hook.start()
    return hook


def cpu_seconds(hook: Hook) -> float:
    """What the receiver has used of the processors, its threads' together."""
    if hook.child is None:
        return 0.0
    fields = Path(f"/proc/{hook.child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def send(client: httpx.AsyncClient, hook: Hook, number: int) -> int:
    """Deliver deployment NUMBER, with a payload as large as GitHub's; return the answer's status, 0 when there is none."""
    body = body_of({**deployment(number), "sender": {"filling": "x" * 12_000}})
    try:
        answer = await client.post(
            f"{hook.address}/github/staging", content=body, headers=github_headers(body, "deployment")
        )
    except httpx.HTTPError:
        return 0
    return answer.status_code


async def paced(hook: Hook, seconds: int) -> tuple[list[float], Counter[int]]:
    """Seconds from when each request was due to its answer, and the answers."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as client:

        async def one(number: int, due: float) -> None:
            statuses[await send(client, hook, number)] += 1
            taken.append(time.perf_counter() - due)

        # Connections are opened before it counts.
        await asyncio.gather(*(send(client, hook, 10_000_000 + number) for number in range(50)))
        begun = time.perf_counter() + 0.2
        async with asyncio.TaskGroup() as group:
            for number in range(1, RATE * seconds + 1):
                due = begun + number / RATE
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(number, due))
    return taken, statuses


async def killed(hook: Hook) -> tuple[int, int]:
    """Deliver 1,000, killing the receiver in the middle; return how many were accepted before, and how many were sent again."""
    accepted: set[int] = set()
    gate = asyncio.Semaphore(20)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:

        async def one(number: int) -> None:
            async with gate:
                if await send(client, hook, number) in {200, 202}:
                    accepted.add(number)
                if (
                    len(accepted) >= DELIVERIES // 2
                    and hook.child is not None
                    and hook.child.poll() is None
                    and not again
                ):
                    os.kill(hook.child.pid, signal.SIGKILL)

        again: list[int] = []
        await asyncio.gather(*(one(number) for number in range(1, DELIVERIES + 1)))
        before = set(accepted)
        again += sorted(set(range(1, DELIVERIES + 1)) - accepted)
        if hook.child is not None:
            hook.child.wait()
        await asyncio.to_thread(hook.start)
        await asyncio.gather(*(one(number) for number in again))
    if len(accepted) < DELIVERIES:
        sys.exit(f"{DELIVERIES - len(accepted)} were not accepted, also when sent again")
    return len(before), len(again)


def main(seconds: Annotated[int, typer.Option(min=2)] = 30) -> None:
    """Print the figures; exit code 1 when a bar is missed."""
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as name:
        hook = started(Path(name))
        before_cpu = cpu_seconds(hook)
        taken, statuses = asyncio.run(paced(hook, seconds))
        cpu = cpu_seconds(hook) - before_cpu
        hook.end()
    taken.sort()
    p50, p95, p99 = (taken[int(len(taken) * share)] * 1000 for share in (0.5, 0.95, 0.99))
    with tempfile.TemporaryDirectory() as name:
        hook = started(Path(name))
        before, again = asyncio.run(killed(hook))
        wait_until(lambda: len(hook.made) >= DELIVERIES, "a run of each delivery", seconds=120)
        time.sleep(1)
        runs = Counter(hook.made)
        hook.end()
    ratios = [
        Ratio("99 % are answered within", p99, P99_SECONDS * 1000, unit="ms"),
        Ratio("answered otherwise than 202", float(len(taken) - statuses[202]), 0),
        Ratio("lost over a kill -9", float(DELIVERIES - len(runs)), 0),
        Ratio("doubled over it", float(sum(count - 1 for count in runs.values())), 0),
    ]
    context = {
        "requests": f"{RATE} a second for {seconds} s; half within {p50:.1f} ms, 95 % within {p95:.1f} ms, the longest {taken[-1] * 1000:.1f} ms",
        "answers": dict(statuses),
        "the receiver's processor time for each": f"{cpu / len(taken) * 1000:.1f} ms",
        "deliveries with a kill -9": f"{DELIVERIES}, {before} accepted before it, {again} sent again",
        "processors": f"{len(os.sched_getaffinity(0))}, load before {' '.join(f'{one:.1f}' for one in load)}",
    }
    finish("webhook", ratios, context)


if __name__ == "__main__":
    typer.run(main)
