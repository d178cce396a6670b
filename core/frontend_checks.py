"""What `nightshift check` says of the front end before a release: whether Vercel's project, its domains and its deployments are what [release.frontend] says.

Sources: Vercel's REST API (GET /v9/projects/{idOrName}, GET /v6/deployments, GET /v9/projects/{idOrName}/domains/{domain}).
"""

from core.checks import Check
from core.environment_frontend import Frontend
from core.frontend import Document

PROJECT, DEPLOYMENTS, CLOUDFRONT = "release: Vercel project", "release: Vercel deployments", "release: CloudFront"


def domain_name(domain: str) -> str:
    """What the row of a domain is called."""
    return f"release: domain {domain}"


def project_check(project: Document, settings: Frontend) -> Check:
    """Given what Vercel says of the project, return whether it is that of the file, and whether its domains move when a release says so, and only then."""
    its = project.get("id")
    if its != settings.project:
        found = f"{settings.address} answers, and tells of {f'project {its}' if its else 'no project'}, not of {settings.project}"
        next_step = "Correct release.frontend.project or address"
        return Check(name=PROJECT, state="failed", found=found, next_step=next_step)
    called = f"{settings.project} ({project['name']})" if project.get("name") else settings.project
    if project.get("rollingRelease"):
        found = f"{called} has rolling releases: a promotion would move a share of the traffic, and no release begins"
        return Check(
            name=PROJECT,
            state="failed",
            found=found,
            next_step="Switch them off at Vercel: Settings, Build and Deployment",
        )
    if project.get("autoAssignCustomDomains"):
        found = f"{called}: what is deployed to production is live at once, before any release"
        next_step = "Switch Auto-assign Custom Production Domains off at Vercel: Settings, Environments, Production"
        return Check(name=PROJECT, state="warning", found=found, next_step=next_step)
    return Check(name=PROJECT, state="passed", found=f"{called} may be read; whether we may promote shows at a release")


def deployments_check(answer: Document, settings: Frontend) -> Check:
    """Given the newest production deployment as a list of at most one, return whether there is one, and of this project."""
    rows = answer.get("deployments")
    if not isinstance(rows, list) or not all(isinstance(one, dict) for one in rows):
        found = f"{settings.address} answers with no list of deployments"
        return Check(name=DEPLOYMENTS, state="failed", found=found, next_step="Look at release.frontend.address")
    if not rows:
        found = f"{settings.project} has no deployment for production yet"
        next_step = "vercel deploy --prod --skip-domain, before a release is to promote one"
        return Check(name=DEPLOYMENTS, state="warning", found=found, next_step=next_step)
    its = rows[0].get("projectId", settings.project)
    if its != settings.project:
        found = f"{settings.address} lists deployments of {its}, not of {settings.project}"
        return Check(
            name=DEPLOYMENTS, state="failed", found=found, next_step="Look at release.frontend.project and team"
        )
    newest = rows[0].get("uid") or rows[0].get("id") or "one without an id"
    state = rows[0].get("readyState") or rows[0].get("state") or "in no state"
    return Check(name=DEPLOYMENTS, state="passed", found=f"may be read; the newest for production is {newest}, {state}")


def domain_problem(domain: Document, settings: Frontend) -> str:
    """Given what Vercel says of one of the project's domains, return what keeps a release from moving it to a deployment; "" when nothing does."""
    its = domain.get("projectId")
    if its != settings.project:
        return (
            f"it belongs to project {its}, not to {settings.project}"
            if its
            else "Vercel tells of no project that it belongs to"
        )
    if domain.get("verified") is False:
        return "it is not verified: Vercel does not serve it"
    if domain.get("redirect"):
        return f"it redirects to {domain['redirect']}: no deployment is on it. Name that one"
    if domain.get("gitBranch"):
        return f"it follows the branch {domain['gitBranch']}: a promotion does not move it"
    return ""
