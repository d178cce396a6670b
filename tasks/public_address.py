"""The public address, asked as people ask it: does it answer, with the new front end, and is the API kept in no cache."""

import time
from collections.abc import Callable

from core.environment_frontend import Frontend
from core.errors import NightshiftError, PermanentError
from core.frontend import cached_signs
from tasks.web_api import Answer, WebApi

# The edge of a CDN needs some seconds to know of a change.
SEEN_SECONDS, POLL_SECONDS = 120.0, 3.0
_ANSWERS = frozenset({301, 302, 303, 307, 308})
# What the API says to a stranger is an answer, too: what is looked at is where it came from.
_OF_THE_API = frozenset(range(300, 500)) - {408, 429}


def ask_public(settings: Frontend, commit: str, still_ours: Callable[[], None]) -> dict[str, str]:
    """Ask the public address, and return what was seen. Raise PermanentError when it does not answer well, or not with the commit ("": any)."""
    ends = time.monotonic() + SEEN_SECONDS
    with WebApi(settings.public_address, what="the public address") as api:
        while True:
            still_ours()
            try:
                return _seen(api, settings, commit)
            except NightshiftError:
                if time.monotonic() >= ends:
                    raise
            time.sleep(POLL_SECONDS)


def _seen(api: WebApi, settings: Frontend, commit: str) -> dict[str, str]:
    answer = api.get("/", accepted=_ANSWERS)
    seen = {"address": settings.public_address, "answered": str(answer.status)}
    if settings.commit_path and commit:
        text = api.get(settings.commit_path).body.decode("utf-8", "replace").lower()
        if commit[:7] not in text:
            raise PermanentError(
                "see the front end at the public address",
                f"{settings.public_address}{settings.commit_path}",
                f"it does not say {commit[:7]}: {' '.join(text.split())[:100]}",
                "Look at what is in front of Vercel: DNS, CloudFront's origin, its cache",
            )
        seen["commit"] = commit[:12]
    return seen


def cached_paths(settings: Frontend) -> tuple[list[str], dict[str, str]]:
    """Ask each path of the API twice, and return what is wrong with each that a cache answers or may keep, and what each answered.

    Raise TemporaryError when the API does not answer: then nobody knows.
    """
    problems, seen = [], {}
    with WebApi(settings.public_address, what="the public address") as api:
        for path in settings.uncached:
            answers = [api.get(path, accepted=_OF_THE_API) for _ in range(2)]
            signs = cached_signs([(one.status, _headers(one)) for one in answers])
            seen[path] = f"{answers[-1].status}, {'; '.join(signs) or 'not cached'}"
            if signs:
                problems.append(f"{settings.public_address}{path} is cached: {'; '.join(signs)}")
    return problems, seen


def require_uncached(settings: Frontend) -> dict[str, str]:
    """As `cached_paths`. Raise PermanentError naming each path that is cached."""
    problems, seen = cached_paths(settings)
    if problems:
        raise PermanentError(
            "see that the API is not cached",
            settings.public_address,
            "; ".join(problems),
            "Give its behaviour in CloudFront the policy Managed-CachingDisabled, and let the API say cache-control: no-store",
        )
    return seen


def _headers(answer: Answer) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in answer.headers.items()}
