"""The Pod that a drill restores into, as documents for the Kubernetes API, and what its status means. Pure: tasks.scratch_pod makes and removes it.

A dump's code runs in it as PostgreSQL's superuser, so it gets nothing: no service-account token, no service addresses, no environment, no rights of root,
nothing to write to but its own volumes; a NetworkPolicy denies all traffic (port-forward does not go through the Pod's network).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.environment_restore import ScratchPod

Document = dict[str, Any]

CONTAINER, PORT = "postgres", 5432
SEEN_ANNOTATION = "nightshift.dev/seen"
# The number that the official Debian image gives to `postgres`; the file below gives it a name in any image.
USER_ID = 999
# A Pod whose drill was killed, in a cluster that no later drill looks at, ends by itself.
LIFE_SECONDS = 24 * 3600
_PASSWD = f"root:x:0:0:root:/:/bin/false\npostgres:x:{USER_ID}:{USER_ID}:PostgreSQL:/scratch:/bin/sh\n"

# $1: the superuser; after it options of initdb up to `--`, then options of postgres. The server's own environment holds PATH and LC_ALL alone.
_SCRIPT = r"""
set -eu
umask 077
initdb=$(command -v initdb || ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort | tail -n 1 || true)
[ -n "$initdb" ] || { echo "the image holds no initdb: use one with PostgreSQL's server programs" >&2; exit 3; }
bin=${initdb%/*}
clean="env -i PATH=$bin:/usr/local/bin:/usr/bin:/bin LC_ALL=C"
superuser=$1
shift
options=
while [ "$1" != -- ]; do options="$options $1"; shift; done
shift
mkdir -p /scratch/socket
printf '%s/%s' "$KUBERNETES_SERVICE_HOST" "$KUBERNETES_SERVICE_PORT" >/scratch/api
$clean "$bin/initdb" --pgdata=/scratch/data --username="$superuser" --pwfile=/secret/password --auth=scram-sha-256 \
  --encoding=UTF8 --locale=C --no-sync $options >/dev/null
exec $clean "$bin/postgres" -D /scratch/data "$@"
"""

# Says whether the API server, which is there in every cluster, can be reached from inside: open, closed, or unknown. Its address is then forgotten.
NETWORK_PROBE = (
    'api=$(cat /scratch/api); rm -f /scratch/api; command -v bash >/dev/null && command -v timeout >/dev/null && [ "$api" != / ] || { echo unknown; exit 0; }; '
    'timeout 3 bash -c "exec 3<>/dev/tcp/$api" 2>/dev/null && echo open || echo closed'
)


@dataclass(frozen=True)
class PodOrder:
    """What the Pod is to be. `name` is also the Secret's and the NetworkPolicy's; `labels` say whose it is; `initdb` are further options of initdb."""

    name: str
    namespace: str
    labels: dict[str, str]
    superuser: str
    password: str
    settings: dict[str, str]
    initdb: tuple[str, ...]
    choice: ScratchPod


def policy_document(order: PodOrder) -> Document:
    """The NetworkPolicy that denies the Pod every connection, in and out, names included."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _metadata(order),
        "spec": {
            "podSelector": {"matchLabels": order.labels},
            "policyTypes": ["Egress", "Ingress"],
            "egress": [],
            "ingress": [],
        },
    }


def secret_document(order: PodOrder) -> Document:
    """The Secret with the superuser's password, and a passwd file that gives the Pod's user a name (initdb wants one)."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(order),
        "type": "Opaque",
        "stringData": {"password": order.password, "passwd": _PASSWD},
    }


def pod_document(order: PodOrder, seen: str) -> Document:
    """The Pod. `seen` is when its drill was last known to live (ISO 8601)."""
    metadata = _metadata(order)
    metadata["annotations"] = {SEEN_ANNOTATION: seen}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFE_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(order)],
            "volumes": [
                {"name": "scratch", "emptyDir": {"sizeLimit": order.choice.disk}},
                {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
                {"name": "secret", "secret": {"secretName": order.name, "defaultMode": 0o440}},
            ],
        },
    }


def _container(order: PodOrder) -> Document:
    settings = {**order.settings, "listen_addresses": "127.0.0.1", "unix_socket_directories": "/scratch/socket"}
    options = [f"--{key}={value}" for key, value in settings.items()]
    return {
        "name": CONTAINER,
        "image": order.choice.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", _SCRIPT, CONTAINER],
        "args": [order.superuser, *order.initdb, "--", *options],
        "workingDir": "/scratch",
        # What PostgreSQL said last is then in the Pod's status, and no right to read logs is needed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"limits": {"cpu": order.choice.cpu, "memory": order.choice.memory}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "readinessProbe": {
            "exec": {"command": ["/bin/sh", "-c", f"test -S /scratch/socket/.s.PGSQL.{PORT}"]},
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},  # noqa: S108 - the Pod's own
            {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108 - the Pod's own
            {"name": "secret", "mountPath": "/secret", "readOnly": True},
            {"name": "secret", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True},
        ],
    }


def _metadata(order: PodOrder) -> Document:
    return {"name": order.name, "namespace": order.namespace, "labels": dict(order.labels)}


# Kubelet's reasons (pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go) for which a container is not started.
HOPELESS = {
    "ImagePullBackOff": "its image cannot be pulled",
    "ErrImagePull": "its image cannot be pulled",
    "ErrImageNeverPull": "its image is not on the node and must not be pulled",
    "InvalidImageName": "its image's name is not valid",
    "CreateContainerConfigError": "its container cannot be made",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be started",
}
# Of these, what a next try of the kubelet's may mend. The first failure to pull may be a registry that hiccups; BackOff is said when that failed too. A container
# that cannot be configured or made may only wait for a Secret that the kubelet of a busy node has not read yet ("failed to sync secret cache: timed out").
MAY_PASS = frozenset({"ErrImagePull", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether the Pod says that its server listens."""
    return _condition(pod, "Ready").get("status") == "True"


def failure_of(pod: Mapping[str, Any]) -> str | None:
    """Given a Pod, return in one sentence why it will not become ready or has ended; None while it may."""
    status = pod.get("status") or {}
    state = _container_state(pod)
    if status.get("phase") in {"Failed", "Succeeded"}:
        ended = state.get("terminated") or {}
        said = " | ".join(str(ended.get("message") or status.get("message") or "").split("\n")[-6:]).strip(" |")
        reason = status.get("reason") or ended.get("reason") or "no reason given"
        code = f", exit code {ended['exitCode']}" if "exitCode" in ended else ""
        return f"the Pod ended ({reason}{code}){f': {said}' if said else ''}"
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in HOPELESS and waiting["reason"] not in MAY_PASS:
        return _sentence(HOPELESS[waiting["reason"]], waiting)
    return None


def waiting_for(pod: Mapping[str, Any] | None) -> str:
    """Given a Pod that is not ready in time (None: it is gone), return what it waits for, in one sentence."""
    if pod is None:
        return "the Pod is gone: somebody removed it"
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _sentence("no node takes the Pod", scheduled)
    waiting = _container_state(pod).get("waiting") or {}
    if waiting.get("reason") in HOPELESS:
        return _sentence(HOPELESS[waiting["reason"]], waiting)
    if waiting.get("reason"):
        return _sentence("its container is not started yet", waiting)
    if "running" in _container_state(pod):
        return "PostgreSQL was started and does not listen yet"
    return "no node has begun to start it"


def quantity_bytes(quantity: str) -> int:
    """Given an amount as Kubernetes writes it (`1Gi`, `500M`, `1e9`), return bytes. Raise ValueError when it is none.

    Kubernetes API reference, "Quantity".
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([KMGTPE]i|[kMGTPE]|m)|[eE](\d+))?", quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not an amount such as 1Gi or 500M")
    number, suffix, exponent = match.groups()
    if exponent is not None:
        return int(float(number) * 10 ** int(exponent))
    if suffix == "m":
        return int(float(number) / 1000)
    power = " kMGTPE".index(suffix[0].replace("K", "k")) if suffix else 0
    return int(float(number) * (1024 if suffix and suffix.endswith("i") else 1000) ** power)


def _sentence(what: str, why: Mapping[str, Any]) -> str:
    details = ": ".join(" ".join(str(why[key]).split()) for key in ("reason", "message") if why.get(key))
    return f"{what} ({details})" if details else what


def _condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def _container_state(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return next((one.get("state") or {} for one in statuses if one.get("name") == CONTAINER), {})
