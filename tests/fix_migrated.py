"""A migration without a database: the Job of a release writes what it applied into a file, and that is what nightshift then reads in place of a server's tables."""

from pathlib import Path

import pytest

from core.fence import Document
from core.migration_outcome import MigrationState
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage


class Migrated:
    """A database with one migration to apply, as a file with a line for each that was. The Jobs of releases write it; children of the test read it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clear()

    def clear(self) -> None:
        self.file.write_text("")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.file.read_text().split())

    def run(self, job: Document, log: object) -> bool:  # noqa: ARG002 - as controllers.script calls it
        with self.file.open("a") as file:
            file.write("add_orders\n")
        return True

    def state(self, *_arguments: object, **_named: object) -> MigrationState:
        """In place of what a database would tell."""
        names = self.names
        return MigrationState(
            table_exists=True, names=names, locked=False, invalid_indexes=(), fingerprint=f"{len(names):064}"
        )


@pytest.fixture
def migrated(stage: Stage, kubernetes: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrated:
    """The stage migrates: a Job of the new version's image, before it is rolled out."""
    database = Migrated(tmp_path / "migrated")
    stage.settings["release"] |= {
        "backup": False,
        "migration": {"database": "app", "command": ["migrate"], "secret": "database"},
    }
    kubernetes.put(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database", "namespace": "shop"}, "data": {"url": "eA=="}}
    )  # fmt: skip
    for name in ("read_state", "state_when_quiet"):
        monkeypatch.setattr(f"tasks.migration_steps.{name}", database.state)
    assert kubernetes.controllers is not None
    kubernetes.controllers.script("registry.test/hello", database.run)
    return database
