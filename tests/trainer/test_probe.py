from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import PreTrainedTokenizerFast

from tests.trainer.conftest import built, llama, write_jsonl
from tests.trainer.test_methods import sums
from trainer.config import ProbeConfig, TrainingConfig
from trainer.fitting import fit
from trainer.loop import train
from trainer.material import Examples
from trainer.probe import ForgettingProbe
from trainer.suite import Item

STEPS = TrainingConfig(learning_rate=1e-2, max_steps=7, batch_size=8, device="cpu")
ITEMS = [
    Item(id="1", input="0+1=", answer="1", group="small"),
    Item(id="2", input="1+1=", answer="2", group="small"),
    Item(id="3", input="4+3=", answer="7", group="large"),
]


class Notes:
    def __init__(self) -> None:
        self.values: dict[int, dict[str, float]] = {}

    def __call__(self, values: dict[str, float], step: int) -> None:
        self.values[step] = values


def watched(
    tokenizer: PreTrainedTokenizerFast, folder: Path, config: ProbeConfig, answers: frozenset[str] = frozenset()
) -> tuple[ForgettingProbe, Notes]:
    notes = Notes()
    probe = ForgettingProbe(config, ITEMS, "{input}", tokenizer, notes, answers)
    fit(llama(), Examples(sums(tokenizer)), STEPS, folder=folder, pad_id=0, callbacks=[probe])
    return probe, notes


def test_it_asks_before_every_so_often_and_at_the_end(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    answers = frozenset(str(number) for number in range(10))
    probe, notes = watched(tokenizer, tmp_path, ProbeConfig(path="-", every=3, max_new_tokens=3), answers)
    assert list(notes.values) == [0, 3, 6, 7]
    assert set(notes.values[3]) == {
        "probe/general",
        "probe/general/small",
        "probe/general/large",
        "probe/general/domain_share",
    }
    assert probe.history == [(step, values["probe/general"]) for step, values in notes.values.items()]
    assert probe.stopped_at is None


def test_its_numbers(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.probe.generate", lambda *_, **__: ["1", "delay", "7"])
    notes = Notes()
    probe = ForgettingProbe(ProbeConfig(path="-"), ITEMS, "{input}", tokenizer, notes, frozenset({"delay", "lost"}))
    assert probe.measure(None, 5) == pytest.approx(2 / 3)
    assert notes.values[5] == {
        "probe/general": pytest.approx(2 / 3),
        "probe/general/small": 0.5,
        "probe/general/large": 1.0,
        "probe/general/domain_share": pytest.approx(1 / 3),
    }


def test_it_stops_what_forgets_too_much(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter([["1", "2", "7"], ["1", "2", "?"], ["1", "?", "?"], ["?", "?", "?"]])
    monkeypatch.setattr("trainer.probe.generate", lambda *_, **__: next(said))
    probe, notes = watched(tokenizer, tmp_path, ProbeConfig(path="-", every=2, margin=0.5))
    assert list(notes.values) == [0, 2, 4]
    assert probe.stopped_at == 4


def test_a_probe_changes_nothing_about_the_training(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(STEPS, log_every=1)
    silent = fit(llama(), Examples(sums(tokenizer)), settings, folder=tmp_path / "a", pad_id=0)
    probe = ForgettingProbe(ProbeConfig(path="-", every=2), ITEMS, "{input}", tokenizer, Notes())
    asked = fit(llama(), Examples(sums(tokenizer)), settings, folder=tmp_path / "b", pad_id=0, callbacks=[probe])
    assert asked.loss == silent.loss


def test_a_run_carries_its_probe(sums_config: dict[str, Any], tmp_path: Path) -> None:
    write_jsonl(tmp_path / "general.jsonl", [{"prompt": "hi", "answer": "ho", "kind": "talk"}])
    probe = {"path": "general.jsonl", "every": 4, "group": "kind", "name": "talk"}
    result = train(built(sums_config, probe=probe)).result
    assert [step for step, _ in result.probe] == [0, 4, 8]
