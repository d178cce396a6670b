"""Item documentation of the checklist: the change is written down where people look for it."""

from urllib.parse import quote

from core.image_reference import ResolvedImage
from core.release_checks import ReleaseCheck, failed, not_configured, passed
from core.secret_reference import shown_reference
from tasks.preflight_item import Preflight, asked
from tasks.secrets import resolve
from tasks.web_api import WebApi

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NEXT_STEP = "Write the change down there, or correct release.checks.documentation"


@asked("documentation")
def check_documentation(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether its page answers (200, or it is elsewhere: 3xx), and holds the text that it must."""
    settings = preflight.release.checks.documentation
    if settings is None:
        return not_configured("documentation", "nobody looked for a changelog", "Write [release.checks.documentation]")
    words = _words(preflight)
    texts = [settings.url, settings.contains or ""]
    if lacking := [name for name, value in words.items() if not value and any(f"{{{name}}}" in text for text in texts)]:
        return failed(
            "documentation",
            f"{settings.url} needs the {', '.join(lacking)}, which this release does not have",
            _NEXT_STEP,
        )
    url, contains = _filled(settings.url, words, quoted=True), _filled(settings.contains or "", words, quoted=False)
    headers, known = {}, "release.checks.documentation.token is not set"
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {resolve(settings.token).get_secret_value().strip()}"
        known = f"release.checks.documentation.token = {shown_reference(settings.token)}"
    steps = {401: known, 403: known, 404: _NEXT_STEP}
    with WebApi(url, what="the documentation", headers=headers, next_steps=steps) as api:
        # A page that is elsewhere is there; but its text was not seen.
        answer = api.get("", accepted=frozenset() if contains else _REDIRECTS)
    if contains and contains not in answer.body.decode("utf-8", "replace"):
        return failed("documentation", f"{url} answers, and does not hold {contains!r}", _NEXT_STEP)
    held = f" and holds {contains!r}" if contains else ""
    return passed("documentation", f"{url} answered {answer.status}{held}", url=url, status=answer.status)


def _words(preflight: Preflight) -> dict[str, str]:
    [first, *_] = preflight.release.deployments("api")
    image: ResolvedImage | None = preflight.images.get(first.key)
    return {
        "tag": (image.tag or "") if image else "",
        "digest": image.digest if image else "",
        "commit": preflight.commit,
    }


def _filled(text: str, words: dict[str, str], *, quoted: bool) -> str:
    for name, value in words.items():
        text = text.replace(f"{{{name}}}", quote(value, safe="") if quoted else value)
    return text
