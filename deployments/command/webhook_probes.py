"""What `nightshift check` looks at for the table [webhook]: all that the receiver refuses to begin with, but what only shows beside other environments."""

from collections.abc import Iterator
from functools import partial

from core.checks import Check
from core.environment import Environment
from core.units import counted
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
    yield Check(name=WEBHOOK, state="passed", found=found)
