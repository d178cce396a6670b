"""How the definitions of a restored database stand against what the manifest recorded: the schema's fingerprint, the number of objects, indexes, constraints.

A manifest has one fingerprint and one number for all definitions' texts. PostgreSQL prints some of them otherwise from one major to the next, so on another major an
equal fingerprint proves that they are the same, and another one nothing. What no major prints otherwise is compared in core.restored_objects, here the states of
constraints and indexes.
"""

from collections.abc import Iterator
from typing import Literal

from core.manifest import Manifest, ObjectFacts, Record
from core.restore_record import Restored
from core.restored_comparison import ComparisonFinding, Kind, Severity

_NAMED = 5


class InvalidIndex(Record):
    """An index that PostgreSQL does not use. `complete`: a partitioned one with a valid index of every partition attached, so it could be valid."""

    name: str
    partitioned: bool
    complete: bool


class Definitions(Record):
    """What was found of the copy's definitions. `objects` are those that a dump of the copy would have to list, roles included."""

    server_version_number: int
    fingerprint: str
    objects: int
    invalid_indexes: tuple[InvalidIndex, ...]
    facts: ObjectFacts


def compare_definitions(manifest: Manifest, restored: Restored, found: Definitions) -> tuple[ComparisonFinding, ...]:
    """Given a manifest, what was restored of it and how the copy's definitions stand, return what differs or cannot be told."""
    whole = not restored.partial and not restored.skipped
    same_major = manifest.server.version_number // 10_000 == found.server_version_number // 10_000
    same = found.fingerprint == manifest.schema_fingerprint
    findings: list[ComparisonFinding] = []

    def add(kind: Kind, severity: Severity, text: str) -> None:
        findings.append(ComparisonFinding(kind=kind, severity=severity, text=text))

    if not same and not whole:
        add("schema", "note", "definitions were not compared: not all entries of the dump were restored")
    elif not same and same_major:
        add("schema", "mismatch", "the schema's fingerprint is another one: a definition differs from the snapshot's")
    elif not same:
        but = "" if manifest.objects is None else "; names, owners, privileges and states were"
        add(
            "schema",
            "note",
            f"texts of definitions were not compared: another major version prints some of them otherwise{but}",
        )
    if (missing := manifest.coverage.missing) and whole:
        named = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
        add("coverage", "mismatch", f"the dump lacks what the database had: {named}")
    recorded = manifest.coverage.expected - len(manifest.coverage.missing)
    if found.objects != recorded and whole:
        severity: Severity = "mismatch" if same_major or found.objects < recorded else "note"
        add("coverage", severity, f"the copy has {found.objects} objects, the dump listed {recorded}")
    return (*findings, *_states(manifest, found, same=same, strict=same_major and whole, whole=whole))


def _states(
    manifest: Manifest, found: Definitions, *, same: bool, strict: bool, whole: bool
) -> Iterator[ComparisonFinding]:
    """Indexes that are not valid, constraints that are not validated."""
    source = _Source(manifest.objects, same=same, strict=strict)
    for index in found.invalid_indexes:
        text = f"index {index.name} is not valid"
        # pg_dump leaves invalid indexes out, but for partitioned ones, which are invalid until each partition's index is attached.
        if not index.partitioned or index.complete:
            yield ComparisonFinding(kind="indexes", severity="mismatch", text=text)
        else:
            # Of a part the indexes of partitions without rows are not there to be attached.
            yield source.judge("indexes", text, index.name, may_become=not whole)
    for name in found.facts.not_validated:
        yield source.judge("constraints", f"constraint {name} is not validated", name)
    if manifest.objects is not None and whole:
        for name in sorted(set(manifest.objects.not_validated) - set(found.facts.not_validated)):
            text = f"constraint {name} is validated in the copy or missing; in the source it was not validated"
            yield ComparisonFinding(kind="constraints", severity="mismatch", text=text)


class _Source:
    """What is known of the source's states: its own lists, or, of a backup from before these were recorded, what equal fingerprints say."""

    def __init__(self, recorded: ObjectFacts | None, *, same: bool, strict: bool) -> None:
        self._same, self._strict = same, strict
        self._states = None
        if recorded is not None:
            self._states = {"indexes": recorded.invalid_indexes, "constraints": recorded.not_validated}

    def judge(
        self, kind: Literal["indexes", "constraints"], text: str, name: str, *, may_become: bool = False
    ) -> ComparisonFinding:
        """Given a state of the copy, tell whether the source had it too. `may_become`: a restore can bring it about by itself."""
        severity: Severity = "note"
        if self._same if self._states is None else name in self._states[kind]:
            text += ", as in the source"
        elif self._states is not None:
            severity = "note" if may_become else "mismatch"
            text += "; in the source it was"
        else:
            # When the fingerprints should be equal and are not, this may be what differs.
            severity = "mismatch" if self._strict else "note"
            text += "; whether it was in the source cannot be told"
        return ComparisonFinding(kind=kind, severity=severity, text=text)
