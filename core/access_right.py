"""A right at the Kubernetes API, as an account has it or lacks it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AccessRight:
    """One verb on one resource (`pods`, or with its subresource `pods/log`), in a namespace ("": the whole cluster), of one name ("": any)."""

    verb: str
    resource: str
    group: str = ""
    namespace: str = ""
    name: str = ""

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
