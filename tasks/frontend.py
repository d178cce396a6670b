"""The front end of a release at Vercel: read for the plan, and its domains moved, forward or back, as far as they are ours to move."""

from __future__ import annotations

import time

from core.environment_frontend import Frontend
from core.environment_release import Release
from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.frontend import AliasJob, FrontendPlan, Standing, commit_of, next_move
from core.rollout_change import ForeignChangeError
from tasks.release_run import ReleaseRun
from tasks.vercel import Vercel

# Vercel's own CLI asks four times a second.
POLL_SECONDS = 2.0
# A request that nobody got an answer to may arrive this much later, at most: longer than a client waits for it.
LATE_SECONDS = 30.0


def frontend_of(release: Release) -> Frontend:
    """The table [release.frontend]. Raise ConfigurationError when there is none."""
    if release.frontend is None:
        found, next_step = "the environment's file has no table [release.frontend]", "Add one: docs/frontend.md"
        raise ConfigurationError("release a front end", release.namespace, found, next_step)
    return release.frontend


def plan_frontend(release: Release, deployment: str) -> FrontendPlan | None:
    """Given the deployment that was asked for ("": none), return what is to become of it. Raise PermanentError when there is none such, or the domains are not on one."""
    if not deployment:
        return None
    settings = frontend_of(release)
    with Vercel(settings) as vercel:
        found, standing = vercel.deployment(deployment), vercel.standing()
    if not str(found.get("id") or "").startswith("dpl_"):
        raise PermanentError("plan the front end", deployment, "Vercel told of no deployment with an id")
    if not standing.live:
        raise PermanentError(
            "plan the front end",
            settings.project,
            f"its domains are on several deployments: {standing}",
            "Bring them to one (vercel promote), then start the release again",
        )
    return FrontendPlan(
        project=settings.project,
        domains=settings.domains,
        deployment=str(found["id"]),
        url=str(found.get("url") or ""),
        commit=commit_of(found),
        before=standing.live,
    )


def read_standing(run: ReleaseRun) -> Standing:
    """How the project of the plan stands now."""
    with Vercel(frontend_of(run.release)) as vercel:
        return vercel.standing()


def move(run: ReleaseRun, plan: FrontendPlan, *, forward: bool, seconds: float) -> Standing:
    """Bring all domains to the release's deployment, or back, and return how it stands when each was read there. Can be done again: it looks first.

    Raise ForeignChangeError when somebody else put a domain elsewhere (nothing is overwritten), PermanentError when Vercel does not do it in this time,
    TemporaryError when nobody knows, or it is away.
    """
    wanted, other = (plan.deployment, plan.before) if forward else (plan.before, plan.deployment)
    ends = time.monotonic() + seconds
    with Vercel(frontend_of(run.release)) as vercel:
        standing = _come_to_rest(run, vercel, ends)
        match next_move(standing, wanted, other):
            case "done":
                return standing
            case "theirs":
                raise theirs(plan, standing, forward=forward)
            case "wait":
                raise _too_long(standing, wanted)
            case "ask":
                return _ask_and_wait(run, vercel, standing, wanted, forward=forward, ends=ends)


def _ask_and_wait(
    run: ReleaseRun, vercel: Vercel, before: Standing, wanted: str, *, forward: bool, ends: float
) -> Standing:
    # It has no precondition: right before it the lease itself is asked.
    run.surely_ours()
    lost: TemporaryError | None = None
    whole = ends
    try:
        vercel.ask_for("promote" if forward else "rollback", wanted)
    except TemporaryError as error:
        # It may have been taken on all the same, or arrive yet.
        lost, ends = error, min(ends, time.monotonic() + LATE_SECONDS)
    while True:
        run.still_ours()
        standing = before
        try:
            standing = vercel.standing()
        except TemporaryError as error:
            if time.monotonic() >= ends:
                raise lost or error from error
        job = standing.job if standing.job != before.job else None
        if job is not None and job.to == wanted and job.status in {"failed", "skipped"}:
            raise _not_done(vercel, job, standing)
        if next_move(standing, wanted, wanted) == "done":
            return standing
        if time.monotonic() >= ends:
            raise lost or _too_long(standing, wanted)
        if job is not None and job.to == wanted:
            lost, ends = None, whole
        time.sleep(POLL_SECONDS)


def _come_to_rest(run: ReleaseRun, vercel: Vercel, ends: float) -> Standing:
    """How it stands once no request runs, whoever made it; or when the time is over."""
    while True:
        run.still_ours()
        standing = vercel.standing()
        if standing.job is None or not standing.job.runs or time.monotonic() >= ends:
            return standing
        time.sleep(POLL_SECONDS)


def theirs(plan: FrontendPlan, standing: Standing, *, forward: bool) -> ForeignChangeError:
    """Somebody else moved a domain meanwhile."""
    on = f"{plan.before} or {plan.deployment}"
    return ForeignChangeError(
        "promote the front end" if forward else "take the front end back",
        ", ".join(plan.domains),
        f"somebody else moved it: {standing}, and the release knows {on}",
        f"Find out who, then put it where it belongs (vercel promote {plan.deployment if forward else plan.before}); it was left as it is",
    )


def _too_long(standing: Standing, wanted: str) -> PermanentError:
    return PermanentError(
        "move the domains", wanted, f"Vercel has not come to an end: {standing}", "Look at the project at Vercel"
    )


def _not_done(vercel: Vercel, job: AliasJob, standing: Standing) -> PermanentError:
    failed = vercel.failed_domains()
    found = f"its {job.kind} {job.status}" + (f" for {failed}" if failed else "") + f": {standing}"
    return PermanentError("move the domains", job.to, found, "Look at the project's domains at Vercel")
