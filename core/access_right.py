"""A right at the Kubernetes API, as an account has it or lacks it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class AccessRight:
    """One verb on one resource (`pods`, or with its subresource `pods/log`), in a namespace ("": the whole cluster), of one name ("": any)."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

    @property
    def only_reads(self) -> bool:
        """Whether nothing can be changed by it."""
        return self.verb in {"get", "list", "watch"}

    def attributes(self) -> dict[str, str]:
        """The same as a SelfSubjectAccessReview's resourceAttributes."""
        resource, _, subresource = self.resource.partition("/")
        return {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "namespace": self.namespace,
            "name": self.name,
        }

    def in_words(self) -> str:
        """As a message says it: `get backups.velero.io in velero`."""
        what = f"{self.verb} {self.resource}{'.' if self.group else ''}{self.group}"
        return what + (f" {self.name}" if self.name else "") + (f" in {self.namespace}" if self.namespace else "")


def is_granted(right: AccessRight, rules: Iterable[Document]) -> bool:
    """Given the resourceRules of a SelfSubjectRulesReview in the right's namespace, return whether one of them grants it.

    As RBAC reads a rule (pkg/apis/rbac/v1/evaluation_helpers.go): "*" stands for every verb, group and resource, "*/scale" for that subresource of every resource;
    a rule with names grants those alone, and therefore no request that names none.
    """
    _, _, subresource = right.resource.partition("/")
    resources = {"*", right.resource} | ({f"*/{subresource}"} if subresource else set())
    return any(
        {"*", right.verb} & set(rule.get("verbs") or ())
        and {"*", right.group} & set(rule.get("apiGroups") or ())
        and resources & set(rule.get("resources") or ())
        and (not rule.get("resourceNames") or (right.name and right.name in rule["resourceNames"]))
        for rule in rules
    )
