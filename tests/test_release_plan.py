"""A plan names itself by its hash, a workload is only changed from what the plan found, and what is live already is known as that."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.canonical import canonical_bytes, sha256_hex
from core.environment_release import Release
from core.frontend import FrontendPlan
from core.image_reference import shortened
from core.release_plan import (
    COMMIT,
    MigrationPlan,
    ReleasePlan,
    SidesPlan,
    Target,
    images_of,
    release_id_of,
    template_of,
    with_images,
)
from core.release_plan_text import approval_text, plan_rows
from core.release_settings import planned_settings
from core.rollout_change import ForeignChangeError, suspend_change, template_change
from core.traffic import Side
from tests.fix_kubernetes_patch import merged

OLD, NEW = "registry.test/hello@sha256:" + "1" * 64, "registry.test/hello@sha256:" + "2" * 64
COMMITS = st.sampled_from(["1" * 40, "2" * 40, ""])


def template(image: str = OLD, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "hello"}},
        "spec": {"containers": [{"name": "hello", "image": image}], **more},
    }


def target(before: dict[str, Any] | None = None, after: dict[str, Any] | None = None, **changed: Any) -> Target:
    given = {
        "key": "hello",
        "kind": "Deployment",
        "name": "hello",
        "role": "api",
        "containers": ("hello",),
        "commit_before": "1" * 40,
    }
    return Target.model_validate({**given, "before": before or template(), "after": after or template(NEW), **changed})  # fmt: skip


def plan(**changed: Any) -> ReleasePlan:
    given = {
        "environment": "stage",
        "release_id": "r-1",
        "strategy": "rolling",
        "namespace": "shop",
        "commit": "2" * 40,
        "image": NEW,
        "requested_by": "Ada",
        "schema_compatibility": "backward",
        "targets": (target(),),
    }
    return ReleasePlan.model_validate({**given, **changed})


SIDES = SidesPlan(
    workload="hello",
    live_name="hello",
    following_name="hello-blue",
    service="hello",
    live=Side(name="live", service="hello", port=80, selector={"app": "hello"}),
    following=Side(name="blue", service="hello-blue", port=80, selector={"app": "hello"}),
    adopt=True,
    shares=(10, 100),
)
CHANGES: dict[str, Any] = {
    "settings": {"sha256": "0" * 64, "told": "asks nobody"},
    "environment": "production",
    "release_id": "r-2",
    "strategy": "blue-green",
    "namespace": "other",
    "commit": "3" * 40,
    "image": OLD,
    "requested_by": "Bob",
    "schema_compatibility": "breaking",
    "targets": (target(suspended=True),),
    "sides": SIDES,
    "migration": MigrationPlan(database="app", image=NEW),
    "backup": ("app",),
    "config_copies": {"settings": "settings-1"},
    "secrets": {"database": "7"},
    "waived": {"documentation": "a hotfix"},
    "frontend": FrontendPlan(project="prj_1", domains=("app.shop.test",), deployment="dpl_2", url="", before="dpl_1"),
}


def test_every_field_of_a_plan_is_in_its_hash() -> None:
    assert set(CHANGES) == set(ReleasePlan.model_fields) - {"format"}
    hashes = {plan().sha256, *(plan(**{name: value}).sha256 for name, value in CHANGES.items())}
    assert len(hashes) == len(CHANGES) + 1


@pytest.mark.parametrize(
    "changed",
    [
        {"before": template("other")},
        {"after": template("other")},
        {"before": template(terminationGracePeriodSeconds=31)},
        {"commit_before": "9" * 40},
        {"containers": ("hello", "other")},
        {"name": "hello-blue"},
        {"role": "worker"},
    ],
)
def test_every_part_of_a_workload_is_in_the_hash(changed: dict[str, Any]) -> None:
    assert plan(targets=(target(**changed),)).sha256 != plan().sha256


def test_a_plan_that_was_kept_and_read_again_has_the_same_hash_whatever_the_order_of_its_keys() -> None:
    found = plan(config_copies={"a": "1", "b": "2"}, sides=SIDES)
    assert ReleasePlan.model_validate_json(found.model_dump_json()).sha256 == found.sha256
    assert plan(config_copies={"b": "2", "a": "1"}, sides=SIDES).sha256 == found.sha256


@given(
    before=st.lists(st.tuples(st.sampled_from([OLD, NEW]), COMMITS), min_size=1, max_size=4),
    commit=COMMITS.filter(bool),
)
def test_what_is_live_already_is_so_with_every_workload_at_this_image_and_commit(
    before: list[tuple[str, str]], commit: str
) -> None:
    targets = tuple(target(template(image), commit_before=noted) for image, noted in before)
    wanted = all(image == NEW and noted == commit for image, noted in before)
    assert plan(targets=targets, commit=commit).is_live_already == wanted


def test_an_image_of_a_container_that_is_not_released_does_not_keep_a_release_from_being_live() -> None:
    def with_side_car(image: str) -> dict[str, Any]:
        found = template(NEW)
        found["spec"]["containers"].append({"name": "proxy", "image": image})
        return found

    one = target(with_side_car("proxy:1"), with_side_car("proxy:2"), commit_before="2" * 40)
    assert plan(targets=(one,)).is_live_already
    released = target(with_side_car("proxy:1"), with_side_car("proxy:2"), commit_before="2" * 40, containers=("hello", "proxy"))  # fmt: skip
    assert not plan(targets=(released,)).is_live_already


@given(st.uuids())
def test_a_run_that_is_begun_again_is_the_same_release(run_id: Any) -> None:
    assert release_id_of(str(run_id)) == release_id_of(str(run_id))
    assert len(release_id_of(str(run_id))) == 14


def test_images_are_changed_where_they_are_named_and_nowhere_else() -> None:
    found = template()
    found["spec"]["initContainers"] = [{"name": "prepare", "image": OLD}, {"name": "other", "image": OLD}]
    changed = with_images(found, ("hello", "prepare"), NEW)
    assert images_of(changed) == {"prepare": NEW, "other": OLD, "hello": NEW}
    assert images_of(found) == {"prepare": OLD, "other": OLD, "hello": OLD}
    with pytest.raises(ValueError, match="no container missing; it has hello, other, prepare"):
        with_images(found, ("missing",), NEW)


# Changing a workload

extras = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 3) | st.none().map(lambda _: {"x": 1}), max_size=3)  # fmt: skip


def deployment(found: dict[str, Any], commit: str, kind: str = "Deployment") -> dict[str, Any]:
    metadata = {"annotations": {COMMIT: commit}} if commit else {}
    spec = {"template": found}
    return {"metadata": metadata, "spec": {"jobTemplate": {"spec": spec}} if kind == "CronJob" else spec}


@given(
    before=extras,
    after=extras,
    stands=st.booleans(),
    forward=st.booleans(),
    noted=COMMITS,
    kind=st.sampled_from(["Deployment", "CronJob"]),
)
def test_from_either_template_the_change_leads_to_the_wanted_one_and_then_there_is_nothing_left(  # noqa: PLR0917
    before: dict[str, Any], after: dict[str, Any], stands: bool, forward: bool, noted: str, kind: str
) -> None:
    one = target(template(**before), template(NEW, **after), kind=kind)
    document = deployment(one.after if stands else one.before, noted, kind)
    patch = template_change(document, one, forward=forward, commit="2" * 40, on="it")
    changed = merged(document, patch or {})
    assert template_of(changed) == (one.after if forward else one.before)
    assert changed["metadata"].get("annotations", {}).get(COMMIT) == ("2" * 40 if forward else one.commit_before)
    assert template_change(changed, one, forward=forward, commit="2" * 40, on="it") is None


@given(before=extras, after=extras, current=extras, forward=st.booleans())
def test_a_template_that_is_neither_is_never_overwritten(
    before: dict[str, Any], after: dict[str, Any], current: dict[str, Any], forward: bool
) -> None:
    one = target(template(**before), template(NEW, **after))
    found = template("registry.test/hello@sha256:" + "3" * 64, **current)
    with pytest.raises(ForeignChangeError, match=r"container hello runs registry[.]test/hello@sha256:333"):
        template_change(deployment(found, ""), one, forward=forward, commit="2" * 40, on="it")


def test_a_foreign_change_of_a_field_names_the_field() -> None:
    found = template(terminationGracePeriodSeconds=5)
    with pytest.raises(ForeignChangeError, match=r"spec\.terminationGracePeriodSeconds of its template changed"):
        template_change(deployment(found, ""), target(), forward=True, commit="2" * 40, on="it")


@pytest.mark.parametrize("now", [None, False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_a_cron_job_is_suspended_or_let_go_on_only_where_it_is_not_so(now: bool | None, wanted: bool) -> None:
    document = {"spec": {} if now is None else {"suspend": now}}
    patch = suspend_change(document, suspended=wanted)
    assert patch == (None if bool(now) == wanted else {"spec": {"suspend": wanted}})


def settings(**changed: Any) -> Release:
    given = {"namespace": "shop", "repository": "registry.test/hello", "workloads": [{"name": "hello"}]}
    return Release.model_validate({**given, **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"settle_seconds": 0},
        {"drain_seconds": 0},
        {"keep_full_minutes": 0},
        {"approval": False},
        {"backup": False},
        {"gates": {"error_ratio_max": 0.5}},
        {"gates": {"metrics": False}},
        {"traffic": {"kind": "service", "name": "hello", "soak_seconds": 0}},
        {"checks": {"staging": {"namespace": "staging"}}},
        {"migration": {"database": "app", "command": ["migrate"], "secret": "url", "minutes": 31}},
        {"tracked_by_allowed": ["helm"]},
    ],
)
def test_a_setting_that_decides_how_a_release_is_carried_out_makes_another_plan(changed: dict[str, Any]) -> None:
    before, after = (plan(settings=planned_settings(settings(**given), "blue-green")) for given in ({}, changed))
    assert before.sha256 != after.sha256


def test_what_decides_nothing_once_the_plan_is_made_leaves_its_hash() -> None:
    others = settings(approval_hours=1, registry={"kind": "none"})
    assert planned_settings(others, "rolling") == planned_settings(settings(), "rolling")


def test_a_plan_that_was_kept_before_settings_were_in_it_has_the_hash_that_it_had() -> None:
    kept = plan().model_dump(mode="json", exclude={"settings", "frontend"})
    assert ReleasePlan.model_validate(kept).sha256 == sha256_hex(canonical_bytes(kept))


def test_the_plan_tells_the_settings_that_a_person_approves() -> None:
    traffic = {"kind": "httproute", "name": "hello", "soak_seconds": 90, "steps": [20, 100]}
    made = plan(settings=planned_settings(settings(traffic=traffic, drain_seconds=7), "blue-green"))
    told = dict(plan_rows(made))["settings"]
    assert "steps 20 %, 100 %, each soaks 90 s; drain 7 s" in told
    assert "gates by health alone, no metrics" in told


def test_whoever_approves_reads_what_was_found_and_what_nobody_looked_at_as_lists() -> None:
    checks = [
        {"check": "image", "state": "passed", "found": NEW},
        {"check": "ci", "state": "not-configured", "found": "nobody asked GitHub about the commit"},
        {"check": "documentation", "state": "waived", "found": "no line of it; a hotfix"},
        {"check": "scan", "state": "not-configured", "found": "nobody asked for a security scan"},
    ]
    text = approval_text(plan(), checks)
    # The dialog cuts a table's last column off.
    assert "|---" not in text
    lines = text[text.index("**Checklist**") :].splitlines()
    assert lines[2:5] == [
        "- documentation: **waived**: no line of it; a hotfix",
        f"- image: passed: {shortened(NEW)}",
        "- not looked at: ci (nobody asked GitHub about the commit); scan (nobody asked for a security scan)",
    ]
