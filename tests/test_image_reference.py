"""Image names: what they mean, and what is no name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.image_reference import (
    ImageReference,
    is_digest,
    is_tag,
    manifest_digest,
    parse_reference,
    shortened,
    split_tag_or_digest,
)

DIGEST = f"sha256:{'0a' * 32}"
LONG_DIGEST = f"sha512:{'0a' * 64}"


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", None, None),
        ("nginx:1.27", "docker.io", "library/nginx", "1.27", None),
        ("team/api-server", "docker.io", "team/api-server", None, None),
        ("docker.io/nginx", "docker.io", "library/nginx", None, None),
        ("index.docker.io/library/nginx", "docker.io", "library/nginx", None, None),
        ("localhost/api:1", "localhost", "api", "1", None),
        ("localhost:5000/api", "localhost:5000", "api", None, None),
        ("127.0.0.1:5000/api:1", "127.0.0.1:5000", "api", "1", None),
        ("[::1]:5000/api", "[::1]:5000", "api", None, None),
        ("registry.example.com/team/api-server", "registry.example.com", "team/api-server", None, None),
        (f"registry.example.com/a/b/c:v1_2.3-x@{DIGEST}", "registry.example.com", "a/b/c", "v1_2.3-x", DIGEST),
        (f"a__b/c--d@{LONG_DIGEST}", "docker.io", "a__b/c--d", None, LONG_DIGEST),
        ("Team/api", "Team", "api", None, None),
        (
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com/api",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "api",
            None,
            None,
        ),
    ],
)
def test_a_name_is_read_as_docker_reads_it(
    text: str, domain: str, path: str, tag: str | None, digest: str | None
) -> None:
    assert parse_reference(text) == ImageReference(domain, path, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "Api",
        "team/Api",
        "a//b",
        "a/",
        "/a",
        "-a",
        "a-",
        "a___b",
        "a b",
        "a:-1",
        f"a:{'x' * 129}",
        "a@sha256:00",
        f"a@{DIGEST.upper()}",
        f"a@md5:{'0' * 32}",
        "https://registry.example.com/a",
        "user:secret@registry.example.com/a",
        "registry.example.com:port/a",
        "0a" * 32,
        "/".join(["a"] * 129),
        "a\n",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|are an image's id"):
        parse_reference(text)


def test_docker_hub_is_asked_at_another_host_than_its_images_are_named_by() -> None:
    assert parse_reference("nginx").registry_host == "registry-1.docker.io"
    assert parse_reference("registry.example.com:5000/a").registry_host == "registry.example.com:5000"


def test_a_tag_a_digest_or_both_may_be_asked_for() -> None:
    assert split_tag_or_digest("1.4.2") == ("1.4.2", None)
    assert split_tag_or_digest(DIGEST) == (None, DIGEST)
    assert split_tag_or_digest(f"1.4.2@{DIGEST}") == ("1.4.2", DIGEST)
    for text in ("", "@", f"@{DIGEST}", "1.4.2@", "a/b", "sha256:00", ".1", "1\n"):
        with pytest.raises(ValueError, match="neither a tag"):
            split_tag_or_digest(text)


def test_only_a_digest_that_a_registry_answers_to_counts_as_a_running_containers() -> None:
    assert manifest_digest(f"registry.example.com/api@{DIGEST}") == DIGEST
    assert manifest_digest(f"docker-pullable://registry.example.com/api@{DIGEST}") == DIGEST
    assert manifest_digest(DIGEST) == "", "an image without a registry has the digest of its configuration only"
    assert manifest_digest("registry.example.com/api:1") == ""


word = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,8}){0,2}", fullmatch=True)
registry = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,8}){1,2}(:[0-9]{2,5})?", fullmatch=True) | st.just("localhost")
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True)
digest = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)


@given(registry, st.lists(word, min_size=1, max_size=4), st.none() | tag, st.none() | digest)
def test_a_full_name_is_read_into_its_parts_and_written_back(
    domain: str, words: list[str], its_tag: str | None, its_digest: str | None
) -> None:
    path = "/".join(words)
    text = f"{domain}/{path}{f':{its_tag}' if its_tag else ''}{f'@{its_digest}' if its_digest else ''}"
    assert parse_reference(text) == ImageReference(domain, path, its_tag, its_digest)
    assert str(parse_reference(text)) == text


@given(st.lists(word, min_size=1, max_size=3), st.none() | tag)
def test_the_full_name_of_a_short_one_means_the_same(words: list[str], its_tag: str | None) -> None:
    text = "/".join(words) + (f":{its_tag}" if its_tag else "")
    try:
        read = parse_reference(text)
    except ValueError:
        return
    assert parse_reference(str(read)) == read


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        read = parse_reference(text)
    except ValueError:
        return
    assert parse_reference(str(read)) == read
    assert read.tag is None or is_tag(read.tag)
    assert read.digest is None or is_digest(read.digest)


def test_a_digest_is_cut_for_people_and_the_text_around_it_is_left() -> None:
    digest = "sha256:" + "0123456789abcdef" * 4
    assert (
        shortened(f"release x → a/b@{digest} and {digest}.")
        == "release x → a/b@sha256:0123456789ab… and sha256:0123456789ab…."
    )
    assert shortened("sha256:0123 v1.2") == "sha256:0123 v1.2"
