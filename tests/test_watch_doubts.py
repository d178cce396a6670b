"""What a watch did not see: users outside without an answer, Pods that nobody scrapes, a Prometheus that was switched off. None of it ends healthy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.environment_gates import Gates
from core.watch_counts import BUCKETS
from core.watch_decision import trouble_of
from core.watch_doubts import doubted, outside_doubts, outside_since, scraped_doubts
from core.watch_notices import Notice, Sight, notices
from core.watch_probes import ProbeLook, ProbesLook, ProbesSeen, probes_after
from core.watch_report import ended_sentence, verdict_sentence
from core.watch_scraped import ScrapedSeen, scraped_after, scraped_findings, scraped_query
from core.watch_verdict import Judgement, judge
from tests.fix_counts import plain_day
from tests.fix_watched import end_of, watched

URL = "https://api.example.com"
HEALTHY = Judgement("healthy", ("errors: a factor of 2 would have been found",))


def outside(letters: str) -> ProbesSeen:
    seen = probes_after(None, ProbesLook(url=URL), bucket=0)
    for bucket, letter in enumerate(letters):
        if letter != " ":
            well = letter == "."
            look = ProbeLook(path="/ready", ok=well, ms=20 if well else None, why="" if well else "connection refused")
            seen = probes_after(seen, ProbesLook(url=URL, probes=(look,)), bucket=bucket)
    return seen


def scraped(*looks: tuple[int, int | None]) -> ScrapedSeen:
    seen = ScrapedSeen()
    for bucket, (ready, told) in enumerate(looks):
        seen = scraped_after(seen, bucket=bucket, ready=ready, scraped=told)
    return seen


def told_by(sight: Sight) -> list[Notice]:
    return list(notices(sight, blind_minutes=30, coverage=0.9))


def test_a_public_address_that_refuses_all_day_is_no_pass() -> None:
    doubts = outside_doubts(outside("x" * BUCKETS), {}, 0.9, "")
    assert doubts == ("from outside: GET https://api.example.com/ready failed in 288 of 288 looks: connection refused",)
    found = doubted(HEALTHY, doubts)
    assert (found.verdict, found.reasons[0]) == ("insufficient", doubts[0])
    assert trouble_of(found, "") is None


@pytest.mark.parametrize(("failed", "passes"), [(0, True), (10, True), (11, False), (100, False)])
def test_as_much_of_the_day_must_have_been_well_from_outside_as_must_be_seen(failed: int, passes: bool) -> None:
    letters = "x" * failed + "." * (100 - failed)
    assert (outside_doubts(outside(letters), {}, 0.9, "") == ()) is passes


def test_what_failed_before_the_release_too_is_said_to_and_is_no_pass_either() -> None:
    before = {"/ready": "it answered 404"}
    (told,) = outside_doubts(outside("x" * 50), before, 0.9, "")
    assert "in 50 of 50 looks (and before the release, too: it answered 404)" in told
    assert outside_since(outside("x" * 50), before, 50, 6) is None


def test_an_address_that_could_never_be_asked_is_a_doubt_and_one_that_is_not_configured_none() -> None:
    assert outside_doubts(None, {}, 0.9, "load a CA file") == ("the public address was never asked: load a CA file",)
    assert outside_doubts(None, {}, 0.9, "") == ()


def test_an_address_that_could_not_be_asked_any_more_is_a_doubt_as_soon_as_too_little_of_the_day_was_asked() -> None:
    told = "the public address was asked in 1 of 288 buckets: load a CA file"
    assert outside_doubts(outside("."), {}, 0.9, "load a CA file", BUCKETS) == (told,)
    assert outside_doubts(outside("." * 9), {}, 0.9, "load a CA file", 10) == ()
    (failed, unasked) = outside_doubts(outside("xx"), {}, 0.9, "load a CA file", BUCKETS)
    assert (failed[:12], unasked[:18]) == ("from outside", "the public address")
    # Looks of a worker that was away were not refused: the sweep tells of them.
    assert outside_doubts(outside("."), {}, 0.9, "", BUCKETS) == ()


def test_no_answer_for_half_an_hour_is_told_once_and_again_when_it_comes_again() -> None:
    assert told_by(Sight([plain_day()], 5, outside=outside(".....xxxxx"[:5]))) == []
    assert told_by(Sight([plain_day()], 10, outside=outside(".....xxxxx"))) == []
    (found,) = told_by(Sight([plain_day()], 11, outside=outside(".....xxxxxx")))
    assert (found.mark, found.state, found.since) == ("unreached-005", "Suspect", 5)
    assert told_by(Sight([plain_day()], 12, outside=outside(".....xxxxxx."))) == []
    (again,) = told_by(Sight([plain_day()], 20, outside=outside(".....xxxxxx.xxxxxxxx")))
    assert again.mark == "unreached-012"


def test_one_look_that_fails_long_ago_is_not_told() -> None:
    assert told_by(Sight([plain_day()], 30, outside=outside("....x"))) == []


def test_switched_off_before_anything_was_counted_is_blind() -> None:
    assert told_by(Sight([], 5, "nothing is counted")) == []
    (found,) = told_by(Sight([], 6, "nothing is counted"))
    assert (found.mark, found.state, found.why) == ("blind-000", "Blind", "nothing is counted")
    # Where it never was to be counted, the day's end says so.
    assert told_by(Sight([], 60, "nothing is counted", counting=False)) == []


def test_half_of_the_pods_not_scraped_is_told_and_no_pass() -> None:
    seen = scraped(*[(4, 2)] * 6)
    (finding,) = scraped_findings(seen)
    assert finding.severity == "warning"
    assert finding.text.startswith(
        "2 of 4 ready Pods of the new version were not scraped by Prometheus, in 6 of 6 looks"
    )
    (doubt,) = scraped_doubts(seen, 0.9)
    assert doubt.startswith("50% of the new version's Pods were not scraped")
    assert told_by(Sight([plain_day()], 5, scraped=scraped(*[(4, 2)] * 5))) == []
    (told,) = told_by(Sight([plain_day()], 6, scraped=seen))
    assert (told.mark, told.state) == ("unscraped-000", "Blind")


def test_pods_that_just_came_are_no_doubt() -> None:
    seen = scraped(*[(4, 4)] * 20, (8, 4), *[(8, 8)] * 20, (8, None))
    assert scraped_doubts(seen, 0.9) == ()
    (finding,) = scraped_findings(seen)
    assert finding.severity == "note"


def test_without_a_target_of_the_new_pods_it_is_said_that_nobody_knows() -> None:
    seen = scraped(*[(4, None)] * 6)
    (finding,) = scraped_findings(seen)
    assert (finding.severity, "is not known" in finding.text) == ("note", True)
    assert scraped_doubts(seen, 0.9) == ()
    assert scraped_findings(ScrapedSeen()) == ()
    assert scraped_query(Gates(targets=None), "x") is None


@given(
    looks=st.lists(st.tuples(st.integers(-1, BUCKETS), st.integers(0, 50), st.none() | st.integers(0, 60)), max_size=20)
)
def test_doubled_and_out_of_order_looks_count_once(looks: list[tuple[int, int, int | None]]) -> None:
    seen = ScrapedSeen()
    for bucket, ready, told in looks:
        seen = scraped_after(seen, bucket=bucket, ready=ready, scraped=told)
    assert [one[0] for one in seen.looks] == sorted({one[0] for one in seen.looks})
    assert 0 <= seen.seen_share <= 1
    ScrapedSeen.model_validate(seen.model_dump(mode="json"))


def test_a_doubt_takes_nothing_back_of_what_is_worse_and_stands_in_the_sentence() -> None:
    worse = Judgement("degraded", ("errors: E = 900 ≥ 40",), lasts=True)
    assert doubted(worse, ("half was not seen",)) is worse
    day = plain_day()
    found = doubted(judge({"errors": day}, closed=BUCKETS), ("from outside: GET / failed",))
    told = watched({"errors": day}, judgement=found)
    sentence = verdict_sentence(told)
    assert sentence.startswith("NO PASS: what was counted is not all that users had: from outside: GET / failed")
    assert ended_sentence(end_of(told, doubted=True)) == sentence
    assert not np.isnan(day.requests).any()
