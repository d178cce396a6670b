"""Events of a watch on the Prefect server: they stand in its feed, and what misses them (prefect.yaml, watch-stands-still) tells of a watch that stands still.

An event is news, not evidence: what a watch saw is in the bucket. So nothing here ever fails a tick, and a server that is away costs one a moment at most.
"""

import logging
from typing import Literal

from core.redaction import redact
from tasks.bounded_call import call_within

What = Literal["began", "tick", "ended"]
Fact = str | int | float | bool | None

# Measured: 0.2 ms, and 4 ms for the first one of a process. Nothing is waited for but that the event is taken: it is sent beside, and by the end of the process at the
# latest, which waits for it (0.3 s; 9 s while the server refuses connections) as it does for the events of the run itself.
LONGEST_SECONDS = 1.0
_LONGEST_FACT = 300
_MOST_FACTS = 20
_logger = logging.getLogger("prefect.nightshift.watch")


def watch_resource(environment: str, release_id: str) -> dict[str, str]:
    """What a watch's events are about, as Prefect's triggers match it."""
    return {
        "prefect.resource.id": f"nightshift.watch.{environment}.{release_id}",
        "prefect.resource.name": f"watch of {release_id}",
        # Alone in its label: what prefect.yaml matches is renamed for another environment only where it is the whole value.
        "nightshift.environment": environment,
        "nightshift.release": release_id,
    }


def emit_watch_event(environment: str, release_id: str, what: What, **facts: Fact) -> bool:
    """Given a watch and what happened, have the Prefect server told `nightshift.watch.WHAT`, with a few short facts. Return whether the event was taken.

    Never raises, and returns after a second at most. Without PREFECT_API_URL nothing is told: Prefect would start a server of its own to tell it. Within a run Prefect
    adds the run, its flow and its deployment as related resources.
    """
    try:
        # Within the run's context, from which Prefect takes what the event is related to.
        return call_within(LONGEST_SECONDS, lambda: _tell(environment, release_id, what, facts))
    except Exception as error:  # noqa: BLE001 - whatever Prefect has: a tick does not fail of it
        _logger.warning("the event %s of the watch of %s was not told: %s", what, release_id, redact(str(error))[:300])
        return False


def _tell(environment: str, release_id: str, what: What, facts: dict[str, Fact]) -> bool:
    # Here, since importing Prefect costs two seconds to whoever has not.
    from prefect.events import emit_event  # noqa: PLC0415
    from prefect.settings import PREFECT_API_URL  # noqa: PLC0415

    if not PREFECT_API_URL.value():
        return False
    told = emit_event(
        event=f"nightshift.watch.{what}", resource=watch_resource(environment, release_id), payload=_short(facts)
    )
    return told is not None


def _short(facts: dict[str, Fact]) -> dict[str, Fact]:
    return {
        name: redact(one)[:_LONGEST_FACT] if isinstance(one, str) else one
        for name, one in tuple(facts.items())[:_MOST_FACTS]
    }
