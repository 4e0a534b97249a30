"""Advice, as a table: what the run's config says, and what is said when it says nothing."""

from __future__ import annotations

import pytest

from service.forgetting.advice import advise
from service.forgetting.schemas import TaskResult

WORST = TaskResult(
    suite="general",
    metric="exact_match",
    n=100,
    before=1.0,
    after=0.356,
    margin=0.02,
    unparsed_before=0,
    unparsed_after=0,
    verdict="FAIL",
    reason=None,
    before_evaluation_id="b",
    after_evaluation_id="a",
)
LEARNING_RATE, EPOCHS, ADAPTER, REPLAY, FREEZE = range(5)


@pytest.mark.parametrize(
    ("params", "place", "evidence"),
    [
        ({"lr": "1e-3"}, LEARNING_RATE, "This run used 0.001, and 'general' went from 1.000 to 0.356."),
        ({"optimizer.lr": "3e-4"}, LEARNING_RATE, "This run used 0.0003"),
        ({"head_learning_rate": "1", "learning_rate": "5e-5"}, LEARNING_RATE, "This run used 5e-05"),
        ({"learning_rate": "auto"}, LEARNING_RATE, "The run does not record it."),
        ({"num_train_epochs": "3"}, EPOCHS, "This run was to make 3 epochs."),
        ({"num_train_epochs": "3", "max_steps": "400"}, EPOCHS, "This run was to make 400 steps."),
        ({"num_train_epochs": "3", "max_steps": "-1"}, EPOCHS, "This run was to make 3 epochs."),
        ({}, EPOCHS, "The run does not record it."),
        ({"method.name": "lora", "method.r": "8"}, ADAPTER, "This run already used 'lora' with rank 8 and forgot"),
        ({"method": "full"}, ADAPTER, "This run trained all weights (method 'full')."),
        ({"replay.share": "0.2"}, REPLAY, "This run already replayed 20%: replay cannot rescue"),
        ({"replay": "0.05"}, REPLAY, "This run replayed 5%."),
        ({"lr": "1"}, REPLAY, "This run records no replay."),
        ({"freeze_layers": "4"}, FREEZE, "This run set 4."),
        ({"method": "lora"}, FREEZE, "This run records no frozen layers."),
        (None, REPLAY, "No run is linked to this audit."),
    ],
)
def test_evidence(params: dict[str, str] | None, place: int, evidence: str) -> None:
    assert advise(params, None, WORST)[place].evidence.startswith(evidence)


def test_the_versions_method_goes_before_the_configs() -> None:
    assert "'qlora'" in advise({"method": "full"}, "qlora", WORST)[ADAPTER].evidence


def test_an_adapter_is_never_called_a_protection() -> None:
    for method in (None, "full", "lora"):
        assert "does not protect by itself while it is active" in advise({}, method, WORST)[ADAPTER].text
