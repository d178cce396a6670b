"""What an image is called: registry, repository, tag, digest.

The grammar is the one of distribution/reference (reference.go, regexp.go); what a name without a registry means is its normalize.go (docker.io, and
`library/` before a single word). The names within a registry and the tags are the OCI distribution specification's ("Pulling manifests").
"""

import re
from dataclasses import dataclass

from core.manifest import Record

_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_COMPONENT}(?:\.{_COMPONENT})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# The two algorithms that the OCI image specification registers (descriptor.md, "Registered algorithms") and that nodes know.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
# A name of 64 hexadecimal digits is an image's id (normalize.go, "anchoredIdentifierRegexp").
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
LONGEST_PATH = 255
_SHOWN_DIGITS = len("sha256:") + 12
DOCKER_HUB, DOCKER_HUB_HOST = "docker.io", "registry-1.docker.io"
_LEGACY_HUB, _OFFICIAL = "index.docker.io", "library/"


@dataclass(frozen=True)
class ImageReference:
    """An image's name in full: `domain` with its port, `path` within that registry, and tag or digest where it has them."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def registry_host(self) -> str:
        """Whom to ask: Docker Hub's registry has another name than its images."""
        return DOCKER_HUB_HOST if self.domain == DOCKER_HUB else self.domain

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


class ResolvedImage(Record):
    """An image as a release uses it: the repository as the environment's file spells it, the tag that was asked for (None: a digest was), the digest that it had."""

    repository: str
    tag: str | None
    digest: str

    @property
    def pinned(self) -> str:
        """What a container's `image` says: the digest, so that a tag which moves later changes nothing."""
        return f"{self.repository}@{self.digest}"


def parse_reference(text: str) -> ImageReference:
    """Given an image's name as people write it, return it in full. Raise ValueError, which says what is wrong with it."""
    name, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise ValueError(f"{digest[:80]!r} is not a digest; one is sha256: and 64 lower-case hexadecimal digits")
    name, tag = _without_tag(name)
    if tag is not None and not is_tag(tag):
        raise ValueError(
            f"{tag[:130]!r} is not a tag: up to 128 letters, digits, '_', '.' and '-', not first '.' or '-'"
        )
    domain, path = _split_domain(name)
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{domain[:80]!r} is not a registry's host name")
    if not _PATH.fullmatch(path) or len(path) > LONGEST_PATH:
        raise ValueError(
            f"{path[:80]!r} is not a repository: lower-case letters and digits, with '.', '_', '-' and '/' between them,"
            f" {LONGEST_PATH} characters at most"
        )
    return ImageReference(domain, path, tag, digest if at else None)


def split_tag_or_digest(text: str) -> tuple[str | None, str | None]:
    """Given `1.4.2`, `sha256:…` or `1.4.2@sha256:…`, return tag and digest; at least one is there. Raise ValueError when it is none of them."""
    if is_digest(text):
        return None, text
    tag, at, digest = text.partition("@")
    if is_tag(tag) and (not at or is_digest(digest)):
        return tag, digest if at else None
    raise ValueError(
        "neither a tag (up to 128 letters, digits, '_', '.' and '-') nor a digest (sha256: and 64 lower-case hexadecimal digits)"
    )


def is_tag(text: str) -> bool:
    """Whether a text may be a tag."""
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    """Whether a text may be a digest."""
    return _DIGEST.fullmatch(text) is not None


def manifest_digest(image: str) -> str:
    """Given a container's image or imageID, return the digest under which a registry has it; "" when it has none.

    A bare `sha256:…` as imageID is that of the image's configuration, which no registry answers to: the node got it without a registry (CRI's Image.id
    against repo_digests, kubelet's convertImageToImageID). Some runtimes put `docker-pullable://` before it.
    """
    name, at, digest = image.rpartition("@")
    return digest if at and name and is_digest(digest) else ""


def _without_tag(name: str) -> tuple[str, str | None]:
    """A colon after the last slash begins a tag; one before it, a port."""
    before, colon, last = name.rpartition(":")
    return (before, last) if colon and "/" not in last else (name, None)


def _split_domain(name: str) -> tuple[str, str]:
    """As normalize.go's splitDockerDomain: a first word is a registry when it has a dot, a port or a capital, or is localhost."""
    if _IDENTIFIER.fullmatch(name):
        raise ValueError(
            "64 hexadecimal digits are an image's id on one machine, not a name; a digest begins with sha256:"
        )
    first, slash, rest = name.partition("/")
    if not slash or not (any(mark in first for mark in ".:") or first == "localhost" or first.lower() != first):
        domain, path = DOCKER_HUB, name
    else:
        domain, path = (DOCKER_HUB if first == _LEGACY_HUB else first), rest
    return domain, f"{_OFFICIAL}{path}" if domain == DOCKER_HUB and "/" not in path else path


def shortened(text: str) -> str:
    """Given a text for people, return it with each digest in it cut to twelve digits: enough to tell one from another, and it fits a line."""
    return _DIGEST.sub(lambda digest: f"{digest[0][:_SHOWN_DIGITS]}…", text)
