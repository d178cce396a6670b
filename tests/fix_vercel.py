"""Vercel's REST API as far as a release uses it, after its documentation: one project, its deployments and domains; and a public address in front of it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from tests.fix_release import Stage
from tests.fix_web_script import Asked, Reply, WebScript

TOKEN = "vcp_a-token-of-the-test-0123456789"
PROJECT, TEAM, DOMAIN, SECOND = "prj_shop0123", "team_shop0123", "app.shop.test", "www.shop.test"
OLD, NEW, THIRD = "dpl_old0001", "dpl_new0002", "dpl_third003"
FRONT_COMMIT = "f" * 40
Fault = Callable[[Asked], Reply | None]


class Vercel:
    """`domains`: domain → deployment. `polls`: how often the project is read before a request has moved them. `asked`: what was taken on, as (kind, deployment).

    `faults`: each counts for the next request that it is about (a part of its method and path): a reply in place of the real one, or after the real thing was done.
    """

    def __init__(self) -> None:
        self.web = WebScript()
        self.web.reply = self._reply
        self.lock = threading.Lock()
        self.polls = 1
        self.reset()

    def reset(self) -> None:
        """As at the beginning: the old one is live."""
        self.domains = {DOMAIN: OLD, SECOND: OLD}
        self.deployments = {
            name: {
                "id": name,
                "url": f"shop-{name[4:]}.vercel.app",
                "readyState": "READY",
                "readySubstate": "STAGED",
                "projectId": PROJECT,
                "target": "production",
                "meta": {"githubCommitSha": FRONT_COMMIT},
            }
            for name in (OLD, NEW, THIRD)
        }
        # As the project has them: GET /v9/projects/{idOrName}/domains/{domain}.
        self.its_domains: dict[str, dict[str, Any]] = {
            name: {"name": name, "projectId": PROJECT, "verified": True, "redirect": None, "gitBranch": None}
            for name in self.domains
        }
        self.job: dict[str, Any] | None = None
        self.project: dict[str, Any] = {"id": PROJECT, "autoAssignCustomDomains": False}
        self.asked: list[tuple[str, str]] = []
        self.faults: list[tuple[str, Reply | None, bool]] = []
        self.ends = "succeeded"
        self.kept = frozenset[str]()
        # Asked before and after a request is taken on; a true answer before it drops the request.
        self.on_write: Callable[[bool], object] = lambda _after: None
        self._left = 0

    def settings(self, public: str) -> dict[str, Any]:
        """The table [release.frontend]."""
        return {
            "project": PROJECT,
            "team": TEAM,
            "token": "env:NIGHTSHIFT_TEST_VERCEL_TOKEN",
            "domains": [DOMAIN, SECOND],
            "public_address": public,
            "commit_path": "/version.json",
            "address": self.web.address,
        }

    def fault(self, about: str, reply: Reply | None = None, *, after: bool = False) -> None:
        """For the next request whose method and path have this text: a reply (None: no answer) instead of the real one; `after`: it is done all the same."""
        self.faults.append((about, reply or Reply(status=0), after))

    @property
    def live(self) -> set[str]:
        """The deployments that have a domain."""
        return set(self.domains.values())

    def _reply(self, asked: Asked) -> Reply:
        with self.lock:
            if asked.headers.get("authorization") != f"Bearer {TOKEN}":
                return Reply({"error": {"code": "forbidden", "message": "Not authorized", "invalidToken": True}}, 403)
            if asked.query.get("teamId") != [TEAM]:
                return Reply({"error": {"code": "not_found"}}, 404)
            name = f"{asked.method} {asked.path}"
            fault = next((one for one in self.faults if one[0] in name), None)
            if fault is not None:
                self.faults.remove(fault)
            if fault is not None and not fault[2]:
                return fault[1] or Reply(status=0)
            if asked.method == "POST" and self.on_write(False):
                return Reply(status=0)
            reply = self._answer(asked)
            if asked.method == "POST":
                self.on_write(True)
            return (fault[1] or Reply(status=0)) if fault is not None else reply

    def _answer(self, asked: Asked) -> Reply:
        parts = asked.path.strip("/").split("/")
        match asked.method, *parts:
            case "GET", "v13", "deployments", name:
                known = {**self.deployments, **{one["url"]: one for one in self.deployments.values()}}
                return Reply(known[name]) if name in known else Reply({"error": {"code": "not_found"}}, 404)
            case "GET", "v9", "projects", "prj_shop0123":
                self._go_on()
                return Reply({**self.project, "lastAliasRequest": self.job})
            case "GET", "v4", "aliases", domain if domain in self.domains:
                return Reply({"alias": domain, "deploymentId": self.domains[domain], "projectId": PROJECT})
            case "GET", "v1", "projects", "prj_shop0123", "promote", "aliases":
                rows = [{"alias": {"alias": one, "deploymentId": OLD}, "status": "failed"} for one in sorted(self.kept)]
                return Reply({"aliases": rows, "pagination": {}})
            case "POST", "v10" | "v1", "projects", "prj_shop0123", ("promote" | "rollback") as kind, deployment:
                return self._take_on(kind, deployment)
        return self._look(asked, parts)

    def _look(self, asked: Asked, parts: list[str]) -> Reply:
        """What only `nightshift check` asks for."""
        match asked.method, *parts:
            case "GET", "v9", "projects", "prj_shop0123", "domains", name if name in self.its_domains:
                return Reply(self.its_domains[name])
            case "GET", "v6", "deployments":
                its = asked.query.get("projectId") == [PROJECT] and asked.query.get("target") == ["production"]
                newest = {"uid": NEW, "projectId": PROJECT, "target": "production", "readyState": "READY"}
                return Reply({"deployments": [newest] if its and self.deployments else [], "pagination": {}})
        return Reply({"error": {"code": "not_found", "message": "Not found"}}, 404)

    def _take_on(self, kind: str, deployment: str) -> Reply:
        if deployment not in self.deployments:
            return Reply({"error": {"code": "not_found"}}, 404)
        if self.job is not None and self.job["jobStatus"] in {"pending", "in-progress"}:
            return Reply({"error": {"code": "conflict", "message": "another request is in progress"}}, 409)
        self.asked.append((kind, deployment))
        at = (self.job or {"requestedAt": 1700000000000})["requestedAt"] + 1000
        self.job = {"type": kind, "toDeploymentId": deployment, "fromDeploymentId": self.domains[DOMAIN], "jobStatus": "pending", "requestedAt": at}  # fmt: skip
        self._left = self.polls
        # Neither has a body.
        return Reply(b"", 202 if kind == "promote" else 201)

    def _go_on(self) -> None:
        if self.job is None or self.job["jobStatus"] not in {"pending", "in-progress"}:
            return
        self.job["jobStatus"] = "in-progress"
        self._left -= 1
        if self._left < 0:
            for domain in self.domains:
                if self.ends != "skipped" and domain not in self.kept:
                    self.domains[domain] = self.job["toDeploymentId"]
            self.job["jobStatus"] = "failed" if self.kept else self.ends


class PublicAddress:
    """What people ask: the front end that has the domains, and the API behind it. `cached`: headers of the API's answers."""

    def __init__(self, vercel: Vercel) -> None:
        self.web, self.vercel = WebScript(), vercel
        self.web.reply = self._reply
        self.cached: dict[str, str] = {"Cache-Control": "no-store", "Age": "0"}
        self.status, self.commit = 200, FRONT_COMMIT

    def _reply(self, asked: Asked) -> Reply:
        if asked.path == "/api/health":
            return Reply({"ok": True}, headers={"X-Cache": "Miss from cloudfront", **self.cached})
        if asked.path == "/version.json":
            live = self.vercel.domains[DOMAIN]
            return Reply({"commit": self.commit if live == NEW else "0" * 40})
        return Reply(b"<html></html>", self.status, {"Content-Type": "text/html"})


@pytest.fixture
def vercel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vercel]:
    """Vercel with one project; nobody waits long for it."""
    monkeypatch.setenv("NIGHTSHIFT_TEST_VERCEL_TOKEN", TOKEN)
    monkeypatch.setattr("tasks.web_api._backoff", lambda _state: 0.01)
    monkeypatch.setattr("tasks.frontend.POLL_SECONDS", 0.01)
    monkeypatch.setattr("tasks.frontend.LATE_SECONDS", 0.3)
    monkeypatch.setattr("tasks.public_address.POLL_SECONDS", 0.01)
    monkeypatch.setattr("tasks.public_address.SEEN_SECONDS", 0.2)
    found = Vercel()
    yield found
    found.web.close()


@pytest.fixture
def public(vercel: Vercel) -> Iterator[PublicAddress]:
    """The public address."""
    found = PublicAddress(vercel)
    yield found
    found.web.close()


def distribution() -> str:
    """A distribution of moto's, deployed; its id."""
    make: Any = boto3.Session().client
    client = make("cloudfront", region_name="us-east-1")
    origin = {"Id": "front", "DomainName": DOMAIN, "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}}  # fmt: skip
    config = {
        "CallerReference": secrets.token_hex(8),
        "Origins": {"Quantity": 1, "Items": [origin]},
        "DefaultCacheBehavior": {"TargetOriginId": "front", "ViewerProtocolPolicy": "https-only"},
        "Comment": "",
        "Enabled": True,
    }
    name = str(client.create_distribution(DistributionConfig=config)["Distribution"]["Id"])
    client.close()
    return name


def references(name: str) -> list[str]:
    """The CallerReferences of a distribution's invalidations, in order; one that came twice is one at AWS."""
    make: Any = boto3.Session().client
    client = make("cloudfront", region_name="us-east-1")
    found = [
        client.get_invalidation(DistributionId=name, Id=one["Id"])["Invalidation"]["InvalidationBatch"][
            "CallerReference"
        ]
        for one in client.list_invalidations(DistributionId=name)["InvalidationList"].get("Items", [])
    ]
    client.close()
    return found


@pytest.fixture
def front(  # noqa: PLR0917 - fixtures
    stage: Stage,
    vercel: Vercel,
    public: PublicAddress,
    aws_of_test: None,
    quick_retries: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Stage:
    """The stage, with a front end."""
    monkeypatch.setattr("tasks.release_plans.make_plan.retry_delay_seconds", 0.05)
    stage.settings["release"]["frontend"] = {**vercel.settings(public.web.address), "distribution": distribution()}
    return stage
