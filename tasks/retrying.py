"""How Prefect repeats a step: only when the same step may succeed later. The one place where errors are mapped to retries."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from core.errors import TemporaryError
from tasks.log_redaction import redacted_errors

P = ParamSpec("P")
R = TypeVar("R")

# Three more tries after about 10, 20 and 40 seconds bridge a failover or a throttled bucket, not an outage.
_RETRIES = 3


def may_succeed_later(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed step is worth another try: only after a TemporaryError."""
    result = state.result(raise_on_failure=False)
    return isinstance(result, TemporaryError)


def step(run_name: str, *, retries: int = _RETRIES) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Given the name that a run of this step shows in the UI, return the decorator that makes a function such a step.

    Nothing is cached: the world is read anew each time (docs/architecture.md). A foreign exception whose text holds a secret does not get out of it.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        @functools.wraps(function)
        def guarded(*arguments: P.args, **named: P.kwargs) -> R:
            with redacted_errors():
                return function(*arguments, **named)

        make = task(
            task_run_name=run_name,
            retries=retries,
            retry_delay_seconds=exponential_backoff(backoff_factor=10),
            retry_jitter_factor=0.3,
            retry_condition_fn=may_succeed_later,
            cache_policy=NO_CACHE,
            persist_result=False,
        )
        return make(guarded)

    return decorate
