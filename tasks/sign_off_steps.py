"""The steps of a watch's sign-off: what the person is shown, and that it was signed, kept beside the watch."""

from __future__ import annotations

from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.watch_counts import BUCKETS
from core.watch_days import BUCKET
from core.watch_text import sign_off_text
from tasks.environments import load_environment
from tasks.object_store import ObjectMissingError
from tasks.recording import utc_now
from tasks.retire_old_side import what_is_retired
from tasks.retrying import step
from tasks.watch_records import WatchRecords

# The mark that the old side was retired, or had not to be: PREFIX/watches/RELEASE/old-side.json.
OLD_SIDE = "old-side"


class ToSign:
    """A watch that ended, for the form. Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside."""

    def __init__(self, text: str, report: str) -> None:
        self.text, self.report = text, report


@step("look at the watch of {release_id}")
def look_at_watch(environment_name: str, release_id: str) -> ToSign:
    """What there is to sign off. Raise ConfigurationError when no watch of this release was begun, PermanentError while it goes on, TemporaryError while it ends."""
    environment = load_environment(environment_name)
    records = WatchRecords(environment, release_id)
    try:
        start = records.start()
    except ObjectMissingError as error:
        raise ConfigurationError(
            "sign off",
            release_id,
            f"no watch of it was begun in {environment_name}",
            f"Look for its id in: nightshift releases {environment_name}",
        ) from error
    try:
        end = records.end()
    except ObjectMissingError as error:
        if utc_now() >= start.first + BUCKETS * BUCKET:
            # The sign-off is asked for a moment before the end is written.
            again = f"The sweep of post-deploy-watch ends it; then start watch-sign-off of {release_id} again"
            raise TemporaryError(
                "sign off", release_id, "its day is over, and its watch has not ended", again
            ) from error
        raise PermanentError(
            "sign off", release_id, "its watch goes on", "Wait for its end: a sign-off is asked for then"
        ) from error
    tick = records.newest_tick(records.names())
    whole = end.how == "the day is over"
    retired = what_is_retired(environment_name, release_id) if whole else nothing_retired(end.how)
    text = sign_off_text(
        start,
        end,
        tick.findings if tick is not None else (),
        environment.zone,
        location=f"s3://{environment.store.bucket}/{end.report}",
        retired=retired,
    )
    return ToSign(text, end.report)


@step("look whether {what} of {release_id} was done")
def find_mark(environment_name: str, release_id: str, what: str) -> str:
    """By whom and when something was done; "" when it was not."""
    environment = load_environment(environment_name)
    try:
        found = WatchRecords(environment, release_id).mark(what)
    except ObjectMissingError:
        return ""
    return f"by {found.by}, {found.at.astimezone(environment.zone):%Y-%m-%d %H:%M %Z}"


@step("keep that {what} of {release_id} was done")
def keep_mark(environment_name: str, release_id: str, what: str, why: str, by: str) -> bool:
    """Write that something was done; return whether it was this call that did."""
    return WatchRecords(load_environment(environment_name), release_id).keep_mark(what, why, by)


@step("look how the watch of {release_id} ended")
def how_it_ended(environment_name: str, release_id: str) -> str:
    """How a watch ended."""
    return WatchRecords(load_environment(environment_name), release_id).end().how


def nothing_retired(how: str) -> str:
    """Why a release that did not come to the end of its day has no old side to retire."""
    return f"nothing is changed: it was {how}, and its sides are not its own any more"
