"""The report: one file, escaped, with what an auditor signs for."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from starlette.testclient import TestClient

from .wire import Json, audit, evaluate, flips, get, make_policy, make_suite, post, protect

EVIL = "<script>alert(1)</script> | *bold* & `code`\n# not a heading"


@pytest.fixture
def failed(client: TestClient) -> Json:
    """A failed audit of two tasks; the lost items are full of markup."""
    items = [{"id": f"i{n}", "input": EVIL, "references": ["yes"], "group": "a|b"} for n in range(60)]
    suite = post(
        client, "suites", {"name": "evil <b>", "task_type": "generation", "items": items, "metrics": ["exact_match"]}
    )
    before = evaluate(client, suite, range(60), settings={"precision": "fp32"})
    outputs = [{"id": f"i{n}", "output": EVIL if n < 20 else "yes"} for n in range(60)]
    after = post(client, "evaluations", {"suite_id": suite["id"], "predictions": outputs})
    kept = flips(client, make_suite(client, "kept", 100), 100, 0, 0)
    policy = make_policy(client, protect("kept"), protect("evil <b>"))
    return audit(client, policy, kept, (before["id"], after["id"]))


class _Page(HTMLParser):
    """Collects tags and text; void elements aside, every tag must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_one_escaped_file(client: TestClient, failed: Json) -> None:
    answer = client.get(f"/api/v1/audits/{failed['id']}/report")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = _Page()
    page.feed(answer.text)
    assert page.open == []
    assert not {"script", "link", "img", "b"} & set(page.tags)
    assert not re.search(r"(src|href)=|url\(|@import", answer.text)
    assert page.text.count("<script>alert(1)</script>") == 40  # 20 inputs and 20 outputs, as text
    for wanted in (
        failed["sentence"],
        failed["hash"],
        failed["policy"]["hash"],
        "evil <b>: a|b",
        "Lost items (20)",
        "Lower the learning rate",
        "the setting 'precision' was 'fp32' before and not recorded after",
        "Signature",
        *(given["predictions"] for side in failed["inputs"]["evaluations"].values() for given in side),
    ):
        assert wanted in page.text
    assert page.text.index("evil <b> (exact_match)") < page.text.index("kept (exact_match)")


def test_markdown_says_the_same(client: TestClient, failed: Json) -> None:
    answer = client.get(f"/api/v1/audits/{failed['id']}/report", params={"format": "markdown"})
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    lines = answer.text.splitlines()
    assert lines[0] == "# Forgetting audit: FAIL"
    assert "<script>" not in answer.text
    assert "\n# not a heading" not in answer.text
    assert failed["hash"] in answer.text
    assert "Signature: ____" in lines[-1]
    tables = [line for line in lines if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert set(widths) <= {15, 8, 6, 3}
    assert sum(line.startswith("| i") for line in tables) == 20


def test_a_record_that_is_not_valid_says_why(client: TestClient) -> None:
    pair = flips(client, make_suite(client, "other", 40), 40, 0, 0)
    found = audit(client, make_policy(client, protect("general")), pair)
    report = client.get(f"/api/v1/audits/{found['id']}/report", params={"format": "markdown"}).text
    assert "## Why it is not valid" in report
    assert "'general' has no evaluation among \\`before\\`" in report
    assert "No item was lost." in report


def test_long_lists_are_cut_and_say_so(client: TestClient) -> None:
    suite = make_suite(client, "general", 600)
    found = audit(client, make_policy(client, protect("general")), flips(client, suite, 50, 550, 0))
    report = client.get(f"/api/v1/audits/{found['id']}/report", params={"format": "markdown"}).text
    assert "Lost items (550)" in report
    assert f"The first 500; all of them: GET /api/v1/audits/{found['id']}/items?kind=lost" in report.replace("\\", "")
    assert len(get(client, f"audits/{found['id']}/items", kind="lost", limit=1000)["items"]) == 550


def test_an_unknown_format(client: TestClient, failed: Json) -> None:
    answer = client.get(f"/api/v1/audits/{failed['id']}/report", params={"format": "pdf"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
