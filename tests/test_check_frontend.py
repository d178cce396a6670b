"""What a release that carries a front end is told before anything is changed: of the deployment, the domains, and what is in front of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from core.environment_frontend import Frontend
from core.errors import NightshiftError
from core.frontend import (
    AliasJob,
    FrontendPlan,
    Standing,
    cached_signs,
    commit_of,
    deployment_problems,
    job_of,
    next_move,
)
from core.release_checks import ReleaseCheck
from core.release_plan import ReleasePlan
from tasks.check_frontend import check_api_cache, check_frontend
from tasks.frontend import plan_frontend
from tests.fix_preflight import preflight_for, release_with
from tests.fix_vercel import DOMAIN, NEW, OLD, PROJECT, SECOND, THIRD, TOKEN, PublicAddress, Vercel
from tests.fix_web_script import Reply


@pytest.fixture
def settings(vercel: Vercel, public: PublicAddress) -> Iterator[dict[str, Any]]:
    yield vercel.settings(public.web.address)


def looked_at(settings: dict[str, Any], plan: FrontendPlan | None = None, commit: str = "f" * 40) -> list[ReleaseCheck]:
    release = release_with(frontend=settings)
    plan = plan or plan_frontend(release, NEW)
    preflight = preflight_for(release, commit=commit)
    preflight.frontend = plan
    return [check_frontend(preflight), check_api_cache(preflight)]


def told_of(settings: dict[str, Any]) -> str:
    """What keeps it from being planned, or fails in the checklist; never the token."""
    try:
        told = "; ".join(one.found + one.next_step for one in looked_at(settings) if one.state == "failed")
    except NightshiftError as error:
        told = str(error)
    assert TOKEN not in told
    return told


def test_one_that_is_ready_passes_and_is_planned_by_its_address_too(vercel: Vercel, settings: dict[str, Any]) -> None:
    assert [one.state for one in looked_at(settings)] == ["passed", "passed"]
    release = release_with(frontend=settings)
    plan = plan_frontend(release, f"https://{vercel.deployments[NEW]['url']}/")
    assert plan == plan_frontend(release, NEW)
    assert (plan and plan.deployment, plan and plan.before) == (NEW, OLD)
    assert plan_frontend(release, "") is None
    assert not vercel.asked


def test_without_a_front_end_nobody_looks() -> None:
    assert {one(preflight_for()).state for one in (check_frontend, check_api_cache)} == {"not-configured"}
    with pytest.raises(NightshiftError, match=r"no table \[release.frontend\]"):
        plan_frontend(release_with(), NEW)


def test_what_cannot_be_promoted_is_told(vercel: Vercel, public: PublicAddress, settings: dict[str, Any]) -> None:
    deployment = vercel.deployments[NEW]
    for key, value, told in [
        ("projectId", "prj_another", "belongs to project prj_another"),
        ("readyState", "BUILDING", "is BUILDING, not READY"),
        ("target", None, "was built for a preview"),
        ("id", None, "Vercel told of no deployment with an id"),
    ]:
        was = deployment[key]
        deployment[key] = value
        assert told in told_of(settings)
        deployment[key] = was
    vercel.project["rollingRelease"] = {"target": "production"}
    assert "rolling releases" in told_of(settings)
    vercel.reset()
    vercel.domains[SECOND] = THIRD
    assert "are on several deployments" in told_of(settings)
    vercel.reset()
    vercel.job = {"type": "promote", "toDeploymentId": THIRD, "jobStatus": "pending", "requestedAt": 1}
    vercel._left = 99
    assert "somebody moves the domains just now" in told_of(settings)
    vercel.reset()
    plan = plan_frontend(release_with(frontend=settings), NEW)
    vercel.domains = dict.fromkeys(vercel.domains, THIRD)
    assert f"{THIRD} is live, and the plan was made while {OLD} was" in looked_at(settings, plan)[0].found
    vercel.reset()
    del vercel.deployments[NEW]
    assert "it answered 404" in told_of(settings)
    vercel.reset()
    public.web.always(b"", 503)
    assert "it answered 503" in told_of(settings)


@pytest.mark.parametrize(
    ("about", "reply", "told"),
    [
        ("GET /v13/", Reply(b"<html>sign in</html>"), "the answer is no JSON"),
        ("GET /v4/", Reply(["a", "list"]), "it is no object"),
        ("GET /v4/", Reply({"alias": DOMAIN}), "it has no deploymentId"),
        ("GET /v9/", Reply({"lastAliasRequest": "soon"}), "lastAliasRequest is no object"),
        ("GET /v9/", Reply({"lastAliasRequest": {"requestedAt": "soon"}}), "invalid literal"),
        ("GET /v13/", Reply({"error": {"message": "expired"}}, 401), "release.frontend.token"),
        ("GET /v13/", Reply({}, 302, {"Location": "https://vercel.com/login"}), "it answered 302"),
    ],
)
def test_rubbish_and_refusals_are_told_and_never_passed(
    vercel: Vercel, settings: dict[str, Any], about: str, reply: Reply, told: str
) -> None:
    for _ in range(9):
        vercel.faults.append((about, reply, False))
    assert told in told_of(settings)


def test_a_server_that_is_busy_or_away_is_asked_again(vercel: Vercel, settings: dict[str, Any]) -> None:
    vercel.fault("GET /v13/", Reply({}, 429, {"Retry-After": "0.01"}))
    vercel.fault("GET /v13/", Reply({}, 500))
    vercel.fault("GET /v9/")
    assert told_of(settings) == ""
    vercel.web.close()
    assert "no answer" in told_of(settings)


def test_the_same_commit_where_that_is_asked_for(vercel: Vercel, settings: dict[str, Any]) -> None:
    assert looked_at(settings, commit="2" * 40)[0].state == "passed"
    settings["same_commit"] = True
    assert looked_at(settings, commit="fffffff")[0].state == "passed"
    told = "is of commit ffffffffffff, and the release of 222222222222"
    assert told in looked_at(settings, commit="2" * 40)[0].found
    vercel.deployments[NEW]["meta"] = {}
    assert "does not say of which commit it is" in looked_at(settings)[0].found


def test_a_cached_api_is_told(public: PublicAddress, settings: dict[str, Any]) -> None:
    public.cached = {"X-Cache": "Hit from cloudfront", "Age": "7", "Cache-Control": "public, max-age=60"}
    (_, check) = looked_at(settings)
    assert check.found.endswith(
        "/api/health is cached: x-cache: Hit from cloudfront; age: 7; cache-control: public, max-age=60"
    ), check.found
    assert check.state == "failed" and "Managed-CachingDisabled" in check.next_step
    assert looked_at({**settings, "uncached": []})[1].state == "not-configured"


@pytest.mark.parametrize(
    ("headers", "signs"),
    [
        ({}, []),
        ({"x-cache": "Miss from cloudfront", "age": "0", "cache-control": "private, max-age=5"}, []),
        ({"x-cache": "RefreshHit from cloudfront"}, ["x-cache: RefreshHit from cloudfront"]),
        ({"age": "1"}, ["age: 1"]),
        ({"cache-control": "Public"}, ["cache-control: public"]),
        ({"cache-control": "s-maxage=60, private"}, ["cache-control: s-maxage=60"]),
        ({"cache-control": "s-maxage=0"}, []),
        ({"cache-control": "public, no-store"}, []),
        ({"cache-control": "max-age=300"}, ["cache-control: max-age=300"]),
        ({"cache-control": "max-age=0, must-revalidate"}, []),
        ({"cache-control": "max-age=300, no-cache"}, []),
        ({"x-vercel-cache": "STALE"}, ["x-vercel-cache: STALE"]),
        ({"x-vercel-cache": "MISS"}, []),
    ],
)
def test_signs_of_a_cache(headers: dict[str, str], signs: list[str]) -> None:
    assert cached_signs([(200, {}), (200, headers)]) == signs
    assert cached_signs([(200, headers), (200, headers)]) == signs


def job(to: str, status: str) -> AliasJob:
    return AliasJob("promote", to, status, 1)


@pytest.mark.parametrize(
    ("on", "last", "move"),
    [
        ({OLD}, None, "ask"),
        ({NEW}, None, "done"),
        ({NEW}, job(NEW, "succeeded"), "done"),
        ({NEW}, job(OLD, "in-progress"), "wait"),
        ({OLD}, job(NEW, "pending"), "wait"),
        ({OLD, NEW}, job(NEW, "failed"), "ask"),
        ({OLD, THIRD}, None, "theirs"),
        ({NEW, THIRD}, None, "theirs"),
        ({THIRD}, job(THIRD, "succeeded"), "theirs"),
    ],
)
def test_what_is_to_be_done_follows_from_what_is_there(on: set[str], last: AliasJob | None, move: str) -> None:
    domains = {f"{number}.shop.test": one for number, one in enumerate(sorted(on))}
    assert next_move(Standing(domains, last), NEW, OLD) == move


def test_odds_and_ends() -> None:
    assert job_of({}) is None
    assert commit_of({"gitSource": {"sha": "ABC"}}) == "abc"
    assert commit_of({"gitSource": None, "meta": None}) == ""
    assert len(deployment_problems({}, PROJECT, "f" * 40)) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"project": "shop"},
        {"team": "shop"},
        {"domains": []},
        {"domains": ["https://app.shop.test"]},
        {"token": "vcp_0123"},
        {"address": "http://vercel.test"},
        {"address": "http://127.0.0.1.evil.test"},
        {"public_address": "https://user:word@shop.test"},
        {"uncached": ["api"]},
        {"minutes": 0},
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Frontend.model_validate({**settings, **wrong})
    assert Frontend.model_validate({**settings, "team": "", "commit_path": "", "distribution": ""}).team is None


def test_a_release_without_a_front_end_has_the_hash_that_it_had() -> None:
    given: dict[str, Any] = {
        "environment": "production", "release_id": "r-1", "strategy": "rolling", "namespace": "shop", "commit": "1" * 40, "image": "i",
        "requested_by": "", "schema_compatibility": "backward", "targets": (),
    }  # fmt: skip
    plan = ReleasePlan(**given)
    front = FrontendPlan(project=PROJECT, domains=(DOMAIN,), deployment=NEW, url="", before=OLD)
    with_front = plan.model_copy(update={"frontend": front})
    assert plan.sha256 != with_front.sha256
    assert '"frontend"' not in plan.model_dump_json(exclude_none=True)
    assert plan.is_live_already and not with_front.is_live_already
