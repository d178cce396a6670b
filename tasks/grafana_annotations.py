"""Making an annotation in Grafana, once: it is looked for first, and again when nobody said whether it was made."""

from core.environment_watch_grafana import WatchGrafana
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.evidence import Finding
from core.grafana_annotation import Annotation, document_of, number_of
from tasks.web_access import bearer, trusted
from tasks.web_api import QUICK, WebApi

_PATH = "/api/annotations"


def annotate(settings: WatchGrafana, annotation: Annotation) -> Finding:
    """Given [watch.grafana], have Grafana show an annotation, and return what to say of it: a note, or a warning when it could not be. Never raises a NightshiftError.

    May be repeated: an annotation of this release and kind that is there is left as it is. Two at the same moment may make two, which Grafana cannot prevent.
    """
    what = f"the {annotation.kind} of {annotation.release_id}"
    try:
        with _open(settings) as api:
            there = _find(api, annotation)
            number = _make(api, settings, annotation) if there is None else there
    except NightshiftError as error:
        return Finding(severity="warning", text=f"Grafana does not show {what}: {error}")
    how = "shows" if there is None else "showed already"
    return Finding(severity="note", text=f"Grafana {how} {what} (annotation {number})")


def may_read(settings: WatchGrafana) -> None:
    """Given [watch.grafana], return when Grafana lets us read annotations. Raise TemporaryError when it is away, PermanentError when it refuses or is none."""
    with _open(settings) as api:
        found = api.json(_PATH, {"type": "annotation", "limit": 1})
        if not isinstance(found, list):
            raise PermanentError(
                "ask Grafana", f"{api.address}{_PATH}", "it answered no annotations", "Look at watch.grafana.url"
            )


def _make(api: WebApi, settings: WatchGrafana, annotation: Annotation) -> int:
    document = document_of(annotation, tags=settings.tags, dashboard_uid=settings.dashboard_uid)
    try:
        answer = api.post(_PATH, document)
    except TemporaryError:
        # It may be there all the same.
        there = _find(api, annotation)
        if there is None:
            raise
        return there
    try:
        return int(answer["id"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _unknown(api, "no annotation's number", error) from error


def _find(api: WebApi, annotation: Annotation) -> int | None:
    # Without from and to: all that there ever were. Several tags: those that have all of them.
    found = api.json(_PATH, {"tags": list(annotation.identity), "type": "annotation", "limit": 100})
    try:
        return number_of(found, annotation)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unknown(api, "annotations of an unknown form", error) from error


def _unknown(api: WebApi, what: str, error: Exception) -> PermanentError:
    found = f"it answered {what} ({type(error).__name__})"
    return PermanentError("ask Grafana", f"{api.address}{_PATH}", found, "Look at watch.grafana.url")


def _open(settings: WatchGrafana) -> WebApi:
    headers = {"Accept": "application/json"}
    if settings.token is not None:
        headers |= bearer(settings.token, "watch.grafana.token")
    refused = "Look at watch.grafana.token: its service account must read and create annotations"
    return WebApi(
        settings.url,
        what="Grafana",
        headers=headers,
        next_steps={
            400: "Look at watch.grafana.tags and dashboard_uid",
            401: refused,
            403: refused,
            404: "Look at watch.grafana.url and dashboard_uid",
        },
        verify=trusted(settings.ca_file, "watch.grafana.ca_file"),
        limits=QUICK,
    )
