"""Where the Kubernetes API is and who we are there: the kubeconfig as kubectl reads it, or the service account of the Pod we run in.

Understood are what clusters of today use: certificates, tokens, token files and exec plugins (EKS: `aws eks get-token`). Of several files in KUBECONFIG the
first that says something wins, as in kubectl ("Organizing Cluster Access Using kubeconfig Files").
"""

import base64
import binascii
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from core.errors import ConfigurationError, TemporaryError
from core.redaction import register_secret

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
EXEC_SECONDS = 60

_KUBECONFIG_HINT = "Set KUBECONFIG for the worker, or run it in the cluster with a service account"


@dataclass(frozen=True)
class Connection:
    """How to reach one API server: address, TLS, the token (never shown), and for messages the context's name."""

    server: str
    context: str
    tls: ssl.SSLContext = field(repr=False)
    token: str | None = field(default=None, repr=False)
    tls_server_name: str | None = None
    proxy: str | None = None


def find_connection(context: str | None, variables: Mapping[str, str] | None = None) -> Connection:
    """Given a context's name (None: the current one, or the Pod's service account), return how to reach its API server, with fresh credentials.

    Raise ConfigurationError when there is no such context or it cannot be used, TemporaryError when its exec plugin fails.
    """
    variables = os.environ if variables is None else variables
    files = _files(variables)
    there = [file for file in files if file.is_file()]
    if not there and not context and variables.get("KUBERNETES_SERVICE_HOST"):
        return _in_cluster(variables)
    if not there:
        looked = ", ".join(str(file) for file in files)
        raise ConfigurationError("find the Kubernetes cluster", looked, "there is no kubeconfig", _KUBECONFIG_HINT)
    return _of_context(_merged(there), context)


def _files(variables: Mapping[str, str]) -> list[Path]:
    configured = [Path(part).expanduser() for part in variables.get("KUBECONFIG", "").split(os.pathsep) if part]
    return configured or [Path("~/.kube/config").expanduser()]


def _merged(files: list[Path]) -> dict[str, Any]:
    """The files as one: of entries with the same name, and of current-context, the first counts. Each entry remembers its file, to which its paths are relative."""
    merged: dict[str, Any] = {"clusters": {}, "users": {}, "contexts": {}, "current-context": ""}
    for file in files:
        try:
            document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            # Not chained and not quoted: the file holds keys.
            raise ConfigurationError(
                "read the kubeconfig", str(file), f"not readable as YAML ({type(error).__name__})", _KUBECONFIG_HINT
            ) from None
        if not isinstance(document, dict):
            raise ConfigurationError("read the kubeconfig", str(file), "it is no kubeconfig", _KUBECONFIG_HINT)
        merged["current-context"] = merged["current-context"] or document.get("current-context") or ""
        for kind, inner in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for entry in document.get(kind) or ():
                merged[kind].setdefault(entry["name"], (entry.get(inner) or {}, file.parent))
    return merged


def _of_context(merged: dict[str, Any], wanted: str | None) -> Connection:
    name = wanted or merged["current-context"]
    known = ", ".join(merged["contexts"]) or "none"
    if name not in merged["contexts"]:
        found = f"there is no context {name!r}" if name else "it has no current context"
        raise ConfigurationError(
            "choose the Kubernetes cluster", "kubeconfig", f"{found}; contexts: {known}", "Correct app_state.context"
        )
    context = merged["contexts"][name][0]
    if context.get("cluster") not in merged["clusters"]:
        raise _broken(name, f"its cluster {context.get('cluster')!r} is not in the file")
    cluster, cluster_folder = merged["clusters"][context["cluster"]]
    user, user_folder = merged["users"].get(context.get("user"), ({}, cluster_folder))
    if not cluster.get("server"):
        raise _broken(name, "its cluster has no server")
    tls = _trust(cluster, cluster_folder, name)
    credential = _credential(user, user_folder, cluster, name)
    _identify(tls, credential, user_folder, name)
    return Connection(
        server=str(cluster["server"]).rstrip("/"),
        context=name,
        tls=tls,
        token=_token(credential, user_folder, name),
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
    )


def _in_cluster(variables: Mapping[str, str]) -> Connection:
    host, port = variables["KUBERNETES_SERVICE_HOST"], variables.get("KUBERNETES_SERVICE_PORT", "443")
    try:
        tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
        # Kubernetes writes a new token into the file well before the old one expires.
        token = (SERVICE_ACCOUNT / "token").read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(
            "read the Pod's service account",
            str(SERVICE_ACCOUNT),
            str(error.strerror),
            "Give the Pod a service account (automountServiceAccountToken)",
        ) from error
    register_secret(token)
    bracketed = f"[{host}]" if ":" in host else host
    return Connection(f"https://{bracketed}:{port}", "the Pod's service account", tls, token)


def _trust(cluster: Mapping[str, Any], folder: Path, name: str) -> ssl.SSLContext:
    """The TLS context that trusts the cluster's authority; without one, the machine's."""
    if not str(cluster["server"]).startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used; reading the machine's authorities takes its time
    try:
        if cluster.get("certificate-authority-data"):
            return ssl.create_default_context(cadata=_decoded(cluster["certificate-authority-data"]).decode())
        authority = cluster.get("certificate-authority")
        tls = ssl.create_default_context(cafile=str(folder / authority) if authority else None)
    except (OSError, ValueError) as error:
        raise _broken(name, f"its certificate authority cannot be read ({error})") from error
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    return tls


def _credential(user: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The user's entry; for an exec plugin, what the plugin gives."""
    if user.get("auth-provider"):
        raise _broken(name, "it uses an auth-provider, which Kubernetes removed in 1.26; use an exec plugin")
    if not user.get("exec"):
        return user
    status = _run_plugin(user["exec"], folder, cluster, name)
    given = {
        "token": status.get("token"),
        "client-certificate-data": _encoded(status.get("clientCertificateData")),
        "client-key-data": _encoded(status.get("clientKeyData")),
    }
    return {key: value for key, value in given.items() if value}


def _run_plugin(plugin: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The status of the ExecCredential that a plugin prints (client.authentication.k8s.io)."""
    command = str(plugin["command"])
    # As kubectl: a path with a slash is relative to the file, a bare name is looked up in PATH.
    program = str(folder / command) if "/" in command else command
    info: dict[str, Any] = {
        "apiVersion": plugin.get("apiVersion", "client.authentication.k8s.io/v1"),
        "kind": "ExecCredential",
        "spec": {"interactive": False},
    }
    if plugin.get("provideClusterInfo"):
        info["spec"]["cluster"] = {key: cluster[key] for key in ("server", "tls-server-name") if key in cluster}
    extra = {entry["name"]: entry["value"] for entry in plugin.get("env") or ()}
    try:
        done = subprocess.run(
            [program, *(str(argument) for argument in plugin.get("args") or ())],
            env={**os.environ, **extra, "KUBERNETES_EXEC_INFO": json.dumps(info)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=EXEC_SECONDS,
        )
    except FileNotFoundError as error:
        raise _broken(name, f"its exec plugin {command} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _plugin_failed(name, command, str(error)) from error
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise _plugin_failed(name, command, f"exit code {done.returncode}: {said[0]}")
    try:
        status = json.loads(done.stdout)["status"]
    except (ValueError, KeyError, TypeError):
        # Not quoted: what it printed may be a token.
        raise _plugin_failed(name, command, "it printed no ExecCredential with a status") from None
    return status if isinstance(status, dict) else {}


def _identify(tls: ssl.SSLContext, credential: Mapping[str, Any], folder: Path, name: str) -> None:
    """Load the client certificate, if there is one. OpenSSL reads files only: data is written to private ones for a moment."""
    try:
        if credential.get("client-certificate-data"):
            with tempfile.TemporaryDirectory(prefix="nightshift-") as private:
                certificate, key = Path(private) / "certificate", Path(private) / "key"
                certificate.write_bytes(_decoded(credential["client-certificate-data"]))
                key.write_bytes(_decoded(credential["client-key-data"]))
                tls.load_cert_chain(certificate, key)
        elif credential.get("client-certificate"):
            tls.load_cert_chain(folder / credential["client-certificate"], folder / credential["client-key"])
    except (OSError, KeyError, ValueError) as error:
        raise _broken(name, f"its client certificate cannot be used ({type(error).__name__})") from error


def _token(credential: Mapping[str, Any], folder: Path, name: str) -> str | None:
    token = credential.get("token")
    if not token and credential.get("tokenFile"):
        try:
            token = (folder / credential["tokenFile"]).read_text(encoding="ascii").strip()
        except OSError as error:
            raise _broken(name, f"its token file cannot be read ({error.strerror})") from error
    if token:
        register_secret(str(token))
    return str(token) if token else None


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _encoded(text: str | None) -> str | None:
    return base64.b64encode(text.encode()).decode() if text else None


def _broken(name: str, found: str) -> ConfigurationError:
    return ConfigurationError("use the kubeconfig", f"context {name}", found, _KUBECONFIG_HINT)


def _plugin_failed(name: str, command: str, found: str) -> TemporaryError:
    return TemporaryError(
        "get credentials for Kubernetes", f"context {name}, {command}", found, f"Run {command} by hand on the worker"
    )
