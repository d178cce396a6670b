"""Whether an environment's runs begin without a person: its deployments, their schedules, and the pool that has to hand them to a worker."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from core.checks import Check
from core.environment import Environment


class PoolState(StrEnum):
    """How a work pool stands, as the Prefect server tells: its own words. `LACKING`: there is no such pool. `CLOSED`: its limit of runs at a time is 0."""

    READY = "READY"
    NOT_READY = "NOT_READY"
    PAUSED = "PAUSED"
    LACKING = "LACKING"
    CLOSED = "CLOSED"


@dataclass(frozen=True)
class Deployed:
    """A deployment as the Prefect server has it: whether it is paused, how many of its schedules are switched on, its work pool (empty: none), and the queue in it that
    its runs go to where that one is paused, or its limit of runs at a time is 0."""

    paused: bool
    schedules: int
    pool: str
    paused_queue: str = ""
    closed_queue: str = ""


def unattended_flows(environment: Environment) -> tuple[str, ...]:
    """Given an environment, return the flows that have to begin by themselves for what its tables promise, by name."""
    promised = {
        "nightly-backup": True,
        "dr-drill": True,
        "app-state-backup": environment.app_state is not None,
        "release-recovery": environment.release is not None,
        "post-deploy-watch": environment.watch is not None,
    }
    return tuple(flow for flow, wanted in promised.items() if wanted)


def unattended_checks(
    deployments: Mapping[str, Deployed | None], pools: Mapping[str, PoolState], deploy: str
) -> Iterator[Check]:
    """Given the deployments that have to begin by themselves, by name (None: the server lacks it), their pools, and the command that deploys, yield a check for each.

    Warnings at most: an environment may be ready before it is deployed, and a worker may be started later.
    """
    for name, deployment in deployments.items():
        check = f"{name.partition('/')[0]}: schedule"
        if deployment is None:
            found = f"the Prefect server has no deployment {name}: it does not begin by itself"
            yield Check(name=check, state="warning", found=found, next_step=f"Let prefect.yaml have it, then: {deploy}")
        elif deployment.paused:
            found = f"{name} is paused: it does not begin by itself"
            yield Check(
                name=check,
                state="warning",
                found=found,
                next_step="Switch its schedules on again in the Prefect UI, under Deployments",
            )
        elif not deployment.schedules:
            found = f"{name} has no schedule that is switched on: it does not begin by itself"
            yield Check(
                name=check,
                state="warning",
                found=found,
                next_step=f"Switch it on in the Prefect UI, or write it into prefect.yaml, then: {deploy}",
            )
        elif deployment.paused_queue:
            queue, pool = deployment.paused_queue, deployment.pool
            found = f"the work queue {queue} of the pool {pool} is paused: no run of {name} begins"
            resume = f"prefect work-queue resume {queue} --pool {pool}"
            yield Check(name=check, state="warning", found=found, next_step=resume)
        elif deployment.closed_queue:
            queue, pool = deployment.closed_queue, deployment.pool
            found = f"the work queue {queue} of the pool {pool} lets no run of {name} begin: its limit of runs at a time is 0"
            clear = f"prefect work-queue clear-concurrency-limit {queue} --pool {pool}"
            yield Check(name=check, state="warning", found=found, next_step=clear)
        else:
            yield Check(name=check, state="passed", found=f"{name} begins by itself")
    for pool in sorted({one.pool for one in deployments.values() if one is not None}):
        yield _pool_check(pool, pools.get(pool, PoolState.LACKING))


def _pool_check(pool: str, state: PoolState) -> Check:
    name, start = "work pool", f"prefect worker start --pool {pool}"
    if state is PoolState.READY:
        return Check(name=name, state="passed", found=f"{pool} has a worker")
    found, next_step = {
        PoolState.PAUSED: (f"{pool} is paused: no run begins", f"prefect work-pool resume {pool}"),
        PoolState.CLOSED: (
            f"{pool} lets no run begin: its limit of runs at a time is 0",
            f"prefect work-pool clear-concurrency-limit {pool}",
        ),
        PoolState.NOT_READY: (f"{pool} has no worker that is there: runs wait", start),
        PoolState.LACKING: (
            f"the Prefect server has no work pool {pool}: no run begins"
            if pool
            else "a deployment has no work pool: no run of it begins",
            f"Make it: prefect work-pool create {pool or 'nightshift'} --type process",
        ),
    }[state]
    return Check(name=name, state="warning", found=found, next_step=next_step)
