"""A reviewer's path with the keyboard alone, in a real browser: from no review to what people said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.conftest import running_service
from tests.dashboard.test_browser import (
    PHONE,
    SCREENSHOTS,
    Visitor,
    browser,
    dashboard_log,
    dashboard_url,
    profile,
    pytestmark,
)
from tunescope import Client

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

__all__ = ["browser", "dashboard_log", "dashboard_url", "profile", "pytestmark"]

QUESTIONS = [
    ("Where is the card I ordered two weeks ago?", "It takes up to ten working days; I can send another."),
    ("My card was stolen with my phone, what now?", "Freeze it in the app, then order a new one."),
    ("Which rate do you use when I pay in euros?", "The card scheme's rate of the day, without a mark-up."),
    ("Why was I charged for taking out cash?", "Two withdrawals a month are free, more cost a fee."),
]
N = 8


@pytest.fixture(scope="module")
def live_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A service that has two evaluations and no review."""
    with running_service(tmp_path_factory.mktemp("reviewed") / "data") as service:
        with Client(service.url) as api:
            fill(api)
        yield service.url


def fill(api: Client) -> None:
    items = [
        {"id": f"q{n}", "input": QUESTIONS[n % 4][0], "references": [QUESTIONS[n % 4][1]], "group": "ab"[n % 2]}
        for n in range(N)
    ]
    suite = api.create_suite(name="support", task_type="generation", items=items, metrics=["token_f1"])
    for name, text in (("base", "I am not sure, please ask the bank. ({})"), ("tuned", "{} Is there anything else?")):
        outputs = [{"id": f"q{n}", "output": text.format(QUESTIONS[n % 4][1])} for n in range(N)]
        api.create_evaluation(suite_id=suite["id"], name=name, predictions=outputs)


@pytest.fixture
def visitor(profile: BrowserContext, dashboard_url: str) -> Iterator[Visitor]:
    page = profile.new_page()
    yield Visitor(page, dashboard_url)
    page.close()


def bar(visitor: Visitor, text: str) -> None:
    """Wait for what the progress bar says."""
    visitor.page.locator("[data-testid=stProgress]").get_by_text(text).wait_for()


def test_a_pairwise_review_from_the_empty_state_to_the_verdict_by_keys_alone(
    visitor: Visitor, live_service: str
) -> None:
    visitor.open("/review", "Review")
    visitor.main("No review yet").wait_for()
    visitor.keep("review-empty")
    visitor.page.get_by_role("button", name="Start the review").focus()
    visitor.page.keyboard.press("Enter")
    visitor.arrived("support pairwise")
    assert "id=" in visitor.page.url
    visitor.main("Who are you?").wait_for()
    visitor.page.get_by_role("textbox", name="Reviewer").fill("ann")
    visitor.page.keyboard.press("Enter")
    bar(visitor, "0 judged by you · 8 left")
    visitor.page.keyboard.press("Escape")
    visitor.page.evaluate("document.activeElement.blur()")
    visitor.keep("review-pairwise")
    said = visitor.page.locator("[data-testid=stMain]").inner_text()
    assert "tuned" not in said
    assert "base" not in said
    visitor.page.keyboard.press("d")
    visitor.page.locator("del.ts-diff").first.wait_for()
    visitor.keep("review-differences")
    for done in range(N):
        bar(visitor, f"{done} judged by you · {N - done} left")
        visitor.settled()
        left = visitor.page.locator(".ts-output").first.inner_text()
        if done == 3:
            # A tag, and a change of mind: tagged, judged wrongly, undone, judged again.
            visitor.page.keyboard.press("2")
            visitor.page.get_by_role("button", name="incomplete").locator("[data-testid=stIconMaterial]").wait_for()
            visitor.page.keyboard.press("ArrowDown")
            bar(visitor, "4 judged by you · 4 left")
            visitor.settled()
            visitor.page.keyboard.press("u")
            bar(visitor, "3 judged by you · 5 left")
            visitor.settled()
        visitor.page.keyboard.press("ArrowLeft" if "anything else" in left else "ArrowRight")
    visitor.main("Nothing left for you").wait_for()
    visitor.settled()
    visitor.keep("review-done")
    visitor.page.keyboard.press("Enter")
    visitor.main("tuned is better than base on support (support pairwise) by 100.0 points", exact=False).wait_for()
    visitor.settled()
    visitor.keep("review-result")
    with Client(live_service) as api:
        (review,) = api.list_reviews()["items"]
        log = api.review_judgements(review["id"])["items"]
    assert [one["answer"] for one in log].count("withdrawn") == 1
    assert [one["reasons"] for one in log if one["reasons"]] == [["incomplete"]]
    assert {one["reviewer"] for one in log} == {"ann"}


def test_a_rating_by_two_with_a_skip_becomes_an_evaluation(visitor: Visitor, live_service: str) -> None:
    with Client(live_service) as api:
        judged = [one["id"] for one in api.list_evaluations(suite="support")["items"]][::-1]
        review = api.create_review(
            name="helpful", kind="rating", evaluations=judged, overlap=2, reasons=["vague", "wrong"],
            instructions="Good: the customer can act on it.",
        )  # fmt: skip
        while (task := api.next_review_task(review["id"], "bob")["task"]) is not None:
            helps = "anything else" in task["outputs"][0]["text"]
            api.judge(review["id"], task["task"], "good" if helps else "bad", reviewer="bob")
    visitor.open(f"/review?id={review['id']}&reviewer=cid", "helpful")
    bar(visitor, "0 judged by you · 16 left")
    visitor.settled()
    visitor.keep("review-rating")
    visitor.page.keyboard.press("s")
    visitor.main("Why skip it?").wait_for()
    visitor.settled()
    visitor.keep("review-skip")
    visitor.page.keyboard.press("1")
    # What is typed into the comment is no answer.
    bar(visitor, "1 judged by you · 15 left")
    visitor.settled()
    comment = visitor.page.get_by_role("textbox", name="Comment")
    comment.focus()
    visitor.page.keyboard.type("bgsu")
    visitor.page.keyboard.press("Enter")
    visitor.settled()
    bar(visitor, "1 judged by you · 15 left")
    visitor.page.evaluate("document.activeElement.blur()")
    for done in range(1, 16):
        bar(visitor, f"{done} judged by you · {16 - done} left")
        visitor.settled()
        visitor.page.keyboard.press("g" if done % 3 else "b")
    visitor.main("Nothing left for you").wait_for()
    visitor.page.keyboard.press("Enter")
    visitor.page.get_by_role("button", name="Close the review").click()
    visitor.page.get_by_role("button", name="Close it").click()
    visitor.main("As evaluations, to compare and audit like any other:").wait_for()
    visitor.main("Cohen's kappa").wait_for()
    visitor.settled()
    visitor.keep("review-result-rating")
    visitor.page.get_by_role("tab", name="Items").click()
    visitor.page.locator(".ts-item").first.wait_for()
    visitor.settled()
    visitor.keep("review-items")
    with Client(live_service) as api:
        assert "bgsu" in {one["comment"] for one in api.review_judgements(review["id"])["items"]}
    visitor.page.get_by_role("tab", name="Result").click()
    visitor.follow("tuned")
    visitor.arrived("tuned on helpful (human) v1")
    visitor.main("human_good_mean").wait_for()
    visitor.page.locator(".ts-chip.ts-green").filter(has_text="good").first.wait_for()
    visitor.keep("review-evaluation")


@pytest.mark.parametrize(
    ("suffix", "width", "scheme"),
    [("-phone", 390, "light"), ("-dark", 1280, "dark")],
)
@pytest.mark.slow
def test_the_review_page_on_a_phone_and_in_the_dark(
    browser: object, dashboard_url: str, live_service: str, suffix: str, width: int, scheme: str
) -> None:
    with Client(live_service) as api:
        done, open_one = (
            api.create_review(
                name=name, kind=kind, evaluations=[one["id"] for one in found], reasons=["vague", "wrong"]
            )
            for name, kind, found in (
                (f"done{suffix}", "pairwise", api.list_evaluations(suite="support")["items"]),
                (f"open{suffix}", "pairwise", api.list_evaluations(suite="support")["items"]),
            )
        )
        while (task := api.next_review_task(done["id"], "bob")["task"]) is not None:
            api.judge(done["id"], task["task"], "A", reviewer="bob", reasons=["vague"])
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)  # type: ignore[attr-defined]
    visitor = Visitor(page, dashboard_url, suffix)
    for name, path, title in (
        ("reviews", "/review", "Review"),
        ("review-judging", f"/review?id={open_one['id']}&reviewer=ann", f"open{suffix}"),
        ("review-result", f"/review?id={done['id']}&tab=Result", f"done{suffix}"),
    ):
        visitor.open(path, title)
        visitor.page.wait_for_url(re.compile(re.escape(path.partition("?")[0])))
        visitor.keep(name)
    page.close()


def test_long_text_keeps_its_buttons_in_sight_on_a_phone(visitor: Visitor, live_service: str) -> None:
    """Outputs longer than the screen: the answers stay in sight."""
    visitor.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    visitor.open("/review", "Review")
    visitor.keep("reviews-phone")
    with Client(live_service) as api:
        items = [{"id": "1", "input": "Tell me all.", "references": ["All."]}]
        suite = api.create_suite(name="long", task_type="generation", metrics=["token_f1"], items=items)
        judged = [
            api.create_evaluation(suite_id=suite["id"], name=name, predictions=[{"id": "1", "output": text * 150}])[
                "id"
            ]
            for name, text in (("one", "All there is to say. "), ("two", "There is more to say. "))
        ]
        review = api.create_review(name="long", kind="pairwise", evaluations=judged, reasons=["wordy"])
    visitor.open(f"/review?id={review['id']}&reviewer=ann", "long")
    tie = visitor.page.get_by_role("button", name="Tie")
    tie.wait_for()
    visitor.page.screenshot(path=SCREENSHOTS / "review-long-phone.png")
    box, size = tie.bounding_box(), visitor.page.viewport_size
    assert box is not None
    assert size is not None
    assert box["y"] + box["height"] <= size["height"]
