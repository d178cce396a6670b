"""Pods by what Kubernetes and they themselves say: which are ready, whose names count as one version's, and what their answers on /health and /ready mean.

The API server's proxy answers in the Pod's place when it cannot reach it: with a Status document, or up to about 1.20 with a line of text ("error trying to reach
service: dial tcp …", apimachinery's pkg/util/proxy/transport.go). That is no word of the Pod: often the network between control plane and Pods does not allow it.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from core.gate_readings import PodSide
from core.manifest import Record
from core.metric_gate import Finding, Verdict, verdict_of
from core.pod_trouble import find_troubles
from core.redaction import redact

Document = dict[str, Any]

_PROXY_FAILED = "error trying to reach service"
_LONGEST_LINE = 120
_SHOWN = 3


class PodAnswer(Record):
    """What came back for one path of one Pod. `status` 0: the Pod did not answer itself, and `said` is why.

    `gone`: there is no such Pod any more. `silent`: nothing came in time, or the connection broke.
    """

    pod: str
    path: str
    status: int
    said: str = ""
    gone: bool = False
    silent: bool = False

    @property
    def good(self) -> bool:
        """Whether the Pod itself said 200."""
        return self.status == 200

    @property
    def told(self) -> str:
        """Its part of a sentence."""
        what = f"answered {self.status} on {self.path}" if self.status else f"could not be asked for {self.path}"
        return f"{self.pod} {what}" + (f" ({self.said})" if self.said else "")


def lasting_pods(pods: Iterable[Document]) -> list[Document]:
    """Given Pods, return those that are not being deleted and have not ended."""
    return [
        pod
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp") and _phase(pod) not in {"Succeeded", "Failed"}
    ]


def is_ready(pod: Document) -> bool:
    """Whether a Pod is ready by its condition, which is what Services and endpoints go by."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def side_of(pods: Iterable[Document]) -> PodSide | None:
    """Given the Pods of a version, return its side for the metrics; None when none is ready. Those that ended or are being deleted count by their ReplicaSet's name."""
    listed = list(pods)
    names = sorted(pod["metadata"]["name"] for pod in lasting_pods(listed) if is_ready(pod))
    owners = {
        str(owner["name"])
        for pod in listed
        for owner in pod["metadata"].get("ownerReferences") or ()
        if owner.get("kind") == "ReplicaSet"
    }
    return PodSide(names=tuple(names), replica_sets=tuple(sorted(owners))) if names else None


def port_of(pod: Document, configured: int | None) -> int:
    """The port to ask: the configured one, else the first that the first container declares; 0 when there is none."""
    if configured is not None:
        return configured
    ports = pod["spec"]["containers"][0].get("ports") or ()
    return int(ports[0]["containerPort"]) if ports else 0


def answer_of(pod: str, path: str, status: int, text: str) -> PodAnswer:
    """Given what came through the API server's proxy, return the Pod's answer, or that it was not the Pod's."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict) and document.get("kind") == "Status" and document.get("apiVersion") == "v1":
        kind = (document.get("details") or {}).get("kind")
        gone = document.get("code") == 404 and kind in {"pods", None}
        return PodAnswer(pod=pod, path=path, status=0, said=first_line(str(document.get("message", ""))), gone=gone)
    proxy_failed = status >= 500 and text.strip().lower().startswith(_PROXY_FAILED)
    return PodAnswer(pod=pod, path=path, status=0 if proxy_failed else status, said=first_line(text))


def first_line(text: str) -> str:
    """What of an answer's text may stand in a report: its first line, shortened, without secrets."""
    lines = text.strip().splitlines()
    return redact(lines[0])[:_LONGEST_LINE] if lines else ""


def health_verdict(at: datetime, pods: Sequence[Document], answers: Sequence[PodAnswer], health_path: str) -> Verdict:
    """Given the lasting Pods of a version and the answers of those that are ready, return what their health says.

    pass: each ready Pod answered 200 on both paths. fail: none is ready, or a Pod itself answers something else on the path of its health. inconclusive: one that
    cannot be asked, that says it is not ready (Kubernetes then takes it out of the Service by itself), or that is not asked yet; and no Pods at all.
    """
    ready = [pod["metadata"]["name"] for pod in pods if is_ready(pod)]
    counted = f"{len(ready)} of {len(pods)} Pods are ready"
    ill = [one for one in answers if one.status and not one.good and one.path == health_path]
    bad = [one for one in answers if not one.good]
    unasked = sorted(set(ready) - {one.pod for one in answers})
    if not pods:
        finding = Finding(gate="health", state="inconclusive", found="there is no Pod to ask")
    elif not ready:
        finding = Finding(gate="health", state="fail", found=f"none of {len(pods)} Pods is ready{_why_unready(pods)}")
    elif ill:
        finding = Finding(gate="health", state="fail", found=f"{counted}; {_told(ill)}")
    elif bad:
        finding = Finding(gate="health", state="inconclusive", found=f"{counted}; {_told(bad)}")
    elif unasked:
        finding = Finding(
            gate="health", state="inconclusive", found=f"{counted}; not asked in time: {', '.join(unasked[:_SHOWN])}"
        )
    else:
        finding = Finding(gate="health", state="pass", found=f"{counted}, and each of these answered 200")
    return verdict_of(at, [finding])


def _why_unready(pods: Sequence[Document]) -> str:
    """What is wrong with one of them, as its status tells: which of its containers ended, and how."""
    worst = next(iter(find_troubles(pods, {}, {})), None)
    return f": {worst.sentence}" if worst else ""


def _told(answers: Sequence[PodAnswer]) -> str:
    more = len(answers) - _SHOWN
    return "; ".join(one.told for one in answers[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _phase(pod: Document) -> str:
    return str((pod.get("status") or {}).get("phase", ""))
