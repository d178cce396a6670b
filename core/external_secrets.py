"""Whether an ExternalSecret is ready, synced and fresh, as the External Secrets Operator writes its status.

`Ready` with reason SecretSynced; `syncedResourceVersion` is the generation that was synced, "-" and a hash of labels and annotations (getResourceVersion in the
operator's externalsecret_controller.go); `refreshTime` is when the values were last read, and stays when reading fails. What is read only once (refreshPolicy CreatedOnce
or OnChange, refreshInterval 0) has no age that could be wrong (shouldRefresh).
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from core.units import human_age


def external_secret_problem(document: Mapping[str, Any], now: datetime, most: timedelta) -> str:
    """Given an ExternalSecret, the time (aware) and the greatest age of its values, return what is wrong with it; "" when nothing is."""
    metadata, spec, status = (document.get(part) or {} for part in ("metadata", "spec", "status"))
    ready = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), None)
    if ready is None:
        return "has no condition Ready: the operator has not seen it"
    if ready.get("status") != "True":
        return f"is not Ready: {ready.get('reason')} {ready.get('message') or ''}".strip()[:200]
    generation, _, _ = str(status.get("syncedResourceVersion") or "").partition("-")
    if generation != str(metadata.get("generation")):
        return (
            f"was changed since it was synced (generation {metadata.get('generation')}, synced {generation or 'none'})"
        )
    return _age_problem(spec, status, now, most)


def read_once(spec: Mapping[str, Any]) -> bool:
    """Given an ExternalSecret's spec, return whether its values are read once, so that they have no age."""
    if spec.get("refreshPolicy") in {"CreatedOnce", "OnChange"}:
        return True
    interval = spec.get("refreshInterval")
    return interval is not None and re.search(r"[1-9]", str(interval)) is None


def _age_problem(spec: Mapping[str, Any], status: Mapping[str, Any], now: datetime, most: timedelta) -> str:
    refreshed = str(status.get("refreshTime") or "")
    if not refreshed:
        return "was never refreshed"
    age = now - datetime.fromisoformat(refreshed)
    if age > most and not read_once(spec):
        return f"was refreshed {human_age(age)} ago; the limit is {most // timedelta(hours=1)} h"
    # A minute of difference between two clocks is none.
    return f"was refreshed in the future ({refreshed}): a clock is wrong" if age < timedelta(minutes=-1) else ""
