"""The checks that GitHub has of a commit: check runs and commit statuses (REST API, "List check runs for a Git reference", "Get the combined status")."""

import re
from typing import Any

from core.ci_checks import CommitCheck, check_run, commit_status
from core.environment_checks import CiCheck
from core.errors import ConfigurationError, PermanentError
from core.secret_reference import shown_reference
from tasks.secrets import resolve
from tasks.web_api import WebApi

_PAGE = 100
# GitHub keeps 1,000 check runs of a name and suite; more pages than this are no checklist.
_MOST_PAGES = 20
_COMMIT = re.compile(r"[0-9a-f]{40}")


def read_commit_checks(settings: CiCheck, commit: str) -> tuple[CommitCheck, ...]:
    """Given the settings and a commit's full SHA, return every check of it, the latest of each suite and context.

    Raise ConfigurationError when the commit is not a full SHA (a branch would be another commit tomorrow), PermanentError when GitHub refuses or its answer is not
    whole, TemporaryError when it stays away.
    """
    if not _COMMIT.fullmatch(commit):
        raise ConfigurationError(
            "ask GitHub", settings.repository, f"{commit[:60]!r} is not a commit's full SHA", "Give all 40 digits"
        )
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
    known = "release.checks.ci.token is not set"
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {resolve(settings.token).get_secret_value().strip()}"
        known = f"release.checks.ci.token = {shown_reference(settings.token)}"
    refused = f"Give a token that may read checks and commit statuses of {settings.repository}: {known}"
    steps = {
        401: refused,
        403: refused,
        404: f"{refused}; or the repository is another",
        422: "GitHub has no such commit",
    }
    root = f"/repos/{settings.repository}/commits/{commit}"
    with WebApi(settings.api_url, what="GitHub", headers=headers, next_steps=steps) as api:
        runs = _pages(api, f"{root}/check-runs", "check_runs")
        statuses = _pages(api, f"{root}/status", "statuses")
    others = [run for run in runs if run.get("head_sha") not in {None, commit}]
    if others:
        raise PermanentError("ask GitHub", commit, f"it told of another commit: {others[0].get('head_sha')}")
    return (*map(check_run, runs), *map(commit_status, statuses))


def _pages(api: WebApi, path: str, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in range(1, _MOST_PAGES + 1):
        # `latest` is the default of check runs; commit statuses do not know it.
        document = api.json(path, {"per_page": _PAGE, "page": page})
        found += document[key]
        if len(found) >= int(document["total_count"]) or not document[key]:
            break
    if len(found) < int(document["total_count"]):
        raise PermanentError(
            "ask GitHub", f"{api.address}{path}", f"{len(found)} of {document['total_count']} were told", "Try again"
        )
    return found
