"""The Data page on a real service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.conftest import running_service
from tests.dashboard.seed import LABELS, QUESTIONS, Seed
from tests.dashboard.test_pages import open_page, text
from tunescope import Client

DATASET = "data-page-train"


@pytest.fixture(autouse=True)
def service(live_service: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TUNESCOPE_URL", live_service)
    clear()
    yield live_service
    clear()


def clear() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


def add_dataset(url: str, name: str = DATASET) -> str:
    """A training set: six intents, one of them repeated with another label, and two sentences of the test suite."""
    items = [
        {
            "id": f"{label}-{number}",
            "input": f"{number}: {QUESTIONS[label]} About my {('cards', 'payments')[number % 2]}, no. {number % 7}",
            "label": label,
            "tags": ["short" if number % 2 else "long"],
        }
        for number in range(20)
        for label in LABELS
    ]
    items.append({**items[0], "id": "again", "label": LABELS[1]})
    items.append({"id": "leaked", "input": f"{QUESTIONS['lost_card']} (case 3)", "label": "lost_card"})
    with Client(url) as client:
        return str(client.create_dataset(name, items, source="train.csv", data_hash="sha256:4b1f7c29d3e8a101")["id"])


@pytest.fixture(scope="module")
def dataset(live_service: str) -> str:
    return add_dataset(live_service)


def test_overview(record: Seed, dataset: str) -> None:
    app = open_page("data", id=dataset)
    said = text(app)
    for part in ("contradiction", "1 text comes with different answers", "train.csv", "lora-r64", "Covered by tag"):
        assert part in said
    assert len(app.get("plotly_chart")) == 2


def test_repeated_texts_side_by_side(record: Seed, dataset: str) -> None:
    said = text(open_page("data", id=dataset, tab="Repeated"))
    assert re.search(r"card_arrival-0, again", said)
    assert 'class="ts-diff"' in said
    assert "a similarity of 0.8 or more" in said


def test_doubtful_labels_of_a_data_set_and_of_a_suite(record: Seed, dataset: str) -> None:
    assert "confident learning" in text(open_page("data", id=dataset, tab="Labels"))
    with Client() as client:
        suite = client.list_suites(name=record.intents)["items"][0]["id"]
        general = client.list_suites(name=record.general)["items"][0]["id"]
    said = text(open_page("data", id=suite, tab="Labels"))
    assert "Asked: 4 models (full, lora-r64, lora-r16, base)" in said
    assert "lora-r64: card_arrival" in said
    assert "Cannot tell" in text(open_page("data", id=general, tab="Labels"))


def test_doubtful_labels_of_multi_label_items(live_service: str) -> None:
    items = [
        {"id": f"m{n}", "input": f"{' '.join(own)} question number {n}", "labels": own}
        for n, own in enumerate([["card"], ["card", "<loan>"], ["<loan>"], []] * 10)
    ]
    with Client(live_service) as client:
        data = client.create_dataset("data-page-topics", [{**items[0], "labels": ["<loan>"]}, *items[1:]])["id"]
        suite = client.create_suite(
            name="data-page-topics", task_type="multi_label", items=items, metrics=["subset_accuracy"]
        )["id"]
        for name in ("one", "two"):
            told = [{"id": one["id"], "predicted_labels": one["labels"]} for one in items]
            told[2]["predicted_labels"] = []
            client.create_evaluation(suite_id=suite, name=name, predictions=told)
    said = text(open_page("data", id=data, tab="Labels"))
    assert "Each label is judged by itself" in said
    assert re.search(r"m0.*with card \(\d\d\.?\d? %\)", said, re.DOTALL)
    said = text(open_page("data", id=suite, tab="Labels"))
    assert "1 item with doubtful labels" in said
    for part in ("without &lt;loan&gt;", "2 of 2", "one: no label"):
        assert part in said


def test_leakage_and_split_check(record: Seed, dataset: str) -> None:
    with Client() as client:
        suite = client.list_suites(name=record.intents)["items"][0]["id"]
    app = open_page("data", id=dataset, tab="Leakage", against=suite)
    said = text(app)
    assert "1 of 420 test items (0.2 %) are in the training set" in said
    assert "Labels, chi-square" in said
    assert "intent-lost_card-3" in said
    assert len(app.get("plotly_chart")) == 2


def test_an_empty_service_says_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_service(tmp_path / "empty") as service:
        monkeypatch.setenv("TUNESCOPE_URL", service.url)
        clear()
        app: AppTest = open_page("data")
        assert "tunescope data check train.csv --test test.csv" in text(app)
        with Client(service.url) as client:
            client.create_dataset("only", [{"id": "1", "input": "one"}])
        clear()
        assert "Nothing to compare with" in text(open_page("data", tab="Leakage"))
        said = text(open_page("data"))
        assert "too small" in said
        assert "1 items" not in said
