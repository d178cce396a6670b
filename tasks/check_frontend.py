"""Items frontend and api-cache of the checklist: the deployment that a release carries, the domains that it moves, and what is in front of them."""

from core.frontend import deployment_problems, project_problems
from core.release_checks import API_CACHE_ITEM, ReleaseCheck, not_configured, passed, verdict
from tasks.cloudfront import read_distribution
from tasks.frontend import frontend_of
from tasks.preflight_item import Preflight, asked
from tasks.public_address import cached_paths
from tasks.vercel import Vercel

_NONE = "this release carries no front end"


@asked("frontend")
def check_frontend(preflight: Preflight) -> ReleaseCheck:
    """Given a release, return whether its deployment is one of the project's, ready, of the same commit where that is asked for, and its domains can be moved."""
    plan = preflight.frontend
    if plan is None:
        return not_configured("frontend", _NONE)
    settings = frontend_of(preflight.release)
    with Vercel(settings) as vercel:
        deployment, project, standing = vercel.deployment(plan.deployment), vercel.project(), vercel.standing()
    commit = preflight.commit if settings.same_commit else ""
    problems = deployment_problems(deployment, plan.project, commit) + project_problems(project, standing, plan)
    if settings.distribution:
        read_distribution(settings.distribution)
    return verdict(
        "frontend",
        problems,
        plan.told,
        "Give a deployment that was built for production of this project (docs/frontend.md), and wait until nobody moves the domains",
        deployment=plan.deployment,
        before=plan.before,
        state=str(deployment.get("readySubstate") or deployment.get("readyState")),
    )


@asked(API_CACHE_ITEM)
def check_api_cache(preflight: Preflight) -> ReleaseCheck:
    """Given a release that carries a front end, return whether the API comes from no cache at the public address."""
    if preflight.frontend is None:
        return not_configured(API_CACHE_ITEM, _NONE)
    settings = frontend_of(preflight.release)
    if not settings.uncached:
        return not_configured(API_CACHE_ITEM, "nobody asked the API", "Set release.frontend.uncached")
    problems, seen = cached_paths(settings)
    if problems:
        next_step = "Give its behaviour in CloudFront the policy Managed-CachingDisabled, and let the API say cache-control: no-store"
        return verdict(API_CACHE_ITEM, problems, "", next_step, **seen)
    return passed(API_CACHE_ITEM, "; ".join(f"{path}: {told}" for path, told in seen.items()), **seen)
