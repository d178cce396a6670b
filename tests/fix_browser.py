"""A person before Prefect's UI: Debian's Chromium without a screen, which reads what stands on a page, fills in forms and clicks."""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as TooLateError

from tests.leave_out import leave_out

# Where pictures for docs/ go (make screenshots); none are made where it is not set.
PICTURES = "NIGHTSHIFT_PICTURES"
WIDTH, HEIGHT = 1280, 900
_SECONDS = 60
# For each parameter of a form: what it is called, what is said of it, how it is filled in, and with what it is filled in now.
_READ_FIELDS = """
all => all.map(one => {
  const box = one.parentElement, find = what => one.querySelector(what);
  const [kind, value] =
    find('[role=switch]') ? ['switch', find('[role=switch]').getAttribute('aria-checked')] :
    find('[aria-haspopup=listbox]') ? ['select', find('[aria-haspopup=listbox]').innerText] :
    find('[data-language=json]') ? ['json', find('[data-language=json]').innerText] :
    find('textarea, input') ? ['text', find('textarea, input').value] : ['list', one.innerText];
  return [box.querySelector('label').innerText, box.querySelector('p')?.innerText ?? '', kind, value];
})
"""


@dataclass(frozen=True)
class Shown:
    """One field of a form, as it stands on the page."""

    name: str
    required: bool
    description: str
    kind: Literal["text", "select", "switch", "json", "list"]
    value: str


class Person:
    """Somebody who is signed in at a server's UI."""

    def __init__(self, page: Page, ui_url: str) -> None:
        self.page, self.ui_url = page, f"{ui_url}/v2"

    def sign_in(self, auth_string: str) -> None:
        """Open the UI, and give the password that it asks for."""
        self.page.goto(self.ui_url)
        self.page.get_by_placeholder("admin:pass").fill(auth_string)
        self.page.get_by_role("button", name="Login").click()
        expect(self.page.get_by_role("link", name="Dashboard")).to_be_visible()

    def open_form(self, deployment_id: str) -> None:
        """Open a deployment's page and click Run, Custom run."""
        self.page.goto(f"{self.ui_url}/deployments/deployment/{deployment_id}")
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Custom run").click()
        expect(self.field("environment")).to_be_visible()

    def field(self, name: str) -> Locator:
        """What a parameter's label belongs to."""
        return self.page.get_by_label(re.compile(rf"^(Select )?{name}( \(Optional\))?$"))

    def fields(self) -> dict[str, Shown]:
        """All fields of the form, in order."""
        found = self.page.locator("form fieldset").evaluate_all(_READ_FIELDS)
        shown = [
            Shown(title.removesuffix(" (Optional)"), not title.endswith(" (Optional)"), told, kind, value.strip())
            for title, told, kind, value in found
        ]
        return {one.name: one for one in shown}

    def options(self, name: str) -> list[str]:
        """Open a select, read what may be chosen, and close it again."""
        self.field(name).click()
        options = self.page.get_by_role("option")
        expect(options.first).to_be_visible()
        texts = options.all_inner_texts()
        self.page.keyboard.press("Escape")
        expect(options).to_have_count(0)
        return texts

    def choose(self, name: str, option: str) -> None:
        """Choose from a select."""
        self.field(name).click()
        self.page.get_by_role("option", name=option, exact=True).click()

    def fill(self, **texts: str) -> None:
        """Type into fields of text."""
        for name, text in texts.items():
            self.field(name).fill(text)

    def submit(self) -> None:
        """Click Submit."""
        self.page.get_by_role("button", name="Submit", exact=True).click()

    def start(self) -> str:
        """Click Submit and, when it says that the run is there, View run; return the run's id."""
        there = self.page.get_by_role("button", name="View run")
        for _ in range(3):
            self.submit()
            with suppress(TooLateError):
                there.wait_for(timeout=_SECONDS * 1000 / 3)
                break
            # Prefect 3.8.8: what was filled in a moment ago is only checked by the first Submit. Once there is a run the form is left.
        there.click()
        expect(self.page).to_have_url(re.compile(r"/runs/flow-run/"))
        run_id = self.run_id()
        # What is told in a corner hides what is in it, for as long as it is pointed at.
        self.page.mouse.move(0, 0)
        expect(self.page.get_by_role("button", name="View run")).to_have_count(0)
        return run_id

    def expect_refusal(self, words: str) -> None:
        """Click Submit, and read beside a field why it is refused."""
        self.submit()
        expect(self.page.locator("form").get_by_text(words).first).to_be_visible()

    def run_id(self) -> str:
        """The id of the run whose page is open."""
        return self.page.url.partition("/flow-run/")[2].partition("?")[0]

    def wait_for_state(self, *names: str) -> None:
        """Look at the run's page until it is in one of these states."""
        badge = self.page.get_by_text(re.compile(f"^({'|'.join(names)})$")).first
        expect(badge).to_be_visible(timeout=2 * _SECONDS * 1000)

    def name_of_run(self) -> str:
        """What the run is called, at the head of its page."""
        # Its tags stand beside it.
        return self.page.locator("nav[aria-label=breadcrumb] li").last.inner_text().strip().splitlines()[0]

    def open_run(self, run_id: str) -> None:
        """Open a run's page."""
        self.page.goto(f"{self.ui_url}/runs/flow-run/{run_id}")
        expect(self.page.get_by_role("tab", name="Logs", exact=True)).to_be_visible()

    def open_report(self, key: str) -> str:
        """From a run's page: open an artifact by its key, of those that had it the newest, and read it."""
        self.open_tab("Artifacts")
        self.page.get_by_text(key, exact=True).first.click()
        self.page.get_by_role("link", name=re.compile(r"^[0-9a-f]{8}$")).first.click()
        expect(self.page.get_by_role("tab", name="Raw", exact=True)).to_be_visible()
        self.page.wait_for_timeout(300)
        return self.page.locator("body").inner_text()

    def resume(self, **answer: str) -> None:
        """In the form that a run waits with: fill in fields by their titles, and click Resume; once it is whole, until it is taken."""
        dialog = self.page.get_by_role("dialog")
        for title, text in answer.items():
            dialog.get_by_label(title.replace("_", " "), exact=True).fill(text)
        for _ in range(3 if answer else 1):
            dialog.get_by_role("button", name="Resume", exact=True).click()
            if not answer:
                return
            # After a refusal the first click may only check what was filled in (Prefect 3.8.8), as `start` knows.
            with suppress(TooLateError):
                dialog.wait_for(state="hidden", timeout=_SECONDS * 1000 / 3)
                return

    def cancel_run(self) -> None:
        """From a run's page: Cancel, and say that it is meant."""
        self.choose_from_menu("Cancel")
        self.page.get_by_role("button", name="Cancel Flow Run", exact=True).click()

    def open_tab(self, name: str) -> None:
        """Open one of the tabs of a page."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def choose_from_menu(self, item: str) -> None:
        """Open the menu at the head of a page and click one of its items."""
        self.page.get_by_role("button", name="Open menu").first.click()
        self.page.get_by_role("menuitem", name=item, exact=True).click()

    def picture(self, name: str, *, height: int = HEIGHT) -> None:
        """Keep what is seen as a picture for docs/, where pictures are asked for: 1280 pixels wide, of few colours."""
        if not (folder := os.environ.get(PICTURES)):
            return
        self.page.set_viewport_size({"width": WIDTH, "height": height})
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(700)  # what moves and fades
        seen = Image.open(io.BytesIO(self.page.screenshot(animations="disabled"))).convert("RGB")
        seen.quantize(128, dither=Image.Dither.NONE).save(Path(folder) / f"{name}.png", optimize=True)
        self.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, one a module."""
    program = shutil.which("chromium")
    if program is None:
        leave_out("chromium is not installed (Debian: chromium)")
    expect.set_options(timeout=_SECONDS * 1000)
    with sync_playwright() as playwright:
        # Everything listens on 127.0.0.1: no proxy, and nobody else is asked anything.
        browser = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()
