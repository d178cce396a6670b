"""The alerts of a watch, read from Alertmanager (its API v2, api/v2/openapi.yaml): one request, and one more where an alert is named that always fires."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from core.container_trouble import cut
from core.environment_watch_alerts import WatchAlerts
from core.errors import PermanentError
from core.watch_alerts import Alert, AlertsLook, State
from tasks.web_access import basic, bearer, trusted
from tasks.web_api import QUICK, WebApi

_PATH = "/api/v2/alerts"
_FINGERPRINT = re.compile(r"[0-9a-f]{1,16}")
_TEXT = 400
# Annotations that people write for people, the first that is there counts.
_SUMMARIES = ("summary", "message", "description")
_ALL = {"active": "true", "silenced": "true", "inhibited": "true", "unprocessed": "true"}


def look_at_alerts(settings: WatchAlerts, *, begun: datetime) -> AlertsLook:
    """Given [watch.alerts] and when the watch began, return what fires now, and what is silenced or inhibited. Resolved alerts Alertmanager leaves out itself.

    Raise TemporaryError when it is away, busy or slow, PermanentError when it takes no such filter or answers anything else, ConfigurationError for a secret or CA file.
    """
    with _open(settings) as api:
        alerts = _read(api, settings.matchers)
        heartbeat = None
        if settings.heartbeat is not None:
            heartbeat = any(one.state == "active" for one in _read(api, (f'alertname="{settings.heartbeat}"',)))
    others = tuple(one for one in alerts if one.name != settings.heartbeat)
    return AlertsLook(begun=begun, alerts=others, heartbeat=heartbeat)


def _open(settings: WatchAlerts) -> WebApi:
    headers = {"Accept": "application/json"}
    if settings.token is not None:
        headers |= bearer(settings.token, "watch.alerts.token")
    elif settings.username is not None and settings.password is not None:
        headers |= basic(settings.username, settings.password)
    refused = "Look at watch.alerts.token or username, and at what they may read"
    return WebApi(
        settings.url,
        what="Alertmanager",
        headers=headers,
        next_steps={
            400: "Look at watch.alerts.matchers",
            401: refused,
            403: refused,
            404: "Look at watch.alerts.url: with the path that Alertmanager is served under, and without /api",
        },
        verify=trusted(settings.ca_file, "watch.alerts.ca_file"),
        limits=QUICK,
    )


def _read(api: WebApi, matchers: tuple[str, ...]) -> tuple[Alert, ...]:
    document = api.json(_PATH, {**_ALL, "filter": list(matchers)})
    try:
        return tuple(_alert_of(one) for one in _list(document))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        found = f"it answered alerts of an unknown form ({type(error).__name__})"
        raise PermanentError(
            "ask Alertmanager", f"{api.address}{_PATH}", found, "Look at watch.alerts.url: is it an Alertmanager's?"
        ) from error


def _alert_of(one: Mapping[str, Any]) -> Alert:
    """An alert as /api/v2/alerts has it (gettableAlert). Raise KeyError, TypeError or ValueError for anything else."""
    labels = _texts(one["labels"])
    annotations = _texts(one.get("annotations") or {})
    starts = datetime.fromisoformat(_text(one["startsAt"]))
    if starts.tzinfo is None:
        raise ValueError("a begin without a time zone")
    starts = starts.astimezone(UTC)
    severity = labels.get("severity")
    others = sorted((name, value) for name, value in labels.items() if name not in {"alertname", "severity"})
    shown = [*([("severity", severity)] if severity else []), *others]
    return Alert(
        fingerprint=_fingerprint(_text(one["fingerprint"])),
        name=cut(labels.get("alertname") or "(without a name)", _TEXT),
        about=cut(", ".join(f"{name}={value}" for name, value in shown), _TEXT),
        summary=cut(next((annotations[name] for name in _SUMMARIES if annotations.get(name)), ""), _TEXT),
        starts=starts,
        state=_state_of(one["status"]),
    )


def _state_of(status: Mapping[str, Any]) -> State:
    state = _text(status["state"])
    # "unprocessed": it came in this moment, and was not routed yet.
    if state in {"active", "unprocessed"}:
        return "active"
    if state != "suppressed":
        raise ValueError("a state that the API does not have")
    return "silenced" if status.get("silencedBy") else "inhibited"


def _fingerprint(text: str) -> str:
    """As Alertmanager makes them; of anything else a hash, so that what is kept of it is as short."""
    return text if _FINGERPRINT.fullmatch(text) else hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _texts(found: Mapping[str, Any]) -> dict[str, str]:
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value
