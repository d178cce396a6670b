"""What a rehearsal of application state compares: nothing that was there all the time may be missing, nothing may come from nowhere, and the rest is explained."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.environment_restore import AppState
from core.errors import ConfigurationError
from core.state_comparison import (
    REHEARSED,
    Inventory,
    KindComparison,
    Listed,
    compare_state,
    comparison_findings,
    counts,
    services_that_reach_out,
    why_left_out,
)
from core.state_facts import app_state_of

ASKED = datetime(2026, 11, 22, 3, 0, 0, tzinfo=UTC)
OLD, NEW = ASKED - timedelta(days=1), ASKED + timedelta(seconds=5)


def inventory(**created: datetime) -> Inventory:
    return Inventory(namespace="staging", listed=(Listed(kind="configmaps", objects=created),))


def compare(before: Inventory | None, after: Inventory, restored: Inventory) -> KindComparison:
    (compared,) = compare_state(before, after, restored, ASKED, ["configmaps"])
    return compared


def test_a_namespace_that_nobody_touched_is_the_same() -> None:
    there = inventory(a=OLD, b=OLD)
    compared = compare(there, there, inventory(a=NEW, b=NEW))
    assert compared.matches
    assert (compared.before, compared.after, compared.restored) == (2, 2, 2)
    assert comparison_findings("staging", [compared]) == ()


def test_what_was_there_all_the_time_and_is_not_restored_is_an_error_by_name() -> None:
    there = inventory(a=OLD, b=OLD)
    compared = compare(there, there, inventory(a=NEW))
    assert compared.missing == ("b",)
    (finding,) = comparison_findings("staging", [compared])
    assert finding.severity == "error"
    assert "1 configmaps of the backup is missing in the restored copy: b" in finding.text


def test_what_came_from_nowhere_is_an_error() -> None:
    there = inventory(a=OLD)
    compared = compare(there, there, inventory(a=NEW, stranger=NEW))
    assert (compared.matches, compared.unexpected) == (False, ("stranger",))


@pytest.mark.parametrize("restored", [inventory(a=NEW), inventory(a=NEW, came=NEW, went=NEW)])
def test_what_came_or_went_during_the_backup_may_be_in_it_or_not_and_is_named(restored: Inventory) -> None:
    compared = compare(inventory(a=OLD, went=OLD), inventory(a=OLD, came=NEW), restored)
    assert compared.matches
    assert compared.changed == ("came", "went")
    assert [finding.severity for finding in comparison_findings("staging", [compared])] == ["note"]


def test_what_was_deleted_and_made_again_during_the_backup_may_be_missing() -> None:
    compared = compare(inventory(a=OLD, b=OLD), inventory(a=OLD, b=NEW), inventory(a=NEW))
    assert compared.matches


def test_without_the_first_look_a_stranger_is_named_and_no_error_but_a_missing_one_still_is() -> None:
    compared = compare(None, inventory(a=OLD, b=OLD), inventory(b=NEW, stranger=NEW))
    assert (compared.before, compared.missing, compared.unexpected, compared.changed) == (
        None,
        ("a",),
        (),
        ("stranger",),
    )


def test_a_rehearsal_of_nothing_proves_nothing() -> None:
    (finding,) = comparison_findings("staging", [compare(inventory(), inventory(), inventory())])
    assert finding.severity == "error"
    assert "proves nothing" in finding.text


names = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([OLD, NEW]))


@given(before=st.none() | names, after=names, restored=names)
def test_every_name_is_accounted_for_once(
    before: dict[str, datetime] | None, after: dict[str, datetime], restored: dict[str, datetime]
) -> None:
    first = None if before is None else inventory(**before)
    compared = compare(first, inventory(**after), inventory(**restored))
    told = [*compared.missing, *compared.unexpected, *compared.changed]
    assert len(told) == len(set(told))
    steady = {name for name, created in after.items() if created < ASKED}
    # What is not told of was there all the time and came back.
    assert {*(before or {}), *after, *restored} - set(told) == steady & set(restored)
    assert compared.matches == (
        steady <= set(restored) and (before is None or not set(restored) - set(after) - set(before))
    )


@pytest.mark.parametrize(
    ("kind", "metadata", "counted"),
    [
        ("configmaps", {"name": "settings"}, True),
        ("configmaps", {"name": "kube-root-ca.crt"}, False),
        ("secrets", {"name": "kube-root-ca.crt"}, True),
        ("serviceaccounts", {"name": "default"}, False),
        ("secrets", {"name": "a", "labels": {"velero.io/exclude-from-backup": "true"}}, False),
        ("secrets", {"name": "a", "deletionTimestamp": "2026-11-22T03:00:00Z"}, False),
        ("resourcequotas", {"name": "q", "labels": {"app.kubernetes.io/managed-by": "nightshift"}}, True),
        (
            "resourcequotas",
            {"name": "q", "labels": {"app.kubernetes.io/managed-by": "nightshift", "nightshift.dev/run": "1"}},
            False,
        ),
    ],
)
def test_what_takes_part(kind: str, metadata: dict[str, object], counted: bool) -> None:
    assert counts(kind, metadata) is counted


@pytest.mark.parametrize(
    "kind",
    [
        "ingresses.networking.k8s.io",
        "httproutes.gateway.networking.k8s.io",
        "jobs.batch",
        "pods",
        "persistentvolumeclaims",
        "certificates.cert-manager.io",
    ],
)
def test_what_could_act_outside_of_the_scratch_namespace_is_left_out_with_the_reason(kind: str) -> None:
    assert kind not in REHEARSED
    assert why_left_out(kind, ())


def test_what_the_environment_excludes_from_the_backup_is_not_missed_after_a_restore() -> None:
    assert why_left_out("secrets", ()) == ""
    assert "excluded_kinds" in why_left_out("secrets", ("secrets",))
    assert "excluded_kinds" in why_left_out("deployments.apps", ("deployments",))


def test_services_whose_copy_would_get_a_load_balancer_or_a_dns_name_are_found() -> None:
    def service(name: str, kind: str = "ClusterIP", **annotations: str) -> dict[str, object]:
        return {"metadata": {"name": name, "annotations": annotations}, "spec": {"type": kind}}

    named = service("named", **{"external-dns.alpha.kubernetes.io/hostname": "x.example.com"})
    assert services_that_reach_out([service("api"), service("public", "LoadBalancer"), named]) == ("public", "named")


@pytest.mark.parametrize("scratch", ["staging", "velero", "kube-system", "default"])
def test_a_scratch_namespace_that_is_in_use_is_refused(scratch: str) -> None:
    with pytest.raises(ConfigurationError, match="a rehearsal removes it"):
        app_state_of("staging", AppState(namespaces=("staging",), drill_namespace=scratch))
