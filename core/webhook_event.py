"""What a request from GitHub says, read from its fixed places: one record, whatever the event. Nothing else of a payload is looked at.

The name of an event and the id of a delivery stand in headers, which GitHub does not sign; the body is signed. So an event counts only when the body has the form of
that event (its `action` and its object), and what makes it one and the same event (`subject`) is read from the body. Fields as GitHub documents them in
"Webhook events and payloads" (deployment, release, workflow_run) and "OpenID Connect reference" (the claims of a job's token).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Way = Literal["deployment", "workflow_run", "release", "actions"]

# What a rule may take, event by event.
FIELDS: dict[str, tuple[str, ...]] = {
    "deployment": ("commit", "short_commit", "ref", "image", "actor", "description"),
    "workflow_run": ("commit", "short_commit", "ref", "actor", "run_id", "run_number"),
    "release": ("tag", "version", "commit", "short_commit", "actor"),
    "actions": ("commit", "short_commit", "ref", "actor", "run_id", "run_number"),
}
LONGEST_TEXT = 300
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class RefusedError(Exception):
    """Why a request is refused, in one sentence for the audit log and for who asked; `status` is the answer's."""

    def __init__(self, status: int, reason: str) -> None:
        self.status, self.reason = status, reason
        super().__init__(status, reason)


@dataclass(frozen=True)
class Event:
    """`subject` names the event for ever, among all of this repository; `happened` is its own time, None where a token has told the time already."""

    way: Way
    repository_id: int
    subject: str
    ref: str
    workflow: str = ""
    github_environment: str = ""
    happened: datetime | None = None
    # GitHub's deployment that hears how the run goes.
    deployment_id: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


def parsed_object(body: bytes) -> dict[str, Any]:
    """Given a body, return the JSON object that it is. Raise RefusedError (400) for anything else, and for one nested as no payload is (Python's own limit)."""
    try:
        document = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise RefusedError(400, "the body is no JSON") from None
    if not isinstance(document, dict):
        raise RefusedError(400, "the body is no JSON object")
    return document


def is_plain(value: object) -> bool:
    """Whether a value is a text as names and refs are: neither empty nor long, no line breaks, no control characters, no half of a surrogate pair."""
    return isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isprintable()


def github_event(name: str, payload: Mapping[str, Any]) -> Event | None:
    """Given an event's name and its payload, return it; None when it is one that starts nothing by its nature (an action other than the one that counts, a failed
    workflow, a fork's). Raise RefusedError (422) when the payload is not of that event's form."""
    readers = {"deployment": _deployment, "workflow_run": _workflow_run, "release": _release}
    if name not in readers:
        return None
    if not isinstance(payload.get("action"), str):
        raise RefusedError(422, "action is missing")
    return readers[name](payload)


def actions_event(claims: Mapping[str, Any], deployment_id: int | None) -> Event:
    """Given the claims of a token that was found to be GitHub's, return the event. Raise RefusedError (403) when a claim is missing."""
    names = ("repository_id", "run_id", "run_attempt", "ref", "job_workflow_ref", "environment", "sha")
    texts = {name: claims.get(name) for name in names}
    missing = sorted(name for name, value in texts.items() if not is_plain(value))
    if missing:
        raise RefusedError(403, f"the token has no claim {missing[0]}")
    if str(claims.get("event_name")).startswith("pull_request"):
        raise RefusedError(403, "a pull request starts nothing")
    given = {name: str(value) for name, value in texts.items()}
    if not given["repository_id"].isascii() or not given["repository_id"].isdigit():
        raise RefusedError(403, "the token's repository_id is no number")
    fields = {"ref": given["ref"], "run_id": given["run_id"], **_commit(given["sha"])}
    fields |= _optional("actor", claims.get("actor")) | _optional("run_number", claims.get("run_number"))
    return Event(
        way="actions",
        repository_id=int(given["repository_id"]),
        subject=f"run-{given['run_id']}-{given['run_attempt']}",
        ref=given["ref"],
        workflow=given["job_workflow_ref"],
        github_environment=given["environment"],
        deployment_id=deployment_id,
        fields=fields,
    )


def _deployment(payload: Mapping[str, Any]) -> Event | None:
    # A deployment_status is "created" too, and has its deployment in it.
    if payload["action"] != "created" or "deployment_status" in payload:
        return None
    deployment = _table(payload, "deployment")
    number = _number(deployment, "id", "deployment.id")
    extra = deployment.get("payload")
    image = extra.get("image") if isinstance(extra, dict) else None
    fields = {
        "ref": _text(deployment, "ref", "deployment.ref"),
        **_commit(_text(deployment, "sha", "deployment.sha")),
        **_optional("image", image),
        **_optional("description", deployment.get("description")),
        **_login(deployment.get("creator")),
    }
    return Event(
        way="deployment",
        repository_id=_repository(payload),
        subject=f"deployment-{number}",
        ref=fields["ref"],
        github_environment=_text(deployment, "environment", "deployment.environment"),
        happened=_time(deployment, "created_at", "deployment.created_at"),
        deployment_id=number,
        fields=fields,
    )


def _workflow_run(payload: Mapping[str, Any]) -> Event | None:
    run = _table(payload, "workflow_run")
    repository = _repository(payload)
    # A pull request from a fork runs the fork's own workflow file, and its head_branch may be called main.
    own = _table(run, "head_repository").get("id") == repository and run.get("event") in ("push", "workflow_dispatch")
    if payload["action"] != "completed" or run.get("conclusion") != "success" or not own:
        return None
    number, attempt = (_number(run, key, f"workflow_run.{key}") for key in ("id", "run_attempt"))
    fields = {
        "ref": _text(run, "head_branch", "workflow_run.head_branch"),
        **_commit(_text(run, "head_sha", "workflow_run.head_sha")),
        "run_id": str(number),
        "run_number": str(_number(run, "run_number", "workflow_run.run_number")),
        **_login(run.get("actor")),
    }
    return Event(
        way="workflow_run",
        repository_id=repository,
        subject=f"run-{number}-{attempt}",
        ref=fields["ref"],
        # "path" may carry the ref that it was read at: .github/workflows/build.yml@main
        workflow=_text(run, "path", "workflow_run.path").partition("@")[0],
        happened=_time(run, "updated_at", "workflow_run.updated_at"),
        fields=fields,
    )


def _release(payload: Mapping[str, Any]) -> Event | None:
    release = _table(payload, "release")
    if payload["action"] != "published" or release.get("draft") is not False:
        return None
    tag = _text(release, "tag_name", "release.tag_name")
    target = release.get("target_commitish")
    fields = {
        "tag": tag,
        "version": tag.removeprefix("v"),
        # A branch's name as often as a commit; only a commit is one.
        **(_commit(target) if isinstance(target, str) and _COMMIT.fullmatch(target) else {}),
        **_login(release.get("author")),
    }
    return Event(
        way="release",
        repository_id=_repository(payload),
        subject=f"release-{_number(release, 'id', 'release.id')}",
        ref=tag,
        happened=_time(release, "published_at", "release.published_at"),
        fields=fields,
    )


def _repository(payload: Mapping[str, Any]) -> int:
    return _number(_table(payload, "repository"), "id", "repository.id")


def _table(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise RefusedError(422, f"{key} is no object")
    return value


def _text(document: Mapping[str, Any], key: str, place: str) -> str:
    value = document.get(key)
    if not is_plain(value):
        raise RefusedError(422, f"{place} is no plain text of 1 to {LONGEST_TEXT} letters")
    return str(value)


def _number(document: Mapping[str, Any], key: str, place: str) -> int:
    value = document.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise RefusedError(422, f"{place} is no positive number")
    return value


def _time(document: Mapping[str, Any], key: str, place: str) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(document, key, place))
    except ValueError:
        raise RefusedError(422, f"{place} is no time") from None
    if moment.tzinfo is None:
        raise RefusedError(422, f"{place} has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise RefusedError(422, f"{place} is no time") from None


def _commit(sha: str) -> dict[str, str]:
    return {"commit": sha, "short_commit": sha[:7]}


def _optional(name: str, value: object) -> dict[str, str]:
    return {name: str(value)} if is_plain(value) else {}


def _login(account: object) -> dict[str, str]:
    return _optional("actor", account.get("login")) if isinstance(account, dict) else {}


def _no_number(name: str) -> Any:
    raise ValueError(name)
