"""Telling GitHub how a run goes: `POST /repos/OWNER/NAME/deployments/ID/statuses` ("Create a deployment status" in its REST manual), by a token or as a GitHub App."""

import time
from typing import Protocol

import jwt

from core.environment_webhook import WebhookGitHub
from core.errors import ConfigurationError, PermanentError
from core.redaction import register_secret
from core.webhook_report import LONGEST_DESCRIPTION, Told
from tasks.secrets import resolve
from tasks.web_api import QUICK, WebApi

# GitHub takes an App's own token for ten minutes at most, and one that is made a minute ahead of its clock not at all.
APP_TOKEN_SECONDS, CLOCK_SECONDS = 540, 60
_HEADERS = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
_NEXT_STEPS = {
    401: "Give [webhook.github] a token that is valid",
    403: "Give the token the right deployments: write for this repository",
    404: "Is it a deployment of this repository, and may the token see it?",
}


class GitHubDeployments(Protocol):
    """What the reporter needs of GitHub."""

    def tell(self, repository: str, deployment_id: int, told: Told, page: str) -> None:
        """Add a status. Raise TemporaryError when it may be added later, PermanentError when GitHub refuses it."""


class GitHubApi:
    """The real one. Secrets are resolved at each use."""

    def __init__(self, settings: WebhookGitHub) -> None:
        self._settings = settings

    def tell(self, repository: str, deployment_id: int, told: Told, page: str) -> None:
        """See GitHubDeployments."""
        document = {
            "state": told.state,
            "description": told.description[:LONGEST_DESCRIPTION],
            "log_url": page,
            # Ours are told one by one (SUPERSEDED): GitHub leaves production environments out.
            "auto_inactive": False,
        }
        with self._api(self._token()) as api:
            api.post(f"/repos/{repository}/deployments/{deployment_id}/statuses", document)

    def _token(self) -> str:
        if self._settings.token is not None:
            return resolve(self._settings.token).get_secret_value()
        with self._api(self._app_token()) as api:
            answer = api.post(
                f"/app/installations/{self._settings.installation_id}/access_tokens",
                {"permissions": {"deployments": "write"}},
            )
        token = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise PermanentError(
                "sign in to GitHub", self._settings.api_url, "the answer holds no token", "Look at the address"
            )
        register_secret(token)
        return token

    def _app_token(self) -> str:
        if self._settings.private_key is None:
            raise ConfigurationError(
                "sign in to GitHub", "[webhook.github]", "there is neither token nor private key", "Give one"
            )
        now = int(time.time())
        claims = {"iat": now - CLOCK_SECONDS, "exp": now + APP_TOKEN_SECONDS, "iss": str(self._settings.app_id)}
        try:
            token = jwt.encode(claims, resolve(self._settings.private_key).get_secret_value(), algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError):
            # Not chained: the error may quote the key.
            raise ConfigurationError(
                "sign in to GitHub",
                "webhook.github.private_key",
                "it is no RSA private key as PEM",
                "Download it again",
            ) from None
        register_secret(token)
        return token

    def _api(self, token: str) -> WebApi:
        headers = {**_HEADERS, "Authorization": f"Bearer {token}"}
        return WebApi(self._settings.api_url, what="GitHub", headers=headers, next_steps=_NEXT_STEPS, limits=QUICK)
