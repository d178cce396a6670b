"""Everyday use, as a person has it: each flow's form in the browser and what it refuses, runs that are started, approved and cancelled by clicking, and their reports.

`make screenshots` runs these tests and keeps what is seen at some points as pictures for docs/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
import yaml
from playwright.sync_api import Browser, expect
from prefect.client.orchestration import SyncPrefectClient
from prefect.utilities.callables import parameter_schema

from core.release_plan import release_id_of
from deployments.command.deploying import PREFECT_FILE
from deployments.command.prefect_api import server_of
from tests.fix_browser import HEIGHT, WIDTH, Person
from tests.fix_office import PRODUCTION, Office, image_of
from tests.fix_vercel import NEW, OLD, THIRD
from tests.test_prefect_yaml import flow_of
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.services,
    pytest.mark.platform,
    pytest.mark.xdist_group("everyday-use"),
]

ENTRIES: list[dict[str, Any]] = [
    one for one in yaml.safe_load(PREFECT_FILE.read_text())["deployments"] if one["name"] == PRODUCTION
]
ENDED = ("Completed", "Failed", "Crashed", "Cancelled", "RolledBack")
# Flow, switches, texts, the run's name, and part of what it tells at its end. There is no Velero, and nothing that could be undone.
OTHERS: list[tuple[str, tuple[str, ...], dict[str, str], str, str]] = [
    ("app-state-backup", ("dry_run",), {}, "back up the application state of production (dry run)", "velero"),
    ("undo-swap", (), {"restore_id": "1f2e3d4c"}, "undo swap 1f2e3d4c in production", "there is no such restore"),
    ("rollback", ("dry_run",), {"reason": "INC-7"}, "roll production back (dry run)", ""),
    ("release-recovery", (), {}, "recover releases of production", "no release is open"),
]
COMMIT = "3f2a91c" + "0" * 33
SIGNED = {
    "User feedback: what was found": "forum and mail: nobody wrote of it",
    "Support tickets: what was found": "queue SHOP: two, both of deliveries",
    "Issues found, and their resolution": "none",
    "Runbook": "nothing had to be changed",
    "Signed off by": "Grace Hopper",
}


@pytest.fixture(scope="module")
def server(office: Office) -> Iterator[SyncPrefectClient]:
    """A client of the office's server."""
    with server_of(office.platform.running).client() as client:
        yield client


@pytest.fixture(scope="module")
def person(office: Office, browser: Browser) -> Person:
    """Somebody who has signed in."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(60_000)
    signed_in = Person(page, office.platform.prefect.ui_url)
    signed_in.sign_in(office.platform.prefect.auth_string)
    return signed_in


def deployment_of(server: SyncPrefectClient, flow: str) -> str:
    return str(server.read_deployment_by_name(f"{flow}/{PRODUCTION}").id)


def asked_for(server: SyncPrefectClient) -> int:
    """How many runs there are that no schedule made."""
    return len([one for one in server.read_flow_runs(limit=200) if not one.auto_scheduled])


def start(person: Person, server: SyncPrefectClient, flow: str, *switches: str, **texts: str) -> str:
    """Open a deployment's form, fill it in, start it by clicking, and return the run's id; its page is open."""
    person.open_form(deployment_of(server, flow))
    person.fill(**texts)
    for switch in switches:
        person.field(switch).click()
    return person.start()


@pytest.fixture(scope="module")
def backed_up(person: Person, server: SyncPrefectClient) -> str:
    """A nightly backup that somebody started by clicking, to its end; its run's id."""
    run = start(person, server, "nightly-backup")
    person.wait_for_state(*ENDED)
    return run


@pytest.fixture(scope="module")
def drilled(person: Person, server: SyncPrefectClient, backed_up: str) -> str:
    """The drill that proves it; its run's id."""
    run = start(person, server, "dr-drill")
    person.wait_for_state(*ENDED)
    return run


def ask_for_release(person: Person, server: SyncPrefectClient, version: str, frontend: str) -> str:
    """Start a release by clicking, with a front end, and wait until it asks for its approval."""
    person.open_form(deployment_of(server, "release"))
    image = image_of(version).partition("@")[2]
    person.fill(image=image, commit=COMMIT, frontend=frontend, requested_by="Ada Lovelace")
    person.choose("strategy", "rolling")
    person.field("migrate").click()
    person.picture("release-form", height=1640)
    run = person.start()
    person.wait_for_state("Suspended", *ENDED)
    return run


@pytest.mark.parametrize("entry", ENTRIES, ids=[flow_of(entry).name for entry in ENTRIES])
def test_a_form_shows_every_parameter_with_what_it_means_its_default_and_what_may_be_chosen(
    person: Person, server: SyncPrefectClient, entry: dict[str, Any]
) -> None:
    flow = flow_of(entry)
    schema = parameter_schema(flow)
    person.page.goto(f"{person.ui_url}/deployments/deployment/{deployment_of(server, flow.name)}/run")
    expect(person.field("environment")).to_be_visible()
    shown = person.fields()
    assert list(shown) == sorted(schema.properties, key=lambda name: schema.properties[name]["position"])
    for name, one in schema.properties.items():
        field = shown[name]
        assert field.required == (name in schema.required)
        # The page shows a text's lines as one.
        assert field.description.split() == one["description"].split()
        assert field.description.split() != []
        default = entry["parameters"].get(name, one.get("default", ""))
        if "enum" in one:
            assert field.kind == "select"
            assert field.value == (default or "Select")
            assert person.options(name) == one["enum"]
        elif one["type"] == "boolean":
            assert (field.kind, field.value) == ("switch", str(default).lower())
        elif one["type"] == "array":
            assert field.kind == "list"
        elif one["type"] == "object":
            # Its editor is loaded after the page.
            wait_until(
                lambda name=name: (person.fields()[name].kind, person.fields()[name].value) == ("json", "{}"), name
            )
        else:
            assert (field.kind, field.value) == ("text", str(default))


@pytest.mark.parametrize(
    ("flow", "texts", "refusal"),
    [
        ("release", {"commit": COMMIT}, "'image' is a required property"),
        ("release", {"image": "sha256:abc", "commit": COMMIT}, "'sha256:abc' does not match"),
        ("release", {"image": "v1.4.0", "commit": "main"}, "'main' does not match"),
        ("release", {"image": "v1.4.0", "commit": COMMIT, "frontend": "the new one"}, "'the new one' does not match"),
        ("rollback", {"reason": "INC-7", "release_id": "r-1"}, "'r-1' does not match"),
        ("restore", {}, "'database' is a required property"),
        ("undo-swap", {"restore_id": "the last one"}, "'the last one' does not match"),
        ("watch-sign-off", {}, "'release_id' is a required property"),
        ("nightly-backup", {"environment": "../production"}, "'../production' does not match"),
    ],
)
def test_what_is_wrong_is_refused_in_the_form_and_makes_no_run(
    person: Person, server: SyncPrefectClient, flow: str, texts: dict[str, str], refusal: str
) -> None:
    before = asked_for(server)
    person.page.goto(f"{person.ui_url}/deployments/deployment/{deployment_of(server, flow)}/run")
    person.fill(**texts)
    person.expect_refusal(refusal)
    assert asked_for(server) == before


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        ("strategy", "'canary' is not one of ['as configured', 'rolling', 'blue-green']"),
        ("schema_compatibility", "'canary' is not one of ['backward', 'breaking']"),
    ],
)
def test_what_is_none_of_the_choices_is_refused_in_the_form_also_when_an_address_brings_it(
    person: Person, server: SyncPrefectClient, field: str, refusal: str
) -> None:
    before = asked_for(server)
    given = {"environment": PRODUCTION, "image": "v1.4.0", "commit": COMMIT, field: "canary"}
    form = f"{person.ui_url}/deployments/deployment/{deployment_of(server, 'release')}/run"
    person.page.goto(f"{form}?parameters={quote(json.dumps(given))}")
    expect(person.field("image")).to_have_value("v1.4.0")
    # By hand only what there is can be chosen.
    assert "canary" not in person.options(field)
    person.expect_refusal(refusal)
    assert asked_for(server) == before


def test_a_backup_that_is_started_by_clicking_runs_to_its_end_and_shows_its_report(
    person: Person, backed_up: str
) -> None:
    person.open_run(backed_up)
    assert person.name_of_run() == "back up production"
    expect(person.page.get_by_text("Completed", exact=True).first).to_be_visible()
    text = person.open_report("nightly-backup-production")
    assert "nightly-backup · production: passed" in text
    assert "read back and decode · shop" in text
    person.picture("backup-report")


def test_a_drill_proves_it_and_its_report_reads_as_sentences(person: Person, drilled: str) -> None:
    person.open_run(drilled)
    assert person.name_of_run() == "drill production"
    text = person.open_report("dr-drill-production")
    assert "dr-drill · production: passed" in text
    assert "negative controls · shop" in text
    assert "{'" not in text
    person.picture("drill-report")


def test_a_restore_says_in_its_name_that_it_only_shows_what_it_would_do(
    person: Person, server: SyncPrefectClient, backed_up: str
) -> None:
    start(person, server, "restore", "dry_run", database="shop", backup="newest-decoded")
    person.wait_for_state(*ENDED)
    assert person.name_of_run() == "restore production/shop (dry run)"
    expect(person.page.get_by_text("Completed", exact=True).first).to_be_visible()


@pytest.fixture(scope="module")
def released(person: Person, server: SyncPrefectClient, office: Office, drilled: str) -> str:
    """A release that somebody asked for and approved by clicking, to its end; its run's id."""
    run = ask_for_release(person, server, "v2", NEW)
    assert person.name_of_run().startswith("release production 3f2a91c → sha256:7632")
    assert office.serving() == image_of("v1")
    assert office.vercel.live == {OLD}
    person.choose_from_menu("Resume")
    dialog = person.page.get_by_role("dialog")
    expect(dialog.get_by_text("Approve the plan")).to_be_visible()
    found = re.search(r"Approve the plan ([0-9a-f]{8})", dialog.inner_text())
    assert found is not None
    assert "asked for by: Ada Lovelace" in dialog.inner_text()
    # An empty form approves nothing, and says so.
    person.resume()
    expect(person.page.get_by_text("'plan' is a required property").first).to_be_visible()
    person.picture("release-approval", height=1500)
    person.resume(Plan=found[1], Approved_by="Grace Hopper", Reason="CHG-41")
    person.wait_for_state(*ENDED)
    return run


def test_a_release_goes_on_once_somebody_has_read_its_plan_and_typed_its_hash(
    person: Person, server: SyncPrefectClient, office: Office, released: str
) -> None:
    state = server.read_flow_run(UUID(released)).state
    assert state is not None
    assert state.is_completed(), state.message
    assert office.serving() == image_of("v2")
    assert office.vercel.live == {NEW}
    person.open_run(released)
    text = person.open_report("release-production")
    assert "release · production: " in text
    assert "approver: Grace Hopper" in text
    person.picture("release-report")


def test_a_release_that_somebody_refuses_by_cancelling_it_changes_nothing(
    person: Person, server: SyncPrefectClient, office: Office, drilled: str
) -> None:
    serving, live = office.serving(), office.vercel.live
    run = ask_for_release(person, server, "v3", THIRD)
    person.cancel_run()
    person.wait_for_state("Cancelled")
    person.open_run(run)
    person.wait_for_state("Cancelled")
    assert (office.serving(), office.vercel.live) == (serving, live)


def test_a_release_that_came_out_is_looked_at_by_clicking(
    person: Person, server: SyncPrefectClient, released: str
) -> None:
    release_id = release_id_of(released)
    look = start(person, server, "post-deploy-watch", release_id=release_id)
    person.wait_for_state("Blind", *ENDED)
    assert person.name_of_run() == f"watch {release_id} in production"
    person.open_run(look)
    text = person.open_report("watch-production")
    assert release_id in text


@pytest.fixture(scope="module")
def watched_day(person: Person, server: SyncPrefectClient, office: Office) -> str:
    """A watch whose last look somebody took by clicking: it ended. Its release's id."""
    release_id = office.keep_watched_day()
    look = start(person, server, "post-deploy-watch", release_id=release_id)
    person.wait_for_state("Healthy", *ENDED)
    person.open_run(look)
    text = person.open_report("watch-production")
    assert "Nothing found; a factor of 1.9 would have been" in text
    person.picture("watch-report", height=1500)
    return release_id


def test_at_the_end_of_a_day_a_run_waits_for_a_person_and_cancelling_it_signs_nothing_off(
    person: Person, server: SyncPrefectClient, office: Office, watched_day: str
) -> None:
    name = f"sign off {watched_day} in production"

    def waiting() -> list[str]:
        return [str(one.id) for one in server.read_flow_runs(limit=200) if one.name == name]

    wait_until(lambda: len(waiting()) == 1, "the end of the watch asks a person", seconds=120)
    run = waiting()[0]
    person.open_run(run)
    person.wait_for_state("Suspended", *ENDED)
    person.cancel_run()
    person.wait_for_state("Cancelled")
    assert office.signed_off() == ""


def test_a_day_is_signed_off_by_filling_in_a_form(
    person: Person, server: SyncPrefectClient, office: Office, watched_day: str
) -> None:
    release_id = watched_day
    run = start(person, server, "watch-sign-off", release_id=release_id)
    person.wait_for_state("Suspended", *ENDED)
    assert person.name_of_run() == f"sign off {release_id} in production"
    person.choose_from_menu("Resume")
    dialog = person.page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", name=f"Sign off {release_id} in production")).to_be_visible()
    # An empty form signs nothing off, and one of another release is asked again.
    person.resume()
    expect(person.page.get_by_text("'release' is a required property").first).to_be_visible()
    person.resume(**SIGNED | {"Release": "ffffff"})
    wait_until(lambda: "sign-off-2" in waits_for(server, run), "it asks again", seconds=120)
    assert office.signed_off() == ""
    person.open_run(run)
    person.wait_for_state("Suspended", *ENDED)
    person.choose_from_menu("Resume")
    expect(dialog.get_by_text("“ffffff” was typed")).to_be_visible()
    person.picture("sign-off", height=1500)
    person.resume(**SIGNED | {"Release": release_id[-6:]})
    wait_until(lambda: (state := server.read_flow_run(UUID(run)).state) and state.is_final(), "it ends", seconds=120)
    state = server.read_flow_run(UUID(run)).state
    assert state is not None
    assert state.is_completed(), state.message
    assert "by Grace Hopper" in office.signed_off()
    person.open_run(run)
    text = person.open_report("watch-sign-off-production")
    assert "signed off by Grace Hopper" in text
    assert SIGNED["User feedback: what was found"] in text


def waits_for(server: SyncPrefectClient, run: str) -> str:
    """Which of its forms a run waits with, by its key; "" when it does not wait."""
    state = server.read_flow_run(UUID(run)).state
    if state is None or not state.is_paused():
        return ""
    details = state.state_details
    return str(details.pause_key or "") + str(details.run_input_keyset or "")


def test_every_other_flow_is_started_by_clicking_and_says_how_it_ended(
    person: Person, server: SyncPrefectClient, office: Office
) -> None:
    started = {
        start(person, server, flow, *switches, **texts): (name, told) for flow, switches, texts, name, told in OTHERS
    }
    for run, (name, told) in started.items():
        person.open_run(run)
        person.wait_for_state(*ENDED)
        assert person.name_of_run() == name
        state = server.read_flow_run(UUID(run)).state
        assert state is not None
        assert told in str(state.message).lower(), state.message


def ask_for_swap(person: Person, server: SyncPrefectClient) -> str:
    """Start a restore that is to take the live database's place, choose the backup in the form that the run waits with, and wait until it asks for its approval."""
    run = start(person, server, "restore", "swap_live", database="shop")
    person.wait_for_state("Suspended", *ENDED)
    person.choose_from_menu("Resume")
    person.resume(Backup="newest-proven")
    wait_until(lambda: "approve-swap" in waits_for(server, run), "it asks for the approval", seconds=180)
    person.open_run(run)
    person.wait_for_state("Suspended", *ENDED)
    return run


def test_a_swap_that_somebody_refuses_by_cancelling_it_leaves_the_live_database(
    person: Person, server: SyncPrefectClient, office: Office, drilled: str
) -> None:
    office.add_order()
    ask_for_swap(person, server)
    person.cancel_run()
    person.wait_for_state("Cancelled")
    assert office.has_order()


def test_a_swap_is_made_once_somebody_has_typed_the_live_databases_name(
    person: Person, server: SyncPrefectClient, office: Office, drilled: str
) -> None:
    if not office.has_order():
        office.add_order()
    run = ask_for_swap(person, server)
    person.choose_from_menu("Resume")
    dialog = person.page.get_by_role("dialog")
    expect(dialog.get_by_label("Live database's name", exact=True)).to_be_visible()
    person.picture("swap-approval", height=1300)
    answer = {"Approved by": "Grace Hopper", "Reason": "INC-12"}
    # The environment's name for it is another one: it is asked again, and nothing was done.
    person.resume(**answer | {"Live database's name": "shop"})
    wait_until(lambda: "approve-swap-2" in waits_for(server, run), "it asks again", seconds=120)
    assert office.has_order()
    person.open_run(run)
    person.wait_for_state("Suspended", *ENDED)
    person.choose_from_menu("Resume")
    person.resume(**answer | {"Live database's name": "platform"})
    wait_until(lambda: (state := server.read_flow_run(UUID(run)).state) and state.is_final(), "it ends", seconds=180)
    state = server.read_flow_run(UUID(run)).state
    assert state is not None
    assert state.is_completed(), state.message
    assert not office.has_order()
    person.open_run(run)
    text = person.open_report("restore-production")
    assert "approver: Grace Hopper" in text


def test_the_link_that_nightshift_prints_opens_the_runs_page_in_the_ui_that_the_docs_speak_of(
    person: Person, office: Office, backed_up: str
) -> None:
    link = server_of(office.platform.running).run_url(backed_up)
    person.page.goto(link)
    expect(person.page.get_by_role("button", name="Open menu").first).to_be_visible()
    expect(person.page).to_have_url(re.compile(rf"/v2/runs/flow-run/{backed_up}"))
    assert person.name_of_run() == "back up production"


def test_the_list_of_deployments_tells_flow_and_environment_of_each(person: Person) -> None:
    person.page.goto(f"{person.ui_url}/deployments")
    for entry in ENTRIES:
        expect(person.page.get_by_text(flow_of(entry).name, exact=True).first).to_be_visible()
    person.picture("deployments")
