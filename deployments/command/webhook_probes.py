"""What `nightshift check` looks at for the table [webhook]: all that the receiver refuses to begin with, but what only shows beside other environments."""

from collections.abc import Iterator
from functools import partial

from prefect.exceptions import ObjectNotFound

from core.checks import Check
from core.environment import Environment
from core.errors import NightshiftError
from core.units import counted
from deployments.command.prefect_api import deploy_command, find_server
from deployments.command.probe import LONG_SECONDS, Probe

WEBHOOK = "webhook"


def webhook_probes(environment: Environment) -> list[Probe]:
    """Given an environment, return what is tried for its table [webhook]; nothing when it has none."""
    if environment.webhook is None:
        return []
    return [Probe(WEBHOOK, partial(_look_at_rules, environment), LONG_SECONDS)]


def _look_at_rules(environment: Environment) -> Iterator[Check]:
    # The flows are imported with it, which takes seconds.
    from deployments.webhook.listening import listen_to  # noqa: PLC0415

    (listening,) = listen_to([environment.name]).values()
    repositories = listening.webhook.repositories
    rules = sum(len(one.triggers) for one in repositories.values())
    found = f"{counted(rules, 'rule')} for {', '.join(repositories)}: each fits its flow"
    lacking = _not_deployed(environment.name, {one.flow for each in repositories.values() for one in each.triggers})
    if lacking:
        yield Check(
            name=WEBHOOK,
            state="failed",
            found=f"the Prefect server has no deployment {' and no '.join(lacking)}: what is delivered for it waits, and is given up after start_within_hours",
            next_step=f"Add it to prefect.yaml, then: {deploy_command(environment.name)}",
        )
    elif lacking is None:
        unknown = "whether the Prefect server has their deployments is not known: it was not reached"
        yield Check(name=WEBHOOK, state="passed", found=f"{found}; {unknown}")
    else:
        yield Check(name=WEBHOOK, state="passed", found=f"{found}, and the Prefect server has its deployment")


def _not_deployed(environment: str, flows: set[str]) -> list[str] | None:
    """The deployments that rules start and the server lacks; None when it cannot be asked, of which a line of its own tells."""
    lacking = []
    try:
        with find_server(environment).client() as client:
            for flow in sorted(flows):
                try:
                    client.read_deployment_by_name(f"{flow}/{environment}")
                except ObjectNotFound:
                    lacking.append(f"{flow}/{environment}")
    except NightshiftError:
        return None
    return lacking
