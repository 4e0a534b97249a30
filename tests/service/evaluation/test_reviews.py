"""People judge outputs over HTTP: the queue, what is said, and who sees what."""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from service.evaluation import review_routes
from service.judge import LONG
from service.store import reviews as store
from service.store.database import Database

from .wire import Json, all_items, evaluate, get, make_suite

NUMBERS = itertools.count()
N = 12


def post(client: TestClient, path: str, status: int = 201, **body: Any) -> Json:
    answer = client.post(f"/api/v1/{path}", json=body)
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def items(n: int = N) -> list[Json]:
    return [
        {"id": f"i{place}", "input": f"question {place}", "references": ["yes"], "group": "ab"[place % 2]}
        for place in range(n)
    ]


@pytest.fixture
def two(client: TestClient) -> tuple[Json, Json]:
    """Two models on one suite: `plain` says yes to the first half, `tuned` to all but the last three."""
    suite = make_suite(client, items())
    plain = ["yes" if place < N // 2 else f"plain {place}" for place in range(N)]
    tuned = ["yes" if place < N - 3 else f"tuned {place}" for place in range(N)]
    return evaluate(client, suite, plain, name="plain"), evaluate(client, suite, tuned, name="tuned")


def make_review(client: TestClient, *judged: Json, status: int = 201, **fields: Any) -> Json:
    body = {"name": "tone", "kind": "rating", "evaluations": [one["id"] for one in judged], **fields}
    return post(client, "reviews", status, **body)


def ask(client: TestClient, review: Json, reviewer: str | None = "ann") -> Json:
    return post(client, f"reviews/{review['id']}/next", 200, **({"reviewer": reviewer} if reviewer else {}))


def say(client: TestClient, review: Json, task: int, answer: str, reviewer: str = "ann", **fields: Any) -> Json:
    status = fields.pop("status", 201)
    body = {"id": f"j{next(NUMBERS)}", "task": task, "answer": answer, "reviewer": reviewer, **fields}
    return post(client, f"reviews/{review['id']}/judgements", status, **body)


def undo(client: TestClient, review: Json, reviewer: str = "ann", status: int = 201, **fields: Any) -> Json:
    body = {"id": f"u{next(NUMBERS)}", "reviewer": reviewer, **fields}
    return post(client, f"reviews/{review['id']}/undo", status, **body)


def test_a_review_is_drawn_once_and_versioned(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, *two, sample={"n": 4, "seed": 3}, instructions="Is it polite?", reasons=["rude"])
    assert (review["version"], review["n_items"], review["n_tasks"], review["closed_at"]) == (1, 4, 8, None)
    assert review["progress"] == {"wanted": 8, "done": 0, "reviewers": 0, "said": 0}
    assert review["created_by"] == "local"
    same = make_review(client, *two, sample={"n": 4, "seed": 3}, instructions="Is it polite?", reasons=["rude"],
                       status=200)  # fmt: skip
    assert same == review
    other = make_review(client, *two, sample={"n": 4, "seed": 4}, instructions="Is it polite?", reasons=["rude"])
    assert (other["version"], other["hash"] != review["hash"]) == (2, True)
    assert [one["id"] for one in all_items(client, "reviews", limit=1)] == [other["id"], review["id"]]
    assert get(client, f"reviews/{review['id']}") == review
    assert get(client, "reviews", status="closed")["items"] == []


def test_every_task_comes_once_and_then_it_is_done(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, *two)
    seen = []
    while (given := ask(client, review))["task"] is not None:
        assert given["progress"]["left"] == 2 * N - len(seen)
        assert ask(client, review)["task"] == given["task"]
        seen.append(given["task"]["task"])
        say(client, review, seen[-1], "good")
    assert sorted(seen) == list(range(2 * N))
    assert (given["reason"], given["progress"]) == ("done", {"judged": 2 * N, "left": 0, "reserved": 0})
    assert get(client, f"reviews/{review['id']}")["progress"] == {"wanted": 24, "done": 24, "reviewers": 1, "said": 24}


def test_nothing_shown_names_a_model(client: TestClient, two: tuple[Json, Json]) -> None:
    for kind in ("rating", "pairwise"):
        review = make_review(client, *two, kind=kind, name=kind)
        given = ask(client, review)
        said = str(given)
        for one in two:
            assert one["id"] not in said
            assert one["name"] not in said.replace(one["name"] + " ", "")  # outputs of this test begin with it
        assert set(given["task"]) == {"task", "input", "label", "references", "group", "outputs"}


def test_reviewers_at_once_get_different_tasks_until_the_time_is_up(
    client: TestClient, database: Database, two: tuple[Json, Json]
) -> None:
    review = make_review(client, two[0], sample={"n": 3})
    first = [ask(client, review, name)["task"]["task"] for name in ("ann", "bob", "cid")]
    assert sorted(first) == [0, 1, 2]
    nothing = ask(client, review, "dan")
    assert (nothing["task"], nothing["reason"]) == (None, "reserved")
    assert nothing["progress"] == {"judged": 0, "left": 3, "reserved": 3}
    with database.write() as session:
        session.connection().execute(text("UPDATE review_lease SET expires_at = 0 WHERE reviewer = 'bob'"))
    assert ask(client, review, "dan")["task"]["task"] == first[1]
    # Bob is late, and what he says is kept all the same: the task then has one judgement more than was asked for.
    for name in ("bob", "dan"):
        say(client, review, first[1], "bad", name)
    assert get(client, f"reviews/{review['id']}")["progress"] == {"wanted": 3, "done": 1, "reviewers": 2, "said": 2}
    assert ask(client, review, "bob")["reason"] == "reserved"


def test_tasks_that_fewest_judged_come_first(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, two[0], sample={"n": 4}, overlap=2)
    for place in (0, 2):
        say(client, review, place, "good", "ann")
    order = []
    while (given := ask(client, review, "bob"))["task"] is not None:
        order.append(given["task"]["task"])
        say(client, review, order[-1], "bad", "bob")
    assert order == [1, 3, 0, 2]


def test_changing_ones_mind_and_undo_add_to_the_record(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, two[0], sample={"n": 3}, reasons=["rude"])
    say(client, review, 0, "good")
    second = say(client, review, 0, "bad", reasons=["rude"], comment="sharp")
    assert (second["number"], second["supersedes"]) == (2, 1)
    say(client, review, 1, "skip", reasons=["cannot tell"])
    assert get(client, f"reviews/{review['id']}")["progress"]["done"] == 1
    assert undo(client, review)["task"] == 1
    assert undo(client, review)["task"] == 0
    assert undo(client, review, status=409)["error"]["code"] == "nothing_to_undo"
    assert get(client, f"reviews/{review['id']}")["progress"]["done"] == 0
    assert ask(client, review)["task"]["task"] == 0
    say(client, review, 0, "good")
    assert ask(client, review)["task"]["task"] == 1
    log = all_items(client, f"reviews/{review['id']}/judgements")
    assert [(one["task"], one["answer"], one["supersedes"]) for one in log] == [
        (0, "good", None), (0, "bad", 1), (1, "skip", None), (1, "withdrawn", 3), (0, "withdrawn", 2), (0, "good", 5),
    ]  # fmt: skip
    assert (log[1]["reasons"], log[1]["comment"], log[1]["sent_by"]) == (["rude"], "sharp", "local")
    assert log[0]["seconds"] is None
    assert log[5]["seconds"] >= 0


def test_the_same_id_is_stored_once(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, two[0])
    first = say(client, review, 0, "good", id="mine")
    assert say(client, review, 0, "good", id="mine", status=200) == first
    assert say(client, review, 0, "bad", id="mine", status=409)["error"]["code"] == "judgement_differs"
    assert say(client, review, 0, "good", "bob", id="mine", status=409)["error"]["code"] == "judgement_differs"
    gone = undo(client, review, id="back")
    assert undo(client, review, id="back", status=200) == gone
    assert undo(client, review, id="mine", status=409)["error"]["code"] == "judgement_differs"
    assert len(all_items(client, f"reviews/{review['id']}/judgements")) == 2


def test_without_a_name_the_reviewer_is_who_calls(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, two[0])
    assert ask(client, review, None)["reviewer"] == "local"
    said = post(client, f"reviews/{review['id']}/judgements", id="one", task=0, answer="good")
    assert (said["reviewer"], said["sent_by"]) == ("local", "local")


NO_REVIEWS: list[tuple[Json, str, str]] = [
    ({"evaluations": ["nope"]}, "evaluation_not_found", "There is no evaluation 'nope'"),
    ({"evaluations": []}, "invalid_request", "evaluations"),
    ({"evaluations": [0, 0]}, "review_invalid", "named twice"),
    ({"evaluations": [0], "kind": "pairwise"}, "review_invalid", "compares two evaluations or more"),
    ({"baseline": "nope"}, "review_invalid", "'nope' is not among"),
    ({"reasons": ["a", "a"]}, "review_invalid", "named twice in `reasons`"),
    ({"overlap": 0}, "invalid_request", "overlap"),
    ({"sample": {"n": 0}}, "invalid_request", "sample.n"),
    ({"sample": {"many": 1}}, "invalid_request", "sample.many"),
    ({"evaluations": [0], "sample": {"only": "flipped"}}, "review_invalid", "No item of the suite is 'flipped'"),
    ({"name": "x" * 201}, "invalid_request", "name"),
]


def test_what_makes_no_review(client: TestClient, two: tuple[Json, Json]) -> None:
    for fields, code, part in NO_REVIEWS:
        body = {"name": "tone", "kind": "rating", "evaluations": [0, 1], **fields}
        body["evaluations"] = [two[one]["id"] if isinstance(one, int) else one for one in body["evaluations"]]
        error = client.post("/api/v1/reviews", json=body).json()["error"]
        assert error["code"] == code, fields
        assert part in error["message"]
    assert get(client, "reviews")["items"] == []


def test_evaluations_of_two_suites_and_of_one_text_make_no_review(client: TestClient, two: tuple[Json, Json]) -> None:
    suite = make_suite(client, items(5), name="other")
    same = [evaluate(client, suite, ["yes"] * 5, name=name) for name in ("one", "copy")]
    assert make_review(client, two[0], same[0], status=409)["error"]["code"] == "suites_differ"
    refused = make_review(client, *same, kind="pairwise", status=400)
    assert "nothing to judge" in refused["error"]["message"]


def test_a_review_may_ask_for_wrong_or_flipped_items_only(client: TestClient, two: tuple[Json, Json]) -> None:
    assert make_review(client, *two, sample={"only": "wrong"})["n_items"] == N // 2
    assert make_review(client, *two, sample={"only": "flipped"})["n_items"] == N // 2 - 3
    assert make_review(client, two[1], sample={"only": "wrong"})["n_items"] == 3


def test_too_many_tasks_are_refused(client: TestClient) -> None:
    suite = make_suite(client, [{"id": f"i{n}", "input": "?", "references": ["yes"]} for n in range(3000)])
    many = [evaluate(client, suite, [str(n)] * 3000) for n in range(5)]
    refused = make_review(client, *many, kind="pairwise", sample={"n": None}, status=413)["error"]
    assert (refused["code"], "30,000 tasks" in refused["message"]) == ("review_too_large", True)
    against = make_review(client, *many, kind="pairwise", sample={"n": None}, baseline=many[0]["id"])
    assert against["n_tasks"] == 12_000


NO_JUDGEMENTS: list[tuple[Json, int, str]] = [
    ({"task": 999, "answer": "good"}, 404, "review_task_not_found"),
    ({"task": 0, "answer": "A"}, 400, "judgement_invalid"),
    ({"task": 0, "answer": "fine"}, 400, "invalid_request"),
    ({"task": 0, "answer": "bad", "reasons": ["odd"]}, 400, "judgement_invalid"),
    ({"task": 0, "answer": "bad", "reasons": ["cannot tell"]}, 400, "judgement_invalid"),
    ({"task": 0, "answer": "skip"}, 400, "judgement_invalid"),
    ({"task": 0, "answer": "skip", "comment": " "}, 400, "judgement_invalid"),
    ({"task": 0, "answer": "good", "id": "a b"}, 400, "invalid_request"),
    ({"task": 0, "answer": "good", "reviewer": ""}, 400, "invalid_request"),
]


def test_what_is_no_judgement(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, *two, reasons=["rude"])
    for said, status, code in NO_JUDGEMENTS:
        answer = client.post(f"/api/v1/reviews/{review['id']}/judgements", json={"id": "x", **said})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), said
    assert get(client, f"reviews/{review['id']}/judgements")["items"] == []


def test_pairs_of_the_same_text_are_not_asked(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, *two, kind="pairwise")
    assert review["progress"]["wanted"] == N // 2
    seen = set()
    while (given := ask(client, review)["task"]) is not None:
        assert given["outputs"][0]["text"] != given["outputs"][1]["text"]
        seen.add(given["task"])
        say(client, review, given["task"], "tie")
    (same, *_) = set(range(N)) - seen
    assert say(client, review, same, "tie", status=404)["error"]["code"] == "review_task_not_found"


def test_a_closed_review_takes_nothing_more(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, *two)
    kept = say(client, review, 0, "good", id="kept")
    closed = post(client, f"reviews/{review['id']}/close", 200)
    assert closed["closed_at"] is not None
    assert closed["outcome"] is None  # no item was rated for both
    assert post(client, f"reviews/{review['id']}/close", 200) == closed
    assert say(client, review, 1, "good", status=409)["error"]["code"] == "review_closed"
    assert undo(client, review, status=409)["error"]["code"] == "review_closed"
    assert ask(client, review)["reason"] == "closed"
    assert say(client, review, 0, "good", id="kept", status=200) == kept
    assert [one["id"] for one in get(client, "reviews", status="closed")["items"]] == [review["id"]]


def test_a_closed_rating_leaves_evaluations(client: TestClient, two: tuple[Json, Json]) -> None:
    review = make_review(client, *two, sample={"n": 2})
    for task in range(4):
        say(client, review, task, "good" if task else "bad")
    outcome = post(client, f"reviews/{review['id']}/close", 200)["outcome"]
    assert list(outcome["evaluations"]) == [one["id"] for one in two]
    left = [get(client, f"evaluations/{one}") for one in outcome["evaluations"].values()]
    assert [(one["suite_id"], one["n"], one["name"]) for one in left] == [
        (outcome["suite_id"], 2, "plain"), (outcome["suite_id"], 2, "tuned"),
    ]  # fmt: skip
    assert sorted(one["scores"][0]["value"] for one in left) == [0.5, 1.0]


def test_unknown_reviews(client: TestClient) -> None:
    for path in ("", "/result", "/items", "/judgements"):
        assert client.get(f"/api/v1/reviews/nope{path}").json()["error"]["code"] == "review_not_found"
    for path, body in (("next", {}), ("close", {}), ("undo", {"id": "a"})):
        assert client.post(f"/api/v1/reviews/nope/{path}", json=body).json()["error"]["code"] == "review_not_found"


def test_replicas_never_hand_a_task_to_two(client: TestClient, database_url: str, two: tuple[Json, Json]) -> None:
    """Reviewers at once, each with its own connection: on PostgreSQL, as behind two replicas."""
    review = make_review(client, *two)
    given: dict[str, int] = {}
    start = threading.Barrier(8)

    def reviewer(name: str) -> None:
        start.wait()
        given[name] = ask(client, review, name)["task"]["task"]

    threads = [threading.Thread(target=reviewer, args=(f"r{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given.values())) == 8


def test_counts_follow_whatever_is_said(client: TestClient, database: Database, two: tuple[Json, Json]) -> None:
    """Judging, changing one's mind, skipping and undoing at random, against a plain record of it."""
    review = make_review(client, two[0], sample={"n": 4}, overlap=2)
    dice = random.Random(5)
    words: dict[str, list[tuple[int, str]]] = {"ann": [], "bob": [], "cid": []}  # by reviewer, in order, standing
    for _ in range(40):
        name = dice.choice(list(words))
        own = words[name]
        if dice.random() < 0.25:
            status = 201 if own else 409
            answer = undo(client, review, name, status)
            if own:
                assert answer["task"] == own.pop()[0]
            continue
        task = ask(client, review, name)["task"]
        place = task["task"] if task is not None and dice.random() < 0.7 else dice.randrange(4)
        answer = dice.choice(["good", "bad", "skip"])
        say(client, review, place, answer, name, comment="so")
        own[:] = [one for one in own if one[0] != place] + [(place, answer)]
        if task is not None:
            assert task["task"] == place or task["task"] not in {one[0] for one in own}
    with database.read() as session:
        standing = {(one.reviewer, one.place): one.answer for one in store.standing(session, review["id"])}
        judged = {task.place: task.judged for task in store.tasks(session, review["id"])}
    assert standing == {(name, place): answer for name, own in words.items() for place, answer in own}
    assert judged == {
        place: sum(answer != "skip" for (_, at), answer in standing.items() if at == place) for place in range(4)
    }


def test_the_routes_are_handed_to_the_judge() -> None:
    """Those that read Parquet or compute, and no others: judging itself stays with the service."""
    paths = {
        f"{method} {route.path.replace('{review_id}', 'x')}"
        for route in review_routes.router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert {path.rpartition("/")[2] for path in paths if LONG.fullmatch(path)} == {
        "reviews", "next", "result", "items", "close",
    }  # fmt: skip
    assert LONG.fullmatch("GET /api/v1/reviews") is None
