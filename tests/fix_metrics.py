"""An environment whose bucket holds backups, reports, releases and watches that were made up, and what `nightshift metrics` tells of it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from prometheus_client.parser import text_string_to_metric_families

from core.evidence import Report, Step
from core.keys import release_closed_key, release_folder, watch_folder
from core.release_journal import Journal, with_entry
from core.watch_counts import BUCKETS
from core.watch_record import DayCounts, WatchEnd, WatchMark, WatchStart, WatchTick
from tasks.evidence import append_report
from tasks.release_records import ClosedRelease
from tasks.sealed import sealed_bytes
from tests.fix_keeping import KEY, Keeping, keeping_at
from tests.fix_object_store import FaultProxy, S3Server
from tests.manifest_facts import SOME_SHA256

Told = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass
class Metered:
    """The environment; `name` is its file's. Times are hours ago."""

    keeping: Keeping
    name: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def ago(self, hours: float) -> datetime:
        """So many hours ago."""
        return self.now - timedelta(hours=hours)

    def ran(
        self,
        flow: str,
        hours: float,
        *,
        states: dict[str, str] | None = None,
        names: dict[str, str] | None = None,
        verdict: str | None = None,
        minutes: float = 3,
        facts: dict[str, Any] | None = None,
        inputs: dict[str, Any] | None = None,
    ) -> Report:
        """Append the report of a run: `states` by subject, `names` of its steps by subject."""
        states = {"app": "passed"} if states is None else states
        steps = tuple(
            Step.model_validate(
                {
                    "name": (names or {}).get(subject, "judge"),
                    "subject": subject,
                    "state": state,
                    "started": self.ago(hours),
                    "duration_ms": 1,
                    "facts": facts or {},
                }
            )
            for subject, state in states.items()
        )
        end = verdict or ("failed" if "failed" in states.values() else "passed")

        def build(sequence: int, previous: str | None) -> Report:
            return Report.model_validate(
                {
                    "sequence": sequence,
                    "previous_sha256": previous,
                    "flow": flow,
                    "environment": self.name,
                    "run_id": "run",
                    "run_name": "quiet-owl",
                    "inputs": inputs or {},
                    "tools": {},
                    "started": self.ago(hours),
                    "finished": self.ago(hours) + timedelta(minutes=minutes),
                    "steps": steps,
                    "verdict": end,
                }
            )

        return append_report(self.keeping.store, self.keeping.environment, self.keeping.keys, build)[1]

    def planned(self, release_id: str) -> None:
        """A release's plan is kept; what it says nobody reads here."""
        self.keeping.store.put(release_folder(self.keeping.environment.prefix, release_id) + "plan-0.json", b"{}")

    def closed(
        self, release_id: str, outcome: str, hours: float, *, kind: str = "release", minutes: float = 20
    ) -> None:
        """A release came to its end."""
        journal = Journal.model_validate(
            {
                "environment": self.name,
                "release_id": release_id,
                "kind": kind,
                "plan_id": release_id,
                "plan_sha256": SOME_SHA256,
                "flow_run_id": "run",
            }
        )
        begun = self.ago(hours) - timedelta(minutes=minutes)
        journal = with_entry(journal, KEY, at=begun, fence=1, holder=release_id, event="opened")
        closed = ClosedRelease.model_validate(
            {
                "environment": self.name,
                "release_id": release_id,
                "outcome": outcome,
                "at": self.ago(hours),
                "journal": journal,
            }
        )
        self.planned(release_id)
        self.keeping.store.put(
            release_closed_key(self.keeping.environment.prefix, release_id), sealed_bytes(closed, KEY)
        )

    def watched(self, release_id: str, verdict: str, hours: float) -> None:
        """The watch of a release ended."""
        end = WatchEnd.model_validate(
            {
                "environment": self.name,
                "release_id": release_id,
                "how": "superseded" if verdict == "superseded" else "the day is over",
                "verdict": verdict,
                "reasons": (),
                "closed": 288,
                "at": self.ago(hours),
                "report": "",
            }
        )
        folder = watch_folder(self.keeping.environment.prefix, release_id)
        self.keeping.store.put(folder + "ended.json", sealed_bytes(end, KEY))

    def watching(
        self, release_id: str, hours: float, *, looked: float | None = 0, known: float = 0, told: tuple[str, ...] = ()
    ) -> str:
        """The watch of a release goes on since so many hours; return its folder.

        It looked last so long ago (None: never), knows all until so long ago, and these marks were made.
        """
        environment, folder = self.name, watch_folder(self.keeping.environment.prefix, release_id)
        whose = {"environment": environment, "release_id": release_id}
        first = self.ago(hours)
        start = WatchStart.model_validate(
            {
                **whose,
                "plan_sha256": SOME_SHA256,
                "image": "registry.test/hello@sha256:1",
                "commit": "2" * 40,
                "namespace": "shop",
                "deployments": ("hello",),
                "old_side": "",
                "released_at": first,
                "first": first,
            }
        )
        self.keeping.store.put(f"{folder}watch.json", sealed_bytes(start, KEY))
        if looked is not None:
            closed, until = (min(BUCKETS, round((hours - one) * 12)) for one in (looked, max(looked, known)))
            counts = np.where(np.arange(BUCKETS) < until, 600.0, np.nan)
            day = DayCounts.of(counts, counts / 100)
            tick = WatchTick.model_validate(
                {
                    **whose,
                    "closed": closed,
                    "at": self.ago(looked),
                    "flow_run_id": "run",
                    "metrics": {"errors": day},
                    "verdict": "insufficient",
                    "reasons": ("errors: 1 release-free days to compare with",),
                }
            )
            self.keeping.store.put(f"{folder}tick-{closed:03d}-{tick.known:03d}.json", sealed_bytes(tick, KEY))
        for what in told:
            mark = WatchMark.model_validate(
                {**whose, "what": what, "at": self.ago(looked or 0), "by": "run", "why": "it is worse"}
            )
            self.keeping.store.put(f"{folder}{what}.json", sealed_bytes(mark, KEY))
        return folder


def drill_facts(outcome: str = "proven", **phases: int) -> dict[str, Any]:
    """What a drill's step `judge` says of the restore; phases in milliseconds."""
    return {
        "restored": {
            "backup_id": "b",
            "server": "scratch",
            "phases": phases or {"fetch": 1500, "restore": 30000},
            "plain_bytes": 32,
            "outcome": outcome,
            "indicative": False,
        }
    }


def told(text: str) -> Told:
    """What a page of metrics tells: (name, labels) → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Told, name: str, **labels: str) -> float | None:
    """The value of a sample; None when there is none."""
    return found.get((f"nightshift_{name}", frozenset(labels.items())))


def names_of(found: Told, environment: str) -> set[str]:
    """The metrics that tell something of an environment."""
    return {name for name, labels in found if ("environment", environment) in labels}


def write_environment(folder: Path, name: str, bucket: str, endpoint: str, **more: Any) -> None:
    """Write an environment's file; its prefix is its name."""
    settings = {
        "store": {
            "bucket": bucket,
            "endpoint_url": endpoint,
            "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
            "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
        },
        "signing": {"key": "env:NIGHTSHIFT_TEST_SIGNING_KEY"},
        "databases": {"app": {"host": "db.internal.example", "name": "app", "user": "backup"}},
        **more,
    }
    (folder / f"{name}.toml").write_text(tomli_w.dumps(settings))


@pytest.fixture
def metered(
    s3_server: S3Server, s3_faults: FaultProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Metered:
    """The environment `local`, read through a proxy that breaks requests as told; its folder of backups is claimed."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "the key that signs in these tests, long enough")
    monkeypatch.setattr("tasks.s3_client.ATTEMPTS", 1)
    write_environment(tmp_path, "local", bucket, s3_faults.endpoint)
    keeping = keeping_at(bucket, s3_server)
    keeping.claim()
    return Metered(keeping, "local")
