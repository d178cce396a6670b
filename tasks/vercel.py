"""Vercel's REST API, as far as a release needs it: one deployment, one project, its domains. What it means is decided in core.frontend, where the sources stand."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

from core.environment_frontend import Frontend
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.frontend import Standing, job_of
from core.secret_reference import shown_reference
from tasks.web_access import bearer
from tasks.web_api import Limits, WebApi

_TAKEN_ON = frozenset({200, 201, 202, 204})


class Vercel:
    """Requests about the project of an environment's file, within one task."""

    def __init__(self, settings: Frontend, limits: Limits | None = None) -> None:
        self._settings = settings
        known = f"release.frontend.token = {shown_reference(settings.token)}"
        refused = (
            f"Give a token that may read and promote {settings.project} of {settings.team or 'its account'}: {known}"
        )
        steps = {
            401: refused,
            402: "Vercel says what is to be paid for first",
            403: refused,
            404: "Look at release.frontend.project, team and domains, and at the deployment's id",
        }
        headers = bearer(settings.token, "release.frontend.token")
        self._api = WebApi(settings.address, what="Vercel", headers=headers, next_steps=steps, limits=limits)
        self._of = {"teamId": settings.team} if settings.team else {}

    def __enter__(self) -> "Vercel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.__exit__(kind, error, trace)

    def deployment(self, name: str) -> dict[str, Any]:
        """Given a deployment's id or address, return it. Raise PermanentError when there is none."""
        host = name.removeprefix("https://").rstrip("/")
        return self._document(f"/v13/deployments/{quote(host, safe='')}", withGitRepoInfo="true")

    def project(self) -> dict[str, Any]:
        """The project."""
        return self._document(f"/v9/projects/{self._settings.project}")

    def newest(self) -> dict[str, Any]:
        """The newest deployment for production, as Vercel lists it: a list `deployments` of one, or of none."""
        return self._document("/v6/deployments", projectId=self._settings.project, target="production", limit="1")

    def domain(self, name: str) -> dict[str, Any]:
        """Given a domain, return what the project says of it. Raise PermanentError when it is none of the project's."""
        return self._document(f"/v9/projects/{self._settings.project}/domains/{quote(name, safe='')}")

    def standing(self) -> Standing:
        """Which deployment each domain is on, and how far the last request is. The request is read last: one that ended in between has moved the domains by then."""
        project = self.project()
        domains = {domain: self.deployment_of(domain) for domain in self._settings.domains}
        return self._with_job(project, domains)

    def _with_job(self, before: dict[str, Any], domains: Mapping[str, str]) -> Standing:
        """A request that ran before or after the domains were read counts as running: nobody knows which of them were read before it moved them."""
        try:
            first, last = job_of(before), job_of(self.project())
        except (TypeError, ValueError) as error:
            raise self._odd(f"/v9/projects/{self._settings.project}", str(error)) from error
        return Standing(domains, first if first is not None and first.runs else last)

    def deployment_of(self, domain: str) -> str:
        """Given a domain of the project, return the deployment that it is on. Raise PermanentError when it is on none."""
        path = f"/v4/aliases/{quote(domain, safe='')}"
        found = self._document(path, projectId=self._settings.project)
        its = found.get("deploymentId")
        if not isinstance(its, str) or not its:
            raise self._odd(path, "it has no deploymentId")
        return its

    def ask_for(self, kind: str, deployment: str) -> None:
        """Ask once for the domains to be moved to a deployment; `kind`: promote or rollback.

        Raise TemporaryError when it was not taken on now (409: another request is on its way), or nobody knows whether it was: then the project tells.
        """
        version = "v10" if kind == "promote" else "v1"
        path = f"/{version}/projects/{self._settings.project}/{kind}/{quote(deployment, safe='')}"
        answer = self._api.send(path, {}, self._of, accepted=_TAKEN_ON | {409})
        if answer.status not in _TAKEN_ON:
            found = f"it answered {answer.status}: {answer.told()}"
            raise TemporaryError("move the domains", deployment, found, "Another request may be on its way")

    def failed_domains(self) -> str:
        """The domains that the last request could not move, in words; "" when nobody can say."""
        try:
            found = self._document(
                f"/v1/projects/{self._settings.project}/promote/aliases", failedOnly="true", limit="20"
            )
            rows = found.get("aliases")
            names = [
                str(one["alias"]["alias"] if isinstance(one.get("alias"), dict) else one["alias"]) for one in rows or ()
            ]
        except (NightshiftError, AttributeError, KeyError, TypeError):
            return ""
        return ", ".join(names)

    def _document(self, path: str, **query: str) -> dict[str, Any]:
        found = self._api.json(path, {**self._of, **query})
        if not isinstance(found, dict):
            raise self._odd(path, f"it is no object but a {type(found).__name__}")
        return found

    def _odd(self, path: str, found: str) -> PermanentError:
        next_step = "Look at what answers there: release.frontend.address"
        return PermanentError("read Vercel's answer", f"{self._settings.address}{path}", found, next_step)
