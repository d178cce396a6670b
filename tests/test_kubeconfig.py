"""Finding the API server: contexts, several files, exec plugins, tokens in files, the Pod's own account; and mistakes told without a secret."""

import json
import ssl
import stat
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from core.errors import ConfigurationError, TemporaryError
from tasks import kubeconfig
from tasks.kubeconfig import find_connection


def written(file: Path, user: dict[str, Any] | None = None, *, name: str = "lab", **cluster: Any) -> Path:
    """A kubeconfig with one context."""
    document = {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example.com:6443/", **cluster}}],
        "users": [{"name": name, "user": user or {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    }
    file.write_text(yaml.safe_dump(document))
    return file


def plugin(folder: Path, script: str) -> dict[str, Any]:
    """A user whose credentials an exec plugin gives."""
    program = folder / "plugin"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "args": ["get-token"],
            "env": [{"name": "CLUSTER", "value": "lab"}],
        }
    }


def found(file: Path, context: str | None = None) -> kubeconfig.Connection:
    return find_connection(context, {"KUBECONFIG": str(file)})


def test_the_current_context_is_taken_and_another_by_name(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a", name="lab"), written(tmp_path / "b", name="live")
    both = {"KUBECONFIG": f"{first}:{second}:{tmp_path / 'is-not-there'}"}
    assert find_connection(None, both).server == "https://lab.example.com:6443"
    assert find_connection("live", both).server == "https://live.example.com:6443"


def test_a_context_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no context 'live'; contexts: lab"):
        found(written(tmp_path / "a"), "live")


def test_without_a_kubeconfig_it_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Set KUBECONFIG"):
        found(tmp_path / "none")


def test_a_token_stands_in_the_file_or_in_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("token-of-a-file\n")
    assert found(written(tmp_path / "a", {"token": "token-in-place"})).token == "token-in-place"
    assert found(written(tmp_path / "b", {"tokenFile": "token"})).token == "token-of-a-file"


def test_an_exec_plugin_is_asked_as_kubectl_asks_it(tmp_path: Path) -> None:
    answer = json.dumps({"status": {"token": "token-for-$CLUSTER-$1"}}).replace('"', '\\"')
    script = f'case "$KUBERNETES_EXEC_INFO" in *ExecCredential*) echo "{answer}";; esac'
    assert found(written(tmp_path / "a", plugin(tmp_path, script))).token == "token-for-lab-get-token"


@pytest.mark.parametrize(
    ("script", "said"),
    [("echo no session >&2; exit 3", "exit code 3: no session"), ("echo a-token-by-mistake", "no ExecCredential")],
)
def test_a_plugin_that_fails_is_tried_again_later_and_its_output_is_not_shown(
    tmp_path: Path, script: str, said: str
) -> None:
    with pytest.raises(TemporaryError, match=said) as told:
        found(written(tmp_path / "a", plugin(tmp_path, script)))
    assert "a-token-by-mistake" not in str(told.value)


def test_a_plugin_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig, "EXEC_SECONDS", 0.2)
    with pytest.raises(TemporaryError, match="timed out"):
        found(written(tmp_path / "a", plugin(tmp_path, "exec sleep 5")))


def test_a_plugin_that_is_not_installed_is_named(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "no-such-program-of-aws"}}
    with pytest.raises(ConfigurationError, match="no-such-program-of-aws is not installed"):
        found(written(tmp_path / "a", user))


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"auth-provider": {"name": "gcp"}}, {}, "exec plugin"),
        ({"client-certificate-data": "bm90IGEgY2VydA==", "client-key-data": "eA=="}, {}, "client certificate"),
        ({"client-certificate-data": "%%%", "client-key-data": "%%%"}, {}, "client certificate"),
        ({}, {"certificate-authority-data": "%%%"}, "certificate authority"),
        ({}, {"certificate-authority": "is-not-there"}, "certificate authority"),
        ({}, {"server": ""}, "no server"),
    ],
)
def test_what_cannot_be_used_is_a_configuration_error(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        found(written(tmp_path / "a", user, **cluster))


@pytest.mark.parametrize("text", ["{{{", "- just\n- a list\n"])
def test_a_file_that_is_no_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        found(tmp_path / "a")


def test_certificates_are_checked_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    assert found(written(tmp_path / "a")).tls.verify_mode == ssl.CERT_REQUIRED
    assert found(written(tmp_path / "b", **{"insecure-skip-tls-verify": True})).tls.verify_mode == ssl.CERT_NONE


def test_in_a_pod_its_service_account_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "KUBECONFIG": str(tmp_path / "none"),
    }
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path)
    with pytest.raises(ConfigurationError, match="service account"):
        find_connection(None, variables)
    (tmp_path / "ca.crt").write_bytes(Path(certifi.where()).read_bytes())
    (tmp_path / "token").write_text("token-of-the-pod")
    connection = find_connection(None, variables)
    assert (connection.server, connection.token) == ("https://[fd00::1]:443", "token-of-the-pod")
