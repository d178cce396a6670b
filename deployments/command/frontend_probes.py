"""What `nightshift check` looks at for [release.frontend]: Vercel's project, its domains and deployments, and CloudFront. Nothing is changed."""

from collections.abc import Iterator
from functools import partial

from core.checks import Check
from core.environment_frontend import Frontend
from core.environment_release import Release
from core.frontend_checks import (
    CLOUDFRONT,
    DEPLOYMENTS,
    PROJECT,
    deployments_check,
    domain_name,
    domain_problem,
    project_check,
)
from deployments.command.probe import LONG_SECONDS, Probe, row
from tasks.cloudfront import read_distribution
from tasks.vercel import Vercel
from tasks.web_api import Limits

# A request that takes longer is a Vercel on which no release should count.
_LIMITS = Limits(
    attempts=2,
    connect_seconds=5,
    read_seconds=8,
    answer_seconds=10,
    answer_bytes=8 * 1024 * 1024,
    patience_seconds=10,
)


def frontend_probes(release: Release) -> list[Probe]:
    """Given the table [release], return what is tried for its front end; nothing when it carries none."""
    settings = release.frontend
    if settings is None:
        return []
    found = [Probe(PROJECT, partial(_look_at_vercel, settings), LONG_SECONDS)]
    if settings.distribution:
        found.append(Probe(CLOUDFRONT, partial(_look_at_distribution, settings.distribution), LONG_SECONDS))
    return found


def _look_at_vercel(settings: Frontend) -> Iterator[Check]:
    with Vercel(settings, _LIMITS) as vercel:
        project = row(PROJECT, lambda: project_check(vercel.project(), settings))
        yield project
        if project.state == "failed":
            # Of a project that is another, or of a Vercel that is away, the rest would say the same once more.
            return
        yield row(DEPLOYMENTS, lambda: deployments_check(vercel.newest(), settings))
        for domain in settings.domains:
            yield row(domain_name(domain), partial(_look_at_domain, vercel, settings, domain))


def _look_at_domain(vercel: Vercel, settings: Frontend, domain: str) -> Check:
    name = domain_name(domain)
    if problem := domain_problem(vercel.domain(domain), settings):
        next_step = "Correct release.frontend.domains, or the domain at Vercel: Settings, Domains"
        return Check(name=name, state="failed", found=problem, next_step=next_step)
    return Check(
        name=name, state="passed", found=f"belongs to {settings.project}, is on {vercel.deployment_of(domain)}"
    )


def _look_at_distribution(distribution: str) -> Iterator[Check]:
    yield Check(name=CLOUDFRONT, state="passed", found=f"{distribution}: {read_distribution(distribution)}")
