"""The rules by which a restored copy is compared: sequences, properties, roles, extensions, collations, definitions."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import (
    Collation,
    Column,
    DatabaseProperties,
    DatabaseSetting,
    Extension,
    Manifest,
    ObjectFacts,
    Role,
    Table,
)
from core.manifest import Sequence as SequenceState
from core.object_facts import FORM
from core.restore_record import Restored, Skipped
from core.restored_comparison import (
    ComparisonFinding,
    CopiedTable,
    Verification,
    compare_sequences,
    compare_tables,
    is_behind,
    not_compared,
)
from core.restored_definitions import Definitions, InvalidIndex, compare_definitions
from core.restored_surroundings import compare_collations, compare_extensions, compare_properties, compare_roles
from tests.fix_restored import MARKER, a_part
from tests.fix_streams import manifest_for

RESTORED = Restored(
    backup_id="20260101T000000Z-aaaaaa",
    server="test",
    name="copy",
    oid=1,
    system_identifier="1",
    server_version="16.1",
    server_version_number=160001,
    pg_restore="16.1",
    phases=(),
)
PROPERTIES = DatabaseProperties(
    owner="app owner",
    encoding="UTF8",
    collate="C",
    ctype="C",
    provider="icu",
    locale="en_US",
    icu_rules=None,
    collation_version="1",
    connection_limit=-1,
    is_template=False,
    allow_connections=True,
    tablespace="pg_default",
    acl=None,
    comment=None,
    settings=(DatabaseSetting(role="", name="work_mem", value="8MB"),),
)


def sequence(last_value: int, is_called: bool = True, increment: int = 1) -> SequenceState:
    return SequenceState(
        schema_name="public", name="s", last_value=last_value, is_called=is_called, increment=increment
    )


def severities(findings: tuple[ComparisonFinding, ...]) -> list[str]:
    return [finding.severity for finding in findings]


@given(st.integers(-5, 5), st.booleans(), st.integers(0, 20), st.sampled_from([-7, -1, 1, 3]))
def test_a_sequence_is_behind_exactly_when_it_would_give_a_value_again(
    start: int, is_called: bool, taken: int, increment: int
) -> None:
    recorded = sequence(start, is_called, increment)
    later = recorded
    for _ in range(taken):
        step = increment if later.is_called else 0
        later = sequence(later.last_value + step, True, increment)
    assert not is_behind(later, recorded)
    assert is_behind(recorded, later) == (later != recorded)


def test_a_sequence_in_other_steps_or_gone_is_a_mismatch() -> None:
    recorded = sequence(10)
    assert severities(compare_sequences([recorded], {}, RESTORED)) == ["mismatch"]
    assert severities(compare_sequences([recorded], {("public", "s"): sequence(50, increment=5)}, RESTORED)) == [
        "mismatch"
    ]
    skipped = RESTORED.model_copy(
        update={"skipped": (Skipped(entry="9; 1259 7 SEQUENCE public s owner", why="extension"),)}
    )
    assert severities(compare_sequences([recorded], {}, skipped)) == ["environment"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("owner", "somebody"),
        ("encoding", "LATIN1"),
        ("collate", "C.UTF-8"),
        ("ctype", "C.UTF-8"),
        ("provider", "libc"),
        ("locale", "de"),
        ("icu_rules", "&a < b"),
        ("connection_limit", 3),
        ("is_template", True),
        ("allow_connections", False),
        ("acl", ('"app owner"=CTc/"app owner"',)),
        ("comment", "another"),
        ("settings", ()),
        ("settings", (DatabaseSetting(role="r", name="work_mem", value="8MB"),)),
        ("settings", (DatabaseSetting(role="", name="work_mem", value="9MB"),)),
    ],
)
def test_each_property_that_differs_is_a_mismatch(name: str, value: object) -> None:
    found = PROPERTIES.model_copy(update={name: value})
    assert set(severities(compare_properties(PROPERTIES, found, {"work_mem"}))) == {"mismatch"}


def test_what_means_the_same_is_no_difference() -> None:
    assert compare_properties(PROPERTIES, PROPERTIES, {"work_mem"}) == ()
    found = PROPERTIES.model_copy(
        update={
            "locale": "en-US",
            "acl": ('"app owner"=CTc/"app owner"', '=Tc/"app owner"'),
            "comment": MARKER,
            "is_template": True,
        }
    )
    assert compare_properties(PROPERTIES, found, {"work_mem"}) == ()


def test_a_parameter_that_this_server_lacks_is_the_environments() -> None:
    found = PROPERTIES.model_copy(update={"settings": ()})
    (finding,) = compare_properties(PROPERTIES, found, ())
    assert (finding.severity, finding.text) == ("environment", "this server has no parameter work_mem")


def test_a_settings_value_is_not_told() -> None:
    found = PROPERTIES.model_copy(update={"settings": (DatabaseSetting(role="", name="work_mem", value="hidden"),)})
    (finding,) = compare_properties(PROPERTIES, found, {"work_mem"})
    assert finding.text == "setting work_mem has another value"


def test_versions_and_places_are_the_servers() -> None:
    found = PROPERTIES.model_copy(update={"collation_version": "2", "tablespace": "fast"})
    assert severities(compare_properties(PROPERTIES, found, {"work_mem"})) == ["environment", "note"]
    recorded = Extension(name="vector", version="0.7", schema_name="public")
    newer = recorded.model_copy(update={"version": "0.8"})
    assert severities(compare_extensions([recorded], {"vector": newer}, RESTORED)) == ["environment"]
    elsewhere = recorded.model_copy(update={"schema_name": "extensions"})
    assert severities(compare_extensions([recorded], {"vector": elsewhere}, RESTORED)) == ["mismatch"]
    assert severities(compare_extensions([recorded], {}, RESTORED)) == ["mismatch"]
    skipped = RESTORED.model_copy(update={"skipped": (Skipped(entry="2; 3079 16386 EXTENSION - vector ", why="no"),)})
    assert severities(compare_extensions([recorded], {}, skipped)) == ["environment"]
    assert severities(compare_extensions([], {"vector": recorded}, RESTORED)) == ["note"]


def test_collations_differ_in_kind_or_in_version() -> None:
    recorded = Collation(schema_name="public", name="c", provider="icu", deterministic=True, version="1")
    name = ("public", "c")
    assert compare_collations([recorded], {name: recorded}) == ()
    assert severities(compare_collations([recorded], {})) == ["mismatch"]
    assert severities(compare_collations([recorded], {name: recorded.model_copy(update={"deterministic": False})})) == [
        "mismatch"
    ]
    assert severities(compare_collations([recorded], {name: recorded.model_copy(update={"version": "2"})})) == [
        "environment"
    ]


def test_roles_are_told_and_never_a_mismatch() -> None:
    role = Role(name="app", login=True, superuser=False)
    assert compare_roles([role], {"app": role}, ()) == ()
    assert severities(compare_roles([role], {}, ())) == ["environment"]
    other = {"app": role.model_copy(update={"login": False, "superuser": True})}
    (finding,) = compare_roles([role], other, ())
    assert finding.text == "role app was on this server before, and is NOLOGIN, SUPERUSER here"
    assert compare_roles([role], other, ("app",)) == ()


def a_manifest(version_number: int = 160001) -> Manifest:
    part = a_part("dump.pgdump", "dump/00000.zst")
    manifest = manifest_for((part,), part, {})
    server = manifest.server.model_copy(update={"version_number": version_number})
    coverage = manifest.coverage.model_copy(update={"expected": 10, "listed": 10})
    return manifest.model_copy(update={"server": server, "coverage": coverage})


NO_FACTS = ObjectFacts(form=FORM, groups=(), not_validated=(), not_enforced=(), invalid_indexes=())


def facts(**more: object) -> ObjectFacts:
    return NO_FACTS.model_copy(update=more)


def definitions(**more: object) -> Definitions:
    fields: dict[str, object] = {
        "server_version_number": 160004,
        "fingerprint": a_manifest().schema_fingerprint,
        "objects": 10,
        "invalid_indexes": (),
        "facts": NO_FACTS,
    }
    return Definitions.model_validate(fields | more)


def test_definitions_must_be_the_same_on_the_same_major() -> None:
    assert compare_definitions(a_manifest(), RESTORED, definitions()) == ()
    assert severities(compare_definitions(a_manifest(), RESTORED, definitions(fingerprint="f" * 64))) == ["mismatch"]
    assert severities(compare_definitions(a_manifest(), RESTORED, definitions(objects=11))) == ["mismatch"]
    assert severities(compare_definitions(a_manifest(), RESTORED, definitions(objects=9))) == ["mismatch"]


def test_a_dump_with_gaps_is_never_proven_though_the_copy_has_all_that_the_dump_had() -> None:
    manifest = a_manifest()
    gap = manifest.coverage.model_copy(update={"missing": ("FUNCTION public.total()",)})
    found = compare_definitions(manifest.model_copy(update={"coverage": gap}), RESTORED, definitions(objects=9))
    assert severities(found) == ["mismatch"]
    assert found[0].text == "the dump lacks what the database had: FUNCTION public.total()"


def test_another_major_may_print_definitions_otherwise_but_loses_none() -> None:
    older = a_manifest(150004)
    assert severities(compare_definitions(older, RESTORED, definitions(fingerprint="f" * 64))) == ["note"]
    assert severities(compare_definitions(older, RESTORED, definitions(objects=11))) == ["note"]
    assert severities(compare_definitions(older, RESTORED, definitions(objects=9))) == ["mismatch"]


def test_a_part_has_not_all_definitions() -> None:
    part = RESTORED.model_copy(update={"partial": True})
    found = definitions(fingerprint="f" * 64, objects=3, facts=facts(not_validated=("public.t.c",)))
    assert set(severities(compare_definitions(a_manifest(), part, found))) == {"note"}


@pytest.mark.parametrize("same_definitions", [True, False])
def test_what_no_dump_could_make_invalid_is_a_mismatch_whatever_the_fingerprint(same_definitions: bool) -> None:
    plain = InvalidIndex(name="public.i", partitioned=False, complete=False)
    complete = InvalidIndex(name="public.p", partitioned=True, complete=True)
    waiting = InvalidIndex(name="public.w", partitioned=True, complete=False)
    found = definitions(invalid_indexes=(plain, complete, waiting), facts=facts(not_validated=("public.t.c",)))
    if not same_definitions:
        found = found.model_copy(update={"fingerprint": "f" * 64})
    told = {
        finding.text.split(";")[0].split(",")[0]: finding.severity
        for finding in compare_definitions(a_manifest(), RESTORED, found)
        if finding.kind in {"indexes", "constraints"}
    }
    as_source = "note" if same_definitions else "mismatch"
    assert told == {
        "index public.i is not valid": "mismatch",
        "index public.p is not valid": "mismatch",
        "index public.w is not valid": as_source,
        "constraint public.t.c is not validated": as_source,
    }


@pytest.mark.parametrize("version_number", [150004, 160001])
def test_states_that_were_recorded_are_compared_exactly_on_every_major(version_number: int) -> None:
    waiting = [InvalidIndex(name=f"public.{name}", partitioned=True, complete=False) for name in ("old", "new")]
    recorded = facts(not_validated=("public.t.gone", "public.t.old"), invalid_indexes=("public.old",))
    manifest = a_manifest(version_number).model_copy(update={"objects": recorded})
    found = definitions(
        fingerprint="f" * 64, invalid_indexes=waiting, facts=facts(not_validated=("public.t.new", "public.t.old"))
    )
    told = {
        finding.text: finding.severity
        for finding in compare_definitions(manifest, RESTORED, found)
        if finding.kind in {"indexes", "constraints"}
    }
    assert told == {
        "index public.old is not valid, as in the source": "note",
        "index public.new is not valid; in the source it was": "mismatch",
        "constraint public.t.new is not validated; in the source it was": "mismatch",
        "constraint public.t.old is not validated, as in the source": "note",
        "constraint public.t.gone is validated in the copy or missing; in the source it was not validated": "mismatch",
    }
    part = RESTORED.model_copy(update={"partial": True})
    told = {finding.text: finding.severity for finding in compare_definitions(manifest, part, found)}
    assert told["index public.new is not valid; in the source it was"] == "note"
    assert told["constraint public.t.new is not validated; in the source it was"] == "mismatch"
    assert not any("public.t.gone" in text for text in told)


def test_a_standbys_dump_has_no_unlogged_tables_to_miss() -> None:
    table = Table(
        oid=1,
        schema_name="public",
        name="t",
        owner="o",
        persistence="permanent",
        columns=(Column(name="a", type="integer", hashed_as="native"),),
        mode="full",
        rows=0,
        digest="0",
        digest_sql="SELECT",
        size_bytes=0,
        counters={},
    )
    copies = [
        CopiedTable(
            schema_name="public",
            name=name,
            owner="o",
            persistence=persistence,
            columns=(("a", "integer"),),
            of_extension=False,
        )
        for name, persistence in (("t", "permanent"), ("u", "unlogged"))
    ]
    assert compare_tables([table], [table], copies, in_recovery=True) == ()
    assert severities(compare_tables([table], [table], copies, in_recovery=False)) == ["mismatch"]


def test_what_could_not_be_looked_at_never_matches() -> None:
    unseen = ComparisonFinding(kind="not looked at", severity="environment", text="public.t could not be read")
    other = ComparisonFinding(kind="roles", severity="environment", text="role r is missing")
    assert not Verification(tables_compared=1, rows=1, findings=(unseen,)).matches
    assert Verification(tables_compared=1, rows=1, findings=(other,)).matches


def test_tables_that_nobody_compares_are_named() -> None:
    tables = [SimpleNamespace(mode=mode, qualified=f"public.{mode}") for mode in ("full", "counts", "off")]
    off, counts = sorted(not_compared(tables), key=lambda one: one.text)  # type: ignore[arg-type]
    assert "neither rows nor content were compared (digests = off): public.off" in off.text
    assert "the content was not compared (digests = counts): public.counts" in counts.text
    assert severities((off, counts)) == ["environment", "environment"]
    assert not_compared(tables[:1]) == ()  # type: ignore[arg-type]
