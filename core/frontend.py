"""The front end of a release at Vercel: what is planned, how the project stands, and what that asks for.

Sources: Vercel's REST API (GET /v13/deployments/{idOrUrl}, GET /v9/projects/{idOrName}, GET /v4/aliases/{idOrAlias},
POST /v10/projects/{projectId}/promote/{deploymentId}, POST /v1/projects/{projectId}/rollback/{deploymentId}) and what its CLI makes of them
(vercel/vercel, packages/cli/src/commands/promote/status.ts): a request is taken on and answered before the domains move; the project's `lastAliasRequest` says how
far it is. There is no way to say "only if it is still as I read it".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from core.manifest import Record
from core.release_journal import Journal

Document = dict[str, Any]
# Of a release's parameter: an id, or the address that `vercel deploy` prints.
DEPLOYMENT = r"^(dpl_[A-Za-z0-9]{4,64}|(https://)?[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+/?)?$"
# The steps, by their names in journal and report.
NOTE = "note the front end that is live"
PROMOTE, INVALIDATE, ASK = "promote the front end", "invalidate CloudFront", "ask the public address"
# The way back begins with a short try: a new front end must not meet the old backend. Where that fails nothing waits for it.
BACK_AT_ONCE, BACK, INVALIDATE_BACK = "front end (back, at once)", "front end (back)", "invalidate CloudFront (back)"
Move = Literal["done", "wait", "ask", "theirs"]
_RUNNING = frozenset({"pending", "in-progress"})
# Where a deployment says its commit: that of the connected repository, or what the CLI found in its folder.
_COMMITS = ("githubCommitSha", "gitlabCommitSha", "bitbucketCommitSha", "gitCommitSha")


class FrontendPlan(Record):
    """The deployment that a release promotes, and `before`: the one that is live when it is planned."""

    project: str
    domains: tuple[str, ...]
    deployment: str
    url: str
    commit: str = ""
    before: str

    @property
    def is_live(self) -> bool:
        """Whether it was live before the release: then nothing of it is changed, neither forward nor back."""
        return self.before == self.deployment

    @property
    def told(self) -> str:
        """What is to become of it, in words."""
        where = ", ".join(self.domains)
        commit = f", commit {self.commit[:12]}" if self.commit else ""
        now = "which has it already" if self.is_live else f"which {self.before} has now"
        return f"{self.deployment} ({self.url}{commit}) on {where}, {now}"


class AliasJob(NamedTuple):
    """The last time that somebody asked for the domains to be moved: which kind, to which deployment, how far it is, and when it was asked for (by Vercel's clock)."""

    kind: str
    to: str
    status: str
    at: int

    @property
    def runs(self) -> bool:
        """Whether the domains may still move by it."""
        return self.status in _RUNNING


class Standing(NamedTuple):
    """How the project stands: domain → deployment, and the last request."""

    domains: Mapping[str, str]
    job: AliasJob | None

    @property
    def live(self) -> str:
        """The deployment that has all of the domains; "" when they are on several."""
        found = set(self.domains.values())
        return found.pop() if len(found) == 1 else ""

    def __str__(self) -> str:
        """Who has what."""
        told = ", ".join(f"{domain} → {deployment}" for domain, deployment in self.domains.items())
        return f"{told}; {self.job.kind} of {self.job.to} is {self.job.status}" if self.job and self.job.runs else told


def job_of(project: Document) -> AliasJob | None:
    """The last request of a project; None when there was none. Raise TypeError or ValueError when it is of another shape."""
    found = project.get("lastAliasRequest")
    if found is None:
        return None
    if not isinstance(found, dict):
        raise TypeError("lastAliasRequest is no object")
    status = str(found.get("jobStatus") or "")
    return AliasJob(
        str(found.get("type") or "move"),
        str(found.get("toDeploymentId") or ""),
        status,
        int(found.get("requestedAt") or 0),
    )


def commit_of(deployment: Document) -> str:
    """The commit that a deployment says that it was built of; "" when it says none."""
    source = deployment.get("gitSource")
    meta = deployment.get("meta")
    told = [source.get("sha")] if isinstance(source, dict) else []
    told += [meta.get(name) for name in _COMMITS] if isinstance(meta, dict) else []
    return next((str(one).lower() for one in told if one), "")


def deployment_problems(deployment: Document, project: str, commit: str) -> list[str]:
    """Given a deployment, the project and the commit that it must be of ("": any), return what keeps it from being promoted."""
    name, found = str(deployment.get("id") or "it"), []
    if (state := deployment.get("readyState")) != "READY":
        found.append(f"{name} is {state}, not READY")
    if (its := deployment.get("projectId")) != project:
        found.append(f"{name} belongs to project {its}, not to {project}")
    if (target := deployment.get("target")) != "production":
        # A preview is built anew when it is promoted: what would be live is not what was looked at.
        found.append(
            f"{name} was built for {target or 'a preview'}, not for production (vercel deploy --prod --skip-domain)"
        )
    if commit:
        its_commit = commit_of(deployment)
        if not its_commit:
            found.append(f"{name} does not say of which commit it is, and it must be {commit[:12]}")
        elif not (its_commit.startswith(commit) or commit.startswith(its_commit)):
            found.append(f"{name} is of commit {its_commit[:12]}, and the release of {commit[:12]}")
    return found


def project_problems(project: Document, standing: Standing, plan: FrontendPlan) -> list[str]:
    """Given a project, how it stands and the plan, return what keeps the domains from being moved."""
    found = []
    if project.get("rollingRelease"):
        found.append("the project has rolling releases: a promotion would move a share of the traffic. Switch them off")
    if standing.job is not None and standing.job.runs:
        found.append(f"somebody moves the domains just now: {standing}")
    if not standing.live:
        found.append(f"its domains are on several deployments: {standing}")
    elif standing.live != plan.before:
        found.append(f"{standing.live} is live, and the plan was made while {plan.before} was")
    return found


def next_move(standing: Standing, wanted: str, other: str) -> Move:
    """Given how a project stands, the deployment that its domains are to be on, and the one that they may be on, return what to do.

    "theirs": a domain is on a third one, which somebody else put there. While a request runs nobody knows where the domains will be: it is waited for, whoever made it.
    """
    if standing.job is not None and standing.job.runs:
        return "wait"
    on = set(standing.domains.values())
    if on == {wanted}:
        return "done"
    return "theirs" if on - {wanted, other} else "ask"


def was_asked(journal: Journal) -> bool:
    """Whether Vercel was asked to promote the release's deployment, or may have been: it was about to be, and nobody wrote that it was not."""
    entries = [one for one in journal.entries if one.step == PROMOTE]
    return sum(one.event == "intent" for one in entries) > sum(one.facts.get("asked") == 0 for one in entries)


def cached_signs(answers: Sequence[tuple[int, Mapping[str, str]]]) -> list[str]:
    """Given the answers to the same question, one after the other (status, headers in lower case), return what says that they came from a cache, or may be kept in one.

    `Age: 0` is no sign: Vercel's edge says it of answers that it did not keep. An answer that may be kept for a while and is not `private` may be kept by a cache that
    many share. (RFC 9111, sections 3 and 5, has Age and Cache-Control; CloudFront's X-Cache is in its developer guide.)
    """
    found = []
    for _, headers in answers:
        if "hit" in headers.get("x-cache", "").lower():
            found.append(f"x-cache: {headers['x-cache']}")
        if headers.get("x-vercel-cache", "").upper() in {"HIT", "STALE", "PRERENDER", "REVALIDATED"}:
            found.append(f"x-vercel-cache: {headers['x-vercel-cache']}")
        if headers.get("age", "0").strip() not in {"", "0"}:
            found.append(f"age: {headers['age']}")
        directives = [one.strip().lower() for one in headers.get("cache-control", "").split(",")]
        shared = [one for one in directives if one == "public" or (one.startswith("s-maxage=") and one != "s-maxage=0")]
        if not {"private", "no-cache"} & set(directives):
            shared += [one for one in directives if re.fullmatch(r"max-age=0*[1-9]\d*", one)]
        if shared and "no-store" not in directives:
            found.append(f"cache-control: {', '.join(shared)}")
    return list(dict.fromkeys(found))
