"""The front end that a release may carry along, a deployment of Vercel's: [release.frontend]."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from core.secret_reference import SecretReference
from core.section import EMPTY_IS_NONE, Address, OptionalText, Section, plain_address

# Labels of letters, digits and '-', as in a host name.
HOST_NAME = r"^[a-z0-9][a-z0-9-]{0,62}(\.[a-z0-9-]{1,63})+$"
Path = Annotated[str, Field(pattern=r"^/[!-~]*$")]


def _secure(address: str) -> str:
    plain = plain_address(address)
    parts = urlsplit(plain)
    if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "localhost"}:
        raise ValueError("an https address: it gets the token")
    return plain


class Frontend(Section):
    """What is promoted once the backend has all of the traffic, and taken back with it."""

    project: Annotated[str, Field(pattern=r"^prj_[A-Za-z0-9]{2,60}$")] = Field(
        description="Id of the Vercel project: prj_…, under Settings, General."
    )
    team: Annotated[Annotated[str, Field(pattern=r"^team_[A-Za-z0-9]{2,60}$")] | None, EMPTY_IS_NONE] = Field(
        None, description="Id of its team: team_…. Empty: the token's own account."
    )
    token: SecretReference = Field(
        description="Secret reference: a token of Vercel's for this team, that may promote and roll back the project."
    )
    domains: Annotated[tuple[Annotated[str, Field(pattern=HOST_NAME)], ...], Field(min_length=1)] = Field(
        description="All production domains of the project at Vercel, such as app.example.com: each is read back after a change."
    )
    public_address: Address = Field(
        description="What people open, e.g. https://www.example.com: asked after a change. Where CloudFront is in front, its address."
    )
    commit_path: Annotated[Path | None, EMPTY_IS_NONE] = Field(
        None,
        description="A path there whose answer holds the deployment's commit, e.g. /version.json: then it is seen that people get this one. Empty: only that it answers.",
    )
    same_commit: bool = Field(
        False,
        description="Front end and backend come of one repository: the deployment must be of the release's commit.",
    )
    uncached: tuple[Path, ...] = Field(
        ("/api/health",),
        description="Paths of the API at the public address that must not come from a cache: each is asked for twice.",
    )
    distribution: OptionalText = Field(
        None,
        description="CloudFront distribution's id: what it keeps is invalidated after a change. Empty: there is none.",
    )
    invalidate: Annotated[tuple[Path, ...], Field(min_length=1, max_length=15)] = Field(
        ("/*",), description="Paths of the distribution to invalidate."
    )
    minutes: int = Field(
        10, ge=1, le=60, description="How long Vercel may take to move the domains, and CloudFront to invalidate; each."
    )
    address: Annotated[str, AfterValidator(_secure)] = Field(
        "https://api.vercel.com", description="Address of Vercel's API."
    )
