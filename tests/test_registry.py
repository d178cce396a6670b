"""Which image a tag is: what a registry answers, and what it may not get away with."""

import hashlib
import json
import secrets
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from core.environment import Environment
from core.environment_release import Registry, Release
from core.errors import ConfigurationError, IntegrityError, PermanentError, TemporaryError
from core.image_reference import parse_reference
from core.registry_challenge import Challenge, read_challenges
from tasks.registry import _Puller, resolve_image
from tasks.web_api import WebApi
from tests.fix_object_store import S3Server, environment_for
from tests.fix_registry import OCI_MANIFEST, ImageRegistry

API = "registry.example.com/team/api"
NAME = "team/api"
ACCOUNT = "123456789012"
ECR = f"{ACCOUNT}.dkr.ecr.eu-central-1.amazonaws.com"


@pytest.fixture
def environment() -> Environment:
    return environment_for("none", "http://127.0.0.1:9")


def release_with(**registry: Any) -> Release:
    return Release.model_validate(
        {"namespace": "apps", "repository": API, "registry": registry, "workloads": [{"name": "api"}]}
    )


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def signed_in(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("REGISTRY_USER", "puller")
    monkeypatch.setenv("REGISTRY_PASSWORD", "pull-password")
    return {"username": "env:REGISTRY_USER", "password": "env:REGISTRY_PASSWORD"}


def test_a_tag_is_the_digest_that_it_has_now_and_stays_that_when_it_moves(
    environment: Environment, image_registry: ImageRegistry
) -> None:
    release = release_with(address=image_registry.address)
    first, second = (
        image_registry.push(NAME, "1.4"),
        image_registry.push(NAME, content="other", media_type=OCI_MANIFEST),
    )
    resolved = resolve_image(environment, release, API, "1.4")
    assert (resolved.repository, resolved.tag, resolved.digest) == (API, "1.4", first)
    assert resolved.pinned == f"{API}@{first}"
    image_registry.move_tag(NAME, "1.4", second)
    assert resolve_image(environment, release, API, "1.4").digest == second
    assert resolve_image(environment, release, API, f"1.4@{first}").digest == first
    assert resolve_image(environment, release, API, first).tag is None


def test_a_registry_without_the_digests_header_is_hashed(
    environment: Environment, image_registry: ImageRegistry
) -> None:
    digest = image_registry.push(NAME, "1.4")
    image_registry.claimed_digest = None
    assert resolve_image(environment, release_with(address=image_registry.address), API, "1.4").digest == digest


def test_a_claim_that_is_not_the_contents_digest_is_refused(
    environment: Environment, image_registry: ImageRegistry
) -> None:
    digest = image_registry.push(NAME, "1.4")
    image_registry.claimed_digest = f"sha256:{'0' * 64}"
    with pytest.raises(IntegrityError, match="should have sha256:0000"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4")
    image_registry.claimed_digest = None
    image_registry.manifests[NAME, digest] = (OCI_MANIFEST, b"{}")
    with pytest.raises(IntegrityError, match=f"should have {digest}"):
        resolve_image(environment, release_with(address=image_registry.address), API, digest)


def test_what_is_not_there_names_the_tag(environment: Environment, image_registry: ImageRegistry) -> None:
    image_registry.push(NAME, "1.4")
    with pytest.raises(PermanentError, match=r"team/api, 1\.5.*404.*manifest unknown.*built and pushed"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.5")
    with pytest.raises(PermanentError, match="404"):
        resolve_image(environment, release_with(address=image_registry.address), API, f"sha256:{'0' * 64}")


def test_a_token_is_asked_for_as_the_registry_says(
    environment: Environment, image_registry: ImageRegistry, signed_in: dict[str, str]
) -> None:
    digest = image_registry.push(NAME, "1.4")
    image_registry.sign_in = "token"
    assert resolve_image(environment, release_with(address=image_registry.address), API, "1.4").digest == digest
    image_registry.anonymous_tokens = False
    release = release_with(address=image_registry.address, **signed_in)
    assert resolve_image(environment, release, API, "1.4").digest == digest
    asked = [path for _, path, _ in image_registry.requests if path.startswith("/token")]
    assert "scope=repository%3Ateam%2Fapi%3Apull" in asked[-1]
    assert f"service={image_registry.host.replace(':', '%3A')}" in asked[-1]


def test_user_and_password_are_sent_only_where_they_are_asked_for(
    environment: Environment, image_registry: ImageRegistry, signed_in: dict[str, str]
) -> None:
    digest = image_registry.push(NAME, "1.4")
    release = release_with(address=image_registry.address, **signed_in)
    assert resolve_image(environment, release, API, "1.4").digest == digest
    assert not any("Authorization" in headers for _, _, headers in image_registry.requests)
    image_registry.sign_in = "basic"
    assert resolve_image(environment, release, API, "1.4").digest == digest


@pytest.mark.parametrize("sign_in", ["token", "basic"])
def test_a_refusal_names_repository_and_secret_and_never_the_password(
    environment: Environment, image_registry: ImageRegistry, signed_in: dict[str, str], sign_in: str
) -> None:
    image_registry.push(NAME, "1.4")
    image_registry.sign_in, image_registry.anonymous_tokens = sign_in, False
    with pytest.raises(PermanentError, match=f"{API}.*401.*nobody is signed in: release.registry.username"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4")
    image_registry.users["puller"] = "changed"
    with pytest.raises(
        PermanentError, match=f"{API}.*401.*release.registry.password = env:REGISTRY_PASSWORD"
    ) as caught:
        resolve_image(environment, release_with(address=image_registry.address, **signed_in), API, "1.4")
    assert "pull-password" not in str(caught.value)


def test_a_403_is_a_refusal_too(environment: Environment, image_registry: ImageRegistry) -> None:
    image_registry.fail("/manifests/", 403)
    with pytest.raises(PermanentError, match=f"{API}.*403"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4")


def test_a_busy_registry_is_asked_again_when_it_says(
    environment: Environment, image_registry: ImageRegistry, pauses: list[float]
) -> None:
    digest = image_registry.push(NAME, "1.4")
    release = release_with(address=image_registry.address)
    image_registry.fail("/manifests/", 429, Retry_After="7")
    image_registry.fail("/manifests/", 503)
    assert resolve_image(environment, release, API, "1.4", sleep=pauses.append).digest == digest
    assert pauses[0] == 7
    image_registry.fail("/manifests/", 429, Retry_After="3600")
    with pytest.raises(TemporaryError, match=r"429.*wait 3600 s"):
        resolve_image(environment, release, API, "1.4", sleep=pauses.append)
    assert len(pauses) == 2, "an hour is not waited for"


def test_a_registry_that_stays_away_may_answer_later(
    environment: Environment, image_registry: ImageRegistry, pauses: list[float]
) -> None:
    image_registry.fail("/manifests/", 0, times=9)
    with pytest.raises(TemporaryError, match="no answer"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4", sleep=pauses.append)
    assert len(pauses) == 2


def test_a_registry_that_hangs_is_not_waited_for_without_end(
    environment: Environment, image_registry: ImageRegistry, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.web_api.READ_SECONDS", 0.1)
    image_registry.fail("/manifests/", 0, times=9, seconds=1)
    with pytest.raises(TemporaryError, match="ReadTimeout"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4", sleep=pauses.append)


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for_without_end(
    environment: Environment, image_registry: ImageRegistry, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.web_api.LONGEST_ANSWER_SECONDS", -1)
    image_registry.push(NAME, "1.4")
    with pytest.raises(TemporaryError, match="did not end within"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4", sleep=pauses.append)


def test_a_password_never_goes_where_there_is_no_https(signed_in: dict[str, str]) -> None:
    registry = Registry.model_validate(signed_in)
    puller = _Puller(registry, parse_reference(API), lambda _seconds: None)
    plain = Challenge("bearer", {"realm": "http://registry.example.com/token"})
    with (
        WebApi("https://registry.example.com", what="a registry") as api,
        pytest.raises(PermanentError, match="without https"),
    ):
        puller._token(api, plain, API)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>sign in</html>", "text/html"),
        (b"{}", "application/json"),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ],
)
def test_an_answer_that_is_no_manifest_is_no_image(
    environment: Environment, image_registry: ImageRegistry, body: bytes, kind: str
) -> None:
    image_registry.fail("/manifests/", 200, body=body, Content_Type=kind)
    with pytest.raises(PermanentError, match=f"{kind}.*no image's manifest".replace("+", r"\+")):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4")


def test_a_redirect_is_followed_without_credentials_to_another_host_and_not_without_end(
    environment: Environment, image_registry: ImageRegistry, signed_in: dict[str, str]
) -> None:
    elsewhere = ImageRegistry()
    try:
        digest = elsewhere.push(NAME, "1.4")
        image_registry.sign_in = "basic"
        image_registry.fail("/manifests/", 401, WWW_Authenticate='Basic realm="x"')
        image_registry.fail("/manifests/", 307, Location=f"{elsewhere.address}/v2/{NAME}/manifests/1.4")
        release = release_with(address=image_registry.address, **signed_in)
        assert resolve_image(environment, release, API, "1.4").digest == digest
        assert "Authorization" in image_registry.requests[-1][2]
        assert "Authorization" not in elsewhere.requests[-1][2]
    finally:
        elsewhere.close()
    image_registry.fail("/manifests/", 307, times=9, Location="/v2/team/api/manifests/1.4")
    with pytest.raises(PermanentError, match="again and again"):
        resolve_image(environment, release, API, "1.4")


def test_a_redirect_to_nowhere_is_an_error_of_ours(
    environment: Environment, image_registry: ImageRegistry, pauses: list[float]
) -> None:
    image_registry.fail("/manifests/", 307, times=9, Location="http://nowhere:port/")
    with pytest.raises(TemporaryError, match="location header"):
        resolve_image(environment, release_with(address=image_registry.address), API, "1.4", sleep=pauses.append)


def test_without_a_registry_only_digests_are_taken(environment: Environment) -> None:
    release, digest = release_with(kind="none"), f"sha256:{'0a' * 32}"
    assert resolve_image(environment, release, API, digest).digest == digest
    with pytest.raises(ConfigurationError, match="Give the digest"):
        resolve_image(environment, release, API, "1.4")


@pytest.mark.parametrize(("repository", "asked"), [(API, "1 4"), (API, ""), ("Not A Name", "1.4")])
def test_a_wrong_name_is_found_before_anything_is_asked(environment: Environment, repository: str, asked: str) -> None:
    with pytest.raises(ConfigurationError, match=r"neither a tag|is not a"):
        resolve_image(environment, release_with(), repository, asked)


def test_challenges_are_read_as_servers_write_them() -> None:
    several = 'Basic realm="a, b", Bearer realm="https://x/token",service=x,scope="repository:a:pull,push", Negotiate'
    assert [(one.scheme, one.parameters) for one in read_challenges(several)] == [
        ("basic", {"realm": "a, b"}),
        ("bearer", {"realm": "https://x/token", "service": "x", "scope": "repository:a:pull,push"}),
        ("negotiate", {}),
    ]
    assert read_challenges(r'BEARER Realm="a\"b"')[0].parameters == {"realm": 'a"b'}
    for nothing in ("", ",,", '="x"', "realm=x", '"'):
        assert read_challenges(nothing) == []


@pytest.fixture
def ecr(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """A repository in moto's ECR, and a client of it; the process' default chain leads there."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.Session().client("ecr", region_name="eu-central-1")
    name = f"team/api-{secrets.token_hex(4)}"
    client.create_repository(repositoryName=name)
    yield name, client
    client.close()


def put_image(client: Any, name: str, tag: str, content: str = "") -> str:
    manifest = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "content": content})
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    client.put_image(repositoryName=name, imageManifest=manifest, imageTag=tag, imageManifestMediaType=OCI_MANIFEST, imageDigest=digest)  # fmt: skip
    return digest


def test_ecr_is_asked_by_its_own_api(environment: Environment, ecr: tuple[str, Any]) -> None:
    name, client = ecr
    digest, release = put_image(client, name, "1.4"), release_with(kind="ecr")
    assert resolve_image(environment, release, f"{ECR}/{name}", "1.4").digest == digest
    assert resolve_image(environment, release, f"{ECR}/{name}", digest).digest == digest
    with pytest.raises(PermanentError, match=r"1\.5.*not found.*built and pushed"):
        resolve_image(environment, release, f"{ECR}/{name}", "1.5")
    with pytest.raises(PermanentError, match=r"no such repository.*eu-central-1"):
        resolve_image(environment, release, f"{ECR}/other", "1.4")
    with pytest.raises(ConfigurationError, match="not a host of ECR"):
        resolve_image(environment, release, API, "1.4")


def test_an_ecr_that_stays_away_may_answer_later(
    environment: Environment, ecr: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TemporaryError, match="no answer"):
        resolve_image(environment, release_with(kind="ecr"), f"{ECR}/{ecr[0]}", "1.4")
