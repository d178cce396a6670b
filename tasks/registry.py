"""Which image a tag is, asked of its registry once: what is rolled out is the digest that it had then.

The registry's API is the OCI distribution specification ("Pulling manifests"); how one signs in, the token specification of the distribution project
(docs/spec/auth/token.md). A manifest is always read whole and hashed here: the header Docker-Content-Digest is optional, and a claim.
"""

import base64
import hashlib
import json
import time
from collections.abc import Callable
from typing import NoReturn
from urllib.parse import urlsplit

import httpx

from core.environment import Environment
from core.environment_release import Registry, Release
from core.errors import ConfigurationError, IntegrityError, PermanentError
from core.image_reference import ImageReference, ResolvedImage, parse_reference, split_tag_or_digest
from core.redaction import register_secret
from core.registry_challenge import Challenge, read_challenges
from core.secret_reference import shown_reference
from tasks.registry_ecr import ecr_digest
from tasks.secrets import resolve
from tasks.web_api import Answer, WebApi

# What a container's image may be: an index of platforms, or one platform's manifest, in OCI's and in Docker's form.
MEDIA_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_ACCEPT = ", ".join(MEDIA_TYPES)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED = frozenset({401})
_MOST_REDIRECTS = 3
_NEXT_STEPS = {
    404: "Look at the tag: was it built and pushed, and to this repository?",
    429: "The registry limits how often it is asked; sign in with release.registry.username, or wait",
}


def resolve_image(
    environment: Environment,  # noqa: ARG001 - as every step of a release
    release: Release,
    repository: str,
    tag_or_digest: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> ResolvedImage:
    """Given a repository and a tag or a digest (or both: then the digest counts), return the image as its registry has it now.

    A digest is looked up too, so that what is returned can be pulled; but with registry.kind = "none", which looks nothing up. Raise ConfigurationError
    when a name is none or a tag cannot be looked up, PermanentError when there is no such image or it may not be read, IntegrityError when the registry
    answers something else than was asked for, TemporaryError when it stays away.
    """
    try:
        reference = parse_reference(repository)
        tag, digest = split_tag_or_digest(tag_or_digest)
    except ValueError as error:
        raise ConfigurationError("look up the image", f"{repository}, {tag_or_digest[:150]}", str(error)) from None
    registry = release.registry
    if registry.kind == "none":
        if digest is None:
            raise ConfigurationError(
                "look up the image",
                f"{repository}:{tag}",
                'release.registry.kind is "none", and a tag may move',
                "Give the digest (sha256:…), or set release.registry.kind to registry or ecr",
            )
        return ResolvedImage(repository=repository, tag=tag, digest=digest)
    if registry.kind == "ecr":
        return ResolvedImage(repository=repository, tag=tag, digest=ecr_digest(registry, reference, tag, digest))
    found = _Puller(registry, reference, sleep).digest(digest or str(tag))
    return ResolvedImage(repository=repository, tag=tag, digest=found)


class _Puller:
    """Reads manifests of one repository."""

    def __init__(self, registry: Registry, reference: ImageReference, sleep: Callable[[float], None]) -> None:
        self._registry, self._reference = registry, reference
        # https, unless the file gives an address in so many words.
        self._address = (registry.address or f"https://{reference.registry_host}").rstrip("/")
        self._sleep = sleep

    def digest(self, tag_or_digest: str) -> str:
        """The digest of a manifest, by hashing it. Raise as resolve_image."""
        on = f"{self._reference.repository}, {tag_or_digest}"
        with WebApi(self._address, what=f"the registry for {on}", next_steps=_NEXT_STEPS, sleep=self._sleep) as api:
            answer = self._manifest(api, f"/v2/{self._reference.path}/manifests/{tag_or_digest}", on)
        if answer.media_type not in MEDIA_TYPES:
            kind = answer.media_type or "of no type"
            raise PermanentError(
                "read the image's manifest",
                on,
                f"{self._address} answered {kind}, which is no image's manifest: {answer.told()[:80]}",
                "Look at release.repository and release.registry.address: is a registry there, and is it an image?",
            )
        return _checked_digest(answer, tag_or_digest, on)

    def _manifest(self, api: WebApi, path: str, on: str) -> Answer:
        """The answer to a manifest's path: first as anybody, then as the registry asks to be signed in to."""
        headers = {"Accept": _ACCEPT}
        answer = self._followed(api, path, headers, on)
        if answer.status in _UNAUTHORIZED:
            headers["Authorization"] = self._authorization(api, answer, on)
            answer = self._followed(api, path, headers, on)
        if answer.status in {401, 403}:
            self._refused(answer, on)
        return answer

    def _followed(self, api: WebApi, path: str, headers: dict[str, str], on: str) -> Answer:
        """As the specification allows, a registry may send us elsewhere: never from https to http, and never with our credentials to another host."""
        url, sent = f"{self._address}{path}", headers
        for _ in range(_MOST_REDIRECTS + 1):
            answer = api.get(url, headers=sent, accepted=_REDIRECTS | {401, 403})
            if answer.status not in _REDIRECTS:
                return answer
            target = str(httpx.URL(url).join(answer.headers.get("Location", "")))
            self._only_safer(url, target, on)
            if urlsplit(target).netloc != urlsplit(url).netloc:
                sent = {"Accept": _ACCEPT}
            url = target
        raise PermanentError("read the image's manifest", on, f"{self._address} redirects again and again")

    def _authorization(self, api: WebApi, answer: Answer, on: str) -> str:
        """What the registry's challenge asks for: a token of its token service, or user and password themselves."""
        challenges = read_challenges(answer.headers.get("WWW-Authenticate", ""))
        bearer = next((one for one in challenges if one.scheme == "bearer" and one.parameters.get("realm")), None)
        if bearer is not None:
            return f"Bearer {self._token(api, bearer, on)}"
        basic = self._basic()
        if basic is None or not any(one.scheme == "basic" for one in challenges):
            self._refused(answer, on)
        return basic

    def _token(self, api: WebApi, challenge: Challenge, on: str) -> str:
        realm = challenge.parameters["realm"]
        self._only_safer(self._address, realm, on)
        basic = self._basic()
        query = {name: challenge.parameters[name] for name in ("service",) if name in challenge.parameters}
        query["scope"] = challenge.parameters.get("scope") or f"repository:{self._reference.path}:pull"
        answer = api.get(
            realm, query, headers={"Authorization": basic} if basic else {}, accepted=frozenset({401, 403})
        )
        if answer.status in {401, 403}:
            self._refused(answer, on)
        token = _token_in(answer)
        if not token:
            raise PermanentError(
                "sign in to the registry",
                on,
                f"{urlsplit(realm).hostname} gave no token",
                "Look at the registry's health",
            )
        register_secret(token)
        return token

    def _basic(self) -> str | None:
        if self._registry.username is None or self._registry.password is None:
            return None
        user = resolve(self._registry.username).get_secret_value().strip()
        password = resolve(self._registry.password).get_secret_value().strip()
        value = base64.b64encode(f"{user}:{password}".encode()).decode()
        register_secret(value)
        return f"Basic {value}"

    def _only_safer(self, url: str, target: str, on: str) -> None:
        if urlsplit(target).scheme != "https" and urlsplit(url).scheme == "https":
            raise PermanentError(
                "look up the image",
                on,
                f"{urlsplit(url).hostname} sends us to an address without https: {target[:100]}",
            )

    def _refused(self, answer: Answer, on: str) -> NoReturn:
        if self._registry.password is None:
            known = "nobody is signed in: release.registry.username and password are not set"
        else:
            known = f"signed in with release.registry.password = {shown_reference(self._registry.password)}"
        raise PermanentError(
            "read the image's manifest",
            on,
            f"{self._address} answered {answer.status}, {known}",
            f"Let this user pull {self._reference.repository}; many registries answer so of a repository that does not exist",
        )


def _token_in(answer: Answer) -> str:
    try:
        document = json.loads(answer.body)
    except ValueError:
        return ""
    if not isinstance(document, dict):
        return ""
    return str(document.get("token") or document.get("access_token") or "")


def _checked_digest(answer: Answer, asked: str, on: str) -> str:
    """The digest of what was read, in the algorithm that was asked for; it is what was asked for, and what the registry says that it is."""
    algorithm = asked.partition(":")[0] if asked.startswith(("sha256:", "sha512:")) else "sha256"
    read = f"{algorithm}:{hashlib.new(algorithm, answer.body).hexdigest()}"
    claimed = answer.headers.get("Docker-Content-Digest", "")
    wrong = [one for one in (asked, claimed) if one.startswith(f"{algorithm}:") and one != read]
    if wrong:
        raise IntegrityError(
            "verify the image's manifest",
            on,
            f"the registry's answer has the digest {read}, and should have {wrong[0]}",
            "Nothing was changed; look at the registry and at what lies between",
        )
    return read
