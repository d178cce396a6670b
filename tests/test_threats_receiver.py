"""What somebody with a leaked secret can and cannot do at the receiver, over HTTP (docs/security.md, docs/webhook.md)."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fix_web_script import WebScript
from tests.fix_webhook import (
    OLD_SECRET,
    REPOSITORY_ID,
    SECRET,
    SHA,
    Hook,
    body_of,
    claims,
    deployment,
    github_headers,
    key_set,
    token,
    webhook_table,
)
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("threats-receiver")]
# Secrets of other parts that somebody may try here.
FOREIGN = ("a signing key of more than thirty-two characters", "ghp_report-token", "vcp_a-token", "user:password")


def given(hook: Hook) -> list[dict[str, Any]]:
    """What each run was started with."""
    file = hook.folder / "given"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hook, str]]:
    """A receiver, one for all, whose rule takes the image of a deployment's payload; and the address of who makes the jobs' tokens."""
    folder, web = tmp_path_factory.mktemp("receiver"), WebScript()
    web.always(key_set("first"))
    hook = Hook(folder, free_port())
    repositories = webhook_table()["repositories"]
    repositories["api"]["triggers"][0]["take"] = {"image": "image", "commit": "commit", "requested_by": "actor"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(folder))
        patch.setenv("HOOK_SECRET", SECRET)
        patch.setenv("HOOK_OLD_SECRET", OLD_SECRET)
        patch.delenv("PREFECT_API_URL", raising=False)
        hook.write(repositories=repositories, issuer=web.address)
        hook.start()
        yield hook, web.address
    hook.end()
    web.close()


@pytest.fixture
def hook_by_image(door: tuple[Hook, str]) -> Hook:
    """The receiver, of whose runs nobody knows yet."""
    (door[0].folder / "given").unlink(missing_ok=True)
    return door[0]


def test_who_has_the_webhook_secret_starts_what_the_rules_allow_and_chooses_nothing_else(hook_by_image: Hook) -> None:
    hook = hook_by_image
    # Any commit and tag that fits its field; whatever else is written into the payload is not looked at.
    wishes = {"flow": "restore", "environment": "production", "migrate": True, "skip_checks": {"ci": "no"}, "approval": False, "plan": "0" * 8}  # fmt: skip
    made_up = deployment(1, sha="b" * 40, payload={"image": "v6.6.6", **wishes}, **wishes | {"environment": "staging"})
    assert hook.github({**made_up, **wishes, "parameters": wishes, "inputs": wishes}).status_code == 202
    wait_until(lambda: given(hook), "its run")
    (start,) = given(hook)
    assert (start["flow"], start["environment"]) == ("release", "staging")
    assert start["parameters"] == {
        "environment": "staging",
        "image": "v6.6.6",
        "commit": "b" * 40,
        "requested_by": "octocat",
    }
    # Neither another repository nor another repository's image, nor another environment's address.
    stranger = {**deployment(2), "repository": {"id": REPOSITORY_ID + 1, "full_name": "acme/api"}}
    assert hook.github(stranger).status_code == 403
    for image in ("registry.evil/api:v1", "evil/api", "registry.evil/api@sha256:" + "a" * 64, "../api:v1"):
        assert hook.github(deployment(3, payload={"image": image})).status_code == 422, image
    body = body_of(deployment(4))
    elsewhere = httpx.post(
        f"{hook.address}/github/production",
        content=body,
        headers=github_headers(body, "deployment"),
        timeout=30,
        trust_env=False,
    )
    assert elsewhere.status_code == 404
    assert len(given(hook)) == 1


def test_who_has_one_signed_delivery_sends_it_again_and_changes_nothing_in_it(hook_by_image: Hook) -> None:
    hook = hook_by_image
    body = body_of(deployment(11, payload={"image": "v1.8.0"}))
    headers = github_headers(body, "deployment")

    def send(content: bytes, **more: str) -> int:
        return httpx.post(
            f"{hook.address}/github/staging", content=content, headers={**headers, **more}, timeout=30, trust_env=False
        ).status_code

    assert send(body) == 202
    assert send(body, **{"X-GitHub-Delivery": "another"}) == 200
    assert send(body.replace(b"v1.8.0", b"v1.7.0")) == 401
    assert send(body + b" ") == 401
    for event in ("workflow_run", "release"):
        assert send(body, **{"X-GitHub-Event": event}) != 202, event
    old = deployment(12, created="2020-01-01T00:00:00Z", payload={"image": "v1.8.0"})
    assert hook.github(old).status_code == 409
    wait_until(lambda: given(hook), "its run")
    assert [one["parameters"]["image"] for one in given(hook)] == ["v1.8.0"]


def test_who_has_a_jobs_token_uses_it_once_and_for_what_it_was_made(
    hook_by_image: Hook, door: tuple[Hook, str]
) -> None:
    hook, issuer = hook_by_image, door[1]
    body = {"parameters": {"image": "v1.8.0"}}

    def ask(number: int, **more: Any) -> int:
        return hook.actions(body, token(claims(number, iss=issuer, **more))).status_code

    assert [
        # A token of another repository, of a pull request, another ref, workflow, environment, audience or issuer, or an old one.
        ask(1, repository_id="99"),
        ask(2, ref="refs/pull/1/merge"),
        ask(3, ref="refs/heads/evil"),
        ask(4, job_workflow_ref="acme/api/.github/workflows/other.yml@refs/heads/main"),
        ask(5, environment="production"),
        ask(6, aud="nightshift-production"),
        ask(7, exp=1),
        hook.actions(body, token(claims(8, iss=issuer), key="of the thief")).status_code,
    ] == [403, 403, 403, 403, 403, 401, 401, 401]
    good = token(claims(9, iss=issuer))
    forbidden = {"parameters": {"image": "v1.8.0", "skip_checks": "ci"}}
    assert hook.actions(forbidden, good).status_code in {403, 422}
    fresh = token(claims(10, iss=issuer))
    assert [hook.actions(body, fresh).status_code for _ in range(2)] == [202, 401]
    wait_until(lambda: given(hook), "its run")
    (start,) = given(hook)
    assert (start["flow"], start["environment"], start["parameters"]["commit"]) == ("release", "staging", SHA)


def test_no_other_secret_opens_the_receiver(hook_by_image: Hook) -> None:
    hook = hook_by_image
    for secret in FOREIGN:
        assert hook.github(deployment(), secret=secret).status_code == 401, secret
        assert hook.actions({"parameters": {}}, secret).status_code == 401, secret
    # Nor the webhook's own at the door of the jobs.
    assert hook.actions({"parameters": {}}, SECRET).status_code == 401
    assert given(hook) == []
