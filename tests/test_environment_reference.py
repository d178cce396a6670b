"""docs/environments.md: made from the records, current, complete, and true where it promises something."""

import asyncio
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from core.environment import Environment
from core.environment_keys import NOT_IN_THE_FILE
from core.secret_reference import FORMS
from deployments.command.new_environment import MOST_LINES
from deployments.environment_reference import PAGE, TABLES, page, type_in_words
from tasks.environments import load_environment


def test_the_committed_page_is_what_the_generator_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make it anew: python -m deployments.environment_reference"


def test_every_key_is_explained_by_a_sentence() -> None:
    text = page()
    for _, model in TABLES:
        for name, field in model.model_fields.items():
            if model is Environment and name in NOT_IN_THE_FILE:
                continue
            assert f"| `{name}` | {type_in_words(field)} |" in text
            assert len(field.description or "") > 10, (model, name)


def test_the_example_on_the_page_loads_and_has_fifteen_lines_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", page(), re.DOTALL)
    assert len(example.splitlines()) <= MOST_LINES
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    (tmp_path / "production.toml").write_text(example)
    assert load_environment("production").databases["app"].name == tomllib.loads(example)["databases"]["app"]["name"]


def test_the_page_shows_every_kind_of_reference() -> None:
    for form in re.findall(r"[a-z-]+:[A-Z#]+", FORMS):
        assert f"| `{form}` |" in page()


@pytest.mark.parametrize("began", [datetime(2027, 3, 25, tzinfo=UTC), datetime(2026, 10, 22, tzinfo=UTC)])
def test_a_nightly_run_happens_once_a_night_when_clocks_change(began: datetime) -> None:
    schedule = CronSchedule(cron="0 2 * * *", timezone="Europe/Berlin")

    async def runs() -> set[datetime]:
        seen: set[datetime] = set()
        for step in range(6 * 24):
            # The scheduler asks again and again while time goes on; all answers together are what runs.
            dates = await schedule.get_dates(3, began + timedelta(hours=step))
            seen.update(date.astimezone(ZoneInfo("Europe/Berlin")) for date in dates)
        return seen

    days = [run.date() for run in asyncio.run(runs())]
    assert len(days) == len(set(days)) >= 6
    assert (max(days) - min(days)).days == len(days) - 1
