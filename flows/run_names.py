"""Handing Prefect the names of core.run_names: it asks for a run's name as the run begins, and knows its parameters then."""

from collections.abc import Callable

from prefect.runtime import flow_run

from core.run_names import Parameters


def named(name: Callable[[Parameters], str]) -> Callable[[], str]:
    """Given how a flow's runs are named by their parameters, return what the flow's `flow_run_name` is to be."""

    def name_of_this_run() -> str:
        return name(flow_run.parameters)

    return name_of_this_run
