"""The migration's Job as a document, its settings, and its window."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import ConfigurationError
from core.migration_job import HOLDS, MigrationOrder, document_digest, job_document, job_name
from core.migration_window import may_start
from tests.fix_migration import settings

BERLIN = ZoneInfo("Europe/Berlin")


ORDER = MigrationOrder(
    release="r1",
    environment="lab",
    namespace="production",
    attempt=2,
    image="registry.example.com/migrate@sha256:1",
    lock_timeout_ms=500,
    settings=settings(),
)


def document(
    template: dict[str, Any] | None = None, *, command: tuple[str, ...] = (), **changed: Any
) -> dict[str, Any]:
    return job_document(replace(ORDER, template=template, command=command, settings=settings(**changed)))


def template(**container: Any) -> dict[str, Any]:
    one = {"name": "knex", "image": "old", "command": ["npm"], "args": ["run", "$(WHAT)"], **container}
    return {
        "kind": "Job",
        "metadata": {"name": "x", "labels": {"team": "a"}},
        "spec": {"ttlSecondsAfterFinished": 5, "backoffLimit": 6, "template": {"spec": {"containers": [one]}}},
    }


def containers(made: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made["spec"]["template"]["spec"]["containers"]
    return found


def env(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value") or one["valueFrom"] for one in container["env"]}


def test_the_job_runs_once_and_is_kept() -> None:
    spec = document(template())["spec"]
    assert (spec["backoffLimit"], spec["template"]["spec"]["restartPolicy"], spec["activeDeadlineSeconds"]) == (
        0,
        "Never",
        300 + 60 + 1800,
    )
    assert "ttlSecondsAfterFinished" not in spec


def test_the_same_order_makes_the_same_document_and_another_one_another_digest() -> None:
    made = document()
    assert made == document()
    assert made["metadata"]["annotations"]["nightshift.dev/document-sha256"] == document_digest(made)
    assert document_digest(made) != document_digest(document(command=("other",)))
    assert made["metadata"]["name"] == "nightshift-migrate-r1-2"
    assert made["metadata"]["labels"]["nightshift.dev/environment"] == "lab"


def test_the_migrations_sessions_get_lock_timeout_and_a_name_and_the_lock_another() -> None:
    migrates, holds = containers(document(lock_secret_key="direct"))
    assert env(migrates) == {
        "PGOPTIONS": "-c lock_timeout=500 -c application_name=nightshift-migrate-r1-2",
        "DATABASE_URL": {"secretKeyRef": {"name": "database", "key": "url"}},
    }
    assert holds["name"] == HOLDS
    assert env(holds) == {
        "PGAPPNAME": "nightshift-migrate-r1-2-lock",
        "DATABASE_URL": {"secretKeyRef": {"name": "database", "key": "direct"}},
    }
    assert env(containers(document(named_by="PGAPPNAME"))[0])["PGAPPNAME"] == "nightshift-migrate-r1-2"


def test_a_template_keeps_what_is_its_own() -> None:
    given_env = [{"name": "PGOPTIONS", "value": "-c search_path=app"}, {"name": "NODE_ENV", "value": "production"}]
    made = document(template(env=given_env, resources={"limits": {"memory": "1Gi"}}), command=("true",))
    migrates, holds = containers(made)
    assert (migrates["name"], migrates["image"], migrates["resources"]) == (
        "knex",
        "registry.example.com/migrate@sha256:1",
        {"limits": {"memory": "1Gi"}},
    )
    assert env(migrates)["PGOPTIONS"].startswith("-c search_path=app -c lock_timeout=500 ")
    assert "PGOPTIONS" not in env(holds)
    assert env(holds)["NODE_ENV"] == "production"
    assert made["metadata"]["labels"]["team"] == "a"


def test_a_command_of_ours_reaches_the_container_as_it_is_and_the_templates_as_kubernetes_has_it() -> None:
    # The kubelet replaces $(NAME) and takes $$ for $.
    assert containers(document(command=("sh", "-c", "echo $$ $(HOME)")))[0]["args"][2:] == [
        "sh",
        "-c",
        "echo $$$$ $$(HOME)",
    ]
    by_template = settings().model_copy(update={"command": ()})
    made = job_document(replace(ORDER, settings=by_template, template=template()))
    assert containers(made)[0]["args"][2:] == ["npm", "run", "$(WHAT)"]
    with pytest.raises(ConfigurationError, match="which command migrates"):
        job_document(replace(ORDER, settings=by_template, template=template(command=None)))
    for container in containers(document()):
        assert "$" not in container["command"][2].replace("$$", "")


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"kind": "Deployment"}, "it is a Deployment"),
        ({"kind": "Job"}, "no spec.template.spec.containers"),
        (template(env=[{"name": "PGOPTIONS", "valueFrom": {}}]), "PGOPTIONS comes from elsewhere"),
        (template(volumeMounts=[{"mountPath": "/nightshift"}]), "nightshift's own"),
        (template(name=HOLDS), "nightshift's own"),
        (
            {"kind": "Job", "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}}},
            "which one migrates",
        ),
        (template(securityContext={"x": 1.5}), "holds no floats"),
    ],
)
def test_a_template_that_no_migration_can_be_made_of_is_refused(wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigurationError, match=found):
        document(wrong)


@given(st.text(min_size=1, max_size=80), st.integers(1, 9999))
def test_a_jobs_name_is_one_of_kubernetes_whatever_the_release_is_called(release: str, attempt: int) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job_name(release, attempt))
    assert len(job_name(release, attempt)) <= 54


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"command": ()}, "command is needed"),
        ({"secret": ""}, "secret is needed"),
        ({"expected_minutes": 40}, "longer than minutes"),
        ({"lock_timeout_ms": 20_000}, "last_lock_timeout_ms is shorter"),
        ({"window": "22:00"}, "two different times"),
        ({"window": "22:00-22:00"}, "two different times"),
        ({"window": "25:00-26:00"}, "two different times"),
        ({"window": "22:00-22:04"}, "never fits"),
        ({"table": "a.b.c"}, "SCHEMA.TABLE"),
        ({"secret": "Not A Name"}, "lower-case letters"),
    ],
)
def test_settings_that_do_not_agree_are_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        settings(**changed)


@pytest.mark.parametrize(
    ("now", "may", "opens"),
    [
        # Winter, UTC+1: the window is 22:00-04:30 local.
        ("2026-01-15T21:00+00:00", True, "2026-01-15T21:00+00:00"),
        ("2026-01-15T20:59+00:00", False, "2026-01-15T21:00+00:00"),
        ("2026-01-16T03:00+00:00", True, "2026-01-16T03:00+00:00"),
        ("2026-01-16T03:01+00:00", False, "2026-01-16T21:00+00:00"),
        # Clocks go forward on 29 March: the window closes at 02:30 UTC, an hour earlier than the day before.
        ("2026-03-29T02:00+00:00", True, "2026-03-29T02:00+00:00"),
        ("2026-03-29T02:01+00:00", False, "2026-03-29T20:00+00:00"),
        # They go back on 25 October: it closes at 03:30 UTC.
        ("2026-10-25T03:00+00:00", True, "2026-10-25T03:00+00:00"),
    ],
)
def test_a_migration_starts_only_when_it_fits_into_the_window(now: str, may: bool, opens: str) -> None:
    answer = may_start(settings(window="22:00-04:30", expected_minutes=30), BERLIN, datetime.fromisoformat(now))
    assert (answer.may_start, answer.opens.isoformat(timespec="minutes")) == (may, opens), answer.sentence


def test_a_window_that_the_change_of_clocks_swallows_opens_the_next_day() -> None:
    answer = may_start(
        settings(window="02:10-03:05", expected_minutes=30), BERLIN, datetime(2026, 3, 28, 23, tzinfo=UTC)
    )
    assert answer.opens.isoformat() == "2026-03-30T00:10:00+00:00"


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants naive bounds
    st.integers(0, 1439),
    st.integers(1, 1439),
    st.integers(1, 60),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_what_may_start_ends_within_the_window_in_real_time(
    now: datetime, begin: int, length: int, expected: int, zone: str
) -> None:
    if expected > length:
        return
    close = (begin + length) % 1440
    window = f"{begin // 60:02d}:{begin % 60:02d}-{close // 60:02d}:{close % 60:02d}"
    chosen = settings(window=window, expected_minutes=expected, minutes=60)
    answer = may_start(chosen, ZoneInfo(zone), now)
    assert answer.opens >= now
    assert answer.may_start == (answer.opens == now)
    assert answer.opens - now < timedelta(days=4)
    assert may_start(chosen, ZoneInfo(zone), answer.opens).may_start
