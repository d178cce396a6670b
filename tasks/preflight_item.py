"""What an item of the checklist before a release gets, and what becomes of one that could not be asked."""

import functools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from core.environment import Environment
from core.environment_release import Release, Strategy, Workload
from core.errors import NightshiftError
from core.frontend import FrontendPlan
from core.image_reference import ResolvedImage
from core.release_checks import ReleaseCheck, failed
from tasks.kubernetes_client import KubernetesClient


class Preflight:
    """What the items look at. `images` and `live` are by workload key (deployment/api-server): what is to come, and the live image by digest as far as it is known.

    `live` may say `sha256:…` or `repository@sha256:…`; what is missing is read from the cluster. The client is the release's own; it is not closed here.
    """

    def __init__(  # noqa: PLR0917 - what it is made of
        self,
        environment: Environment,
        release: Release,
        client: KubernetesClient,
        namespace: str,
        commit: str,
        images: Mapping[str, ResolvedImage],
        live: Mapping[str, str],
        *,
        strategy: Strategy | None = None,
        frontend: FrontendPlan | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.environment, self.release, self.client = environment, release, client
        self.namespace, self.commit, self.images, self.live = namespace, commit, images, live
        self.strategy: Strategy = strategy or release.strategy
        self.frontend = frontend
        self.clock = clock

    @property
    def deployments(self) -> tuple[Workload, ...]:
        """The workloads that are Deployments, in the file's order."""
        return tuple(one for one in self.release.workloads if one.kind == "Deployment")


Look = Callable[[Preflight], ReleaseCheck]


def asked(item: str) -> Callable[[Look], Look]:
    """Given an item's name, return the decorator of its function: an error is a failed item, since what could not be asked is not well."""

    def decorate(look: Look) -> Look:
        @functools.wraps(look)
        def guarded(preflight: Preflight) -> ReleaseCheck:
            try:
                return look(preflight)
            except NightshiftError as error:
                return failed(item, str(error).removesuffix(error.next_step).strip(), error.next_step)
            except (AttributeError, LookupError, TypeError, ValueError) as error:
                # An answer of another shape than its API promises.
                found = f"the answer could not be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
                return failed(item, found, "Look at what answers there")

        return guarded

    return decorate
