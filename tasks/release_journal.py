"""Journals in the cluster: one ConfigMap a release, in nightshift's own namespace, written by compare-and-swap."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from pydantic import ValidationError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from core.canonical import canonical_bytes
from core.environment_release import Release
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.fence import ENVIRONMENT, Document, Fence, FencedError
from core.release_journal import (
    JOURNAL_LABEL,
    LARGEST_BYTES,
    RELEASE_LABEL,
    Event,
    Journal,
    Outcome,
    check_signatures,
    journal_name,
    with_entry,
    without_repeats,
)
from core.signature import SigningKey
from tasks.kubernetes_answers import ExistsError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.recording import Clock, utc_now

logger = logging.getLogger(__name__)
_ATTEMPTS = 6
_DATA = "journal.json"


class Written(NamedTuple):
    """A journal that was written: "" or what somebody else had done to it meanwhile, and the resourceVersion that it now has."""

    note: str
    version: str


def _version_of(document: Document) -> str:
    return str(document["metadata"]["resourceVersion"])


class Journals:
    """The journals of one environment."""

    def __init__(
        self, client: KubernetesClient, release: Release, environment: str, keys: Sequence[SigningKey]
    ) -> None:
        self._client, self._environment, self._keys = client, environment, tuple(keys)
        self._kind, self._namespace = find_kind(client, "ConfigMap"), release.control_namespace

    def path(self, release_id: str) -> str:
        """The path of a release's ConfigMap."""
        return self._kind.path(self._namespace, journal_name(release_id))

    def read(self, release_id: str) -> Journal | None:
        """A release's journal; None when there is none. Raise IntegrityError when somebody edited it."""
        try:
            return self.parse(self._client.get(self.path(release_id)))
        except MissingError:
            return None

    def open_documents(self) -> tuple[Document, ...]:
        """The ConfigMaps of this environment's journals that are not labelled closed, oldest first; unverified."""
        return self._labelled("open")

    def closed_documents(self) -> tuple[Document, ...]:
        """Those that are, oldest first; unverified."""
        return self._labelled("closed")

    def _labelled(self, state: str) -> tuple[Document, ...]:
        selector = f"{ENVIRONMENT}={self._environment},{JOURNAL_LABEL}={state}"
        found = self._client.list(self._kind.path(self._namespace), labelSelector=selector)
        return tuple(sorted(found, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"])))

    def parse(self, document: Document) -> Journal:
        """Given a ConfigMap, return its verified journal. Raise IntegrityError when it is not one that nightshift wrote, as it wrote it."""
        on = f"ConfigMap {self._namespace}/{document['metadata']['name']}"
        try:
            journal = Journal.model_validate_json((document.get("data") or {}).get(_DATA) or "")
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise IntegrityError(
                "read the journal",
                on,
                found,
                "Somebody edited it; recovery goes by the signed plan in S3 and by what it sees",
            ) from error
        check_signatures(journal, self._keys, on=on)
        return journal

    def document(self, journal: Journal) -> Document:
        """The ConfigMap of a journal. Raise PermanentError when it would grow too large."""
        data = canonical_bytes(journal.model_dump(mode="json")).decode()
        if len(data.encode()) > LARGEST_BYTES:
            raise PermanentError(
                "write the journal", self.path(journal.release_id), f"it would be larger than {LARGEST_BYTES} bytes"
            )
        labels = {
            "app.kubernetes.io/managed-by": "nightshift",
            ENVIRONMENT: self._environment,
            RELEASE_LABEL: journal.release_id,
            JOURNAL_LABEL: "open" if journal.is_open else "closed",
        }
        metadata = {"name": journal_name(journal.release_id), "namespace": self._namespace, "labels": labels}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {_DATA: data}}

    def write(self, before: Journal | None, after: Journal, version: str = "") -> Written:
        """Write a journal over the one that we know. `version`: the resourceVersion of our last write; with it the journal is not read first, unless it changed since.

        A journal that somebody deleted is made again; one that somebody edited is put right: the writer holds the fence, and knows. Raise FencedError when a later
        holder wrote to it.
        """
        path, collection, wanted = self.path(after.release_id), self._kind.path(self._namespace), self.document(after)
        noted: list[str] = []

        def over(version: str) -> str:
            metadata = {"labels": wanted["metadata"]["labels"], "resourceVersion": version}
            return _version_of(self._client.merge(path, {"metadata": metadata, "data": wanted["data"]}))

        def once() -> str:
            try:
                current = self._client.get(path)
            except MissingError:
                if before is not None:
                    noted.append("somebody deleted the journal; it was made again")
                return _version_of(self._client.create(collection, wanted))
            stored = (current.get("data") or {}).get(_DATA)
            if stored == wanted["data"][_DATA] and current["metadata"].get("labels") == wanted["metadata"]["labels"]:
                return _version_of(current)
            self._compare(current, before, after, noted)
            return over(_version_of(current))

        if version:
            # Whatever is in the way, or whether it was written at all, the reading tells.
            with suppress(ExistsError, MissingError, TemporaryError):
                return Written("", over(version))

        retrying = Retrying(
            retry=retry_if_exception_type((ExistsError, TemporaryError)),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random(0.1, 0.6),
            reraise=True,
        )
        try:
            version = retrying(once)
        except ExistsError as error:
            raise TemporaryError(
                "write the journal", path, f"it changed under each of {_ATTEMPTS} writes: {error.found}"
            ) from error
        return Written(noted[0] if noted else "", version)

    def _compare(self, current: Document, before: Journal | None, after: Journal, noted: list[str]) -> None:
        """Raise FencedError when a later holder wrote; note when what is stored is neither what we know nor what we write."""
        try:
            stored = self.parse(current)
        except IntegrityError:
            noted.append("somebody edited the journal; it was put right")
            return
        ours = after.entries[-1].fence
        later = next((one for one in stored.entries if one.fence > ours), None)
        if later is not None:
            raise FencedError(
                f"write the journal for {after.entries[-1].holder}",
                self.path(after.release_id),
                f"{later.holder} wrote to it under number {later.fence}, and ours is {ours}",
                "A later release or recovery took over: look at its run",
            )
        if before is None or stored != before:
            noted.append("somebody set the journal back to an older state; it was put right")


class KeptJournal:
    """A journal that this process writes. Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside."""

    def __init__(
        self,
        release: Release,
        journal: Journal,
        keys: Sequence[SigningKey],
        fence: Fence,
        *,
        clock: Clock = utc_now,
        stored: bool = False,
    ) -> None:
        self.journal, self.fence = journal, fence
        self.noted: list[str] = []
        self._release, self._keys, self._clock = release, tuple(keys), clock
        self._stored: Journal | None = journal if stored else None
        self._version = ""

    def append(
        self, client: KubernetesClient, event: Event, step: str = "", facts: dict[str, str | int] | None = None
    ) -> None:
        """Add an entry and write it. Raise FencedError when a later holder wrote, TemporaryError when the API server stays away."""
        wanted = with_entry(
            without_repeats(self.journal) if event == "intent" else self.journal,
            self._keys[0],
            at=self._clock(),
            fence=self.fence.number,
            holder=self.fence.holder,
            event=event,
            step=step,
            facts=facts,
        )
        journals = Journals(client, self._release, self.journal.environment, self._keys)
        written = journals.write(self._stored, wanted, self._version)
        if written.note:
            logger.warning("journal of %s: %s", wanted.release_id, written.note)
            self.noted.append(written.note)
        self.journal = self._stored = wanted
        self._version = written.version

    def close(self, client: KubernetesClient, outcome: Outcome, facts: dict[str, str | int] | None = None) -> None:
        """Write that it came to its end, and how."""
        self.append(client, "closed", facts={"outcome": outcome, **(facts or {})})
