"""What the receiver listens to: environments with a [webhook], their secrets resolved, their rules held to the flows. All of it is looked at before it listens, and
once a minute afterwards, so that a secret is changed without a restart (GitHub does not send again what arrives while nobody listens)."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from core.environment_webhook import Webhook
from core.errors import ConfigurationError
from deployments.webhook.flow_parameters import mistake_in
from tasks.environments import environment_names, load_environment
from tasks.secrets import resolve

# As GitHub recommends: random, and long enough not to be guessed.
SHORTEST_SECRET = 16


@dataclass(frozen=True)
class Listening:
    """An environment that listens; `secrets` are GitHub's, the newest first."""

    name: str
    webhook: Webhook
    secrets: tuple[str, ...] = field(repr=False)


def listen_to(names: Sequence[str]) -> Mapping[str, Listening]:
    """Given environments' names (none: all that have a [webhook]), return them by name. Raise ConfigurationError for the first thing that is wrong."""
    wanted = list(dict.fromkeys(names)) or [name for name in environment_names() if load_environment(name).webhook]
    if not wanted:
        raise _wrong("the environments' files", "none has a table [webhook]", "Add one (docs/webhook.md)")
    found = {name: _listening(name) for name in wanted}
    for one, other in itertools.combinations(found.values(), 2):
        # A delivery to the one could be repeated to the other, and a token used for both.
        if set(one.secrets) & set(other.secrets):
            raise _wrong(f"{one.name} and {other.name}", "they have the same secret", "Give each its own")
        if one.webhook.audience and one.webhook.audience == other.webhook.audience:
            raise _wrong(f"{one.name} and {other.name}", "they have the same audience", "Give each its own")
    return found


def _listening(name: str) -> Listening:
    webhook = load_environment(name).webhook
    if webhook is None:
        raise _wrong(f"environment {name}", "it has no table [webhook]", "Add one (docs/webhook.md)")
    for repository, one in webhook.repositories.items():
        for index, trigger in enumerate(one.triggers):
            mistake = mistake_in(trigger)
            if mistake:
                place = f"environment {name}, webhook.repositories.{repository}.triggers[{index}]"
                raise _wrong(place, mistake, "Correct the rule")
    secrets = tuple(resolve(reference).get_secret_value() for reference in webhook.secrets)
    if any(len(secret) < SHORTEST_SECRET for secret in secrets):
        found = f"a secret has fewer than {SHORTEST_SECRET} letters, and could be guessed"
        raise _wrong(f"environment {name}, webhook.secrets", found, "openssl rand -hex 32 makes one")
    if webhook.github is not None:
        for reference in filter(None, (webhook.github.token, webhook.github.private_key)):
            resolve(reference)
    return Listening(name, webhook, secrets)


def _wrong(where: str, found: str, next_step: str) -> ConfigurationError:
    return ConfigurationError("listen to GitHub", where, found, next_step)
