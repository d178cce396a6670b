"""Which image a tag is, asked of a real registry: the distribution project's, as Debian packages it (docker-registry)."""

import hashlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from core.errors import PermanentError
from tasks.registry import resolve_image
from tests.fix_object_store import environment_for
from tests.fix_preflight import release_with
from tests.fix_registry import OCI_INDEX, OCI_MANIFEST
from tests.leave_out import leave_out
from tests.waiting import wait_until

pytestmark = pytest.mark.services
USER = ("puller", "pull-password")
# bcrypt of that password, the one form that the registry reads.
LINE = "puller:$2b$05$zJ0YxjtLr0Pu1GXu7xNPD.5PnqRu/AH4iFYeuQayuM1T9nGBy63ja\n"
NAME = "registry.example.com/team/api"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that asks for user and password."""
    program = shutil.which("docker-registry")
    if program is None:
        leave_out("no docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "htpasswd").write_text(LINE)
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "data")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "registry", "path": str(tmp_path / "htpasswd")}},
    }
    (tmp_path / "config.yml").write_text(json.dumps(settings))
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", tmp_path / "config.yml"], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(address), "the registry answers")
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/v2/").status_code == 401
    except httpx.TransportError:
        return False


def push(address: str, tag: str, content: str) -> tuple[str, str]:
    """Push an image of one platform, and an index of it under a tag; return the digests of index and manifest."""
    with httpx.Client(base_url=address, auth=USER) as http:
        blob = json.dumps({"content": content}).encode()
        described = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(blob),
            "size": len(blob),
        }
        place = http.post("/v2/team/api/blobs/uploads/").headers["Location"]
        assert (
            http.put(place, params={**httpx.URL(place).params, "digest": digest_of(blob)}, content=blob).status_code
            == 201
        )
        manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": []}
        ).encode()
        listed = {"mediaType": OCI_MANIFEST, "digest": digest_of(manifest), "size": len(manifest)}
        index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]}).encode()
        for reference, body, kind in ((digest_of(manifest), manifest, OCI_MANIFEST), (tag, index, OCI_INDEX)):
            answer = http.put(f"/v2/team/api/manifests/{reference}", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 201, answer.text
    return digest_of(index), digest_of(manifest)


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_real_registry_is_signed_in_to_and_tells_the_digest(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGISTRY_USER", USER[0])
    monkeypatch.setenv("REGISTRY_PASSWORD", USER[1])
    environment = environment_for("none", "http://127.0.0.1:9")
    signed_in = {"username": "env:REGISTRY_USER", "password": "env:REGISTRY_PASSWORD"}
    release = release_with(registry={"address": registry, **signed_in})
    first, manifest = push(registry, "1.4", "first")
    assert resolve_image(environment, release, NAME, "1.4").digest == first
    assert resolve_image(environment, release, NAME, manifest).digest == manifest
    second, _ = push(registry, "1.4", "second")
    assert resolve_image(environment, release, NAME, "1.4").digest == second
    assert resolve_image(environment, release, NAME, f"1.4@{first}").digest == first, "the digest stays what it was"
    with pytest.raises(PermanentError, match=r"404.*MANIFEST_UNKNOWN"):
        resolve_image(environment, release, NAME, "1.5")
    with pytest.raises(PermanentError, match="401, nobody is signed in"):
        resolve_image(environment, release_with(registry={"address": registry}), NAME, "1.4")
