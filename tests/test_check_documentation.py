"""Item documentation: the page is there, and says what it must."""

from typing import Any

import pytest

from core.image_reference import ResolvedImage
from core.release_checks import ReleaseCheck
from tasks.check_documentation import check_documentation
from tests.fix_preflight import COMMIT, KEY, NEW, REPOSITORY, ScriptedWeb, preflight_for


def look(web: ScriptedWeb, path: str = "/releases/{tag}", tag: str | None = "1.5", **settings: Any) -> ReleaseCheck:
    image = ResolvedImage(repository=REPOSITORY, tag=tag, digest=NEW)
    return check_documentation(
        preflight_for(documentation={"url": web.address + path, **settings}, images={KEY: image})
    )


def test_a_page_of_this_release_passes(web: ScriptedWeb) -> None:
    web.answers = {"/releases/1.5": (200, "<h1>1.5</h1>"), f"/commit/{COMMIT}": (302, "")}
    assert look(web).found == f"{web.address}/releases/1.5 answered 200"
    assert look(web, "/commit/{commit}").state == "passed"


def test_a_page_must_hold_what_it_is_asked_for(web: ScriptedWeb) -> None:
    web.answers = {"/CHANGELOG.md": (200, "## 1.5\n")}
    assert look(web, "/CHANGELOG.md", contains="## {tag}").state == "passed"
    check = look(web, "/CHANGELOG.md", contains="## {tag}", tag="1.6")
    assert (check.state, "does not hold '## 1.6'" in check.found) == ("failed", True)
    web.answers = {"/CHANGELOG.md": (302, "## 1.5")}
    assert look(web, "/CHANGELOG.md", contains="## {tag}").state == "failed", "a redirect's text is not the page's"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500])
def test_a_page_that_is_not_there_fails(web: ScriptedWeb, status: int) -> None:
    web.answers = {"/releases/1.5": (status, "")}
    check = look(web)
    assert (check.state, str(status) in check.found) == ("failed", True)


@pytest.mark.parametrize("seconds", [2, None])
def test_a_server_that_stays_away_fails(web: ScriptedWeb, seconds: float | None) -> None:
    web.seconds = seconds
    assert look(web).state == "failed"


def test_a_release_by_digest_has_no_tag_to_look_for(web: ScriptedWeb) -> None:
    check = look(web, tag=None)
    assert (check.state, "needs the tag" in check.found) == ("failed", True)
    assert web.requests == []


def test_a_tag_cannot_lead_to_another_place(web: ScriptedWeb) -> None:
    assert look(web, "/releases/{tag}", tag="..").state == "failed"
    assert check_documentation(preflight_for()).state == "not-configured"
