from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments

from tests.trainer.conftest import built, llama, write_jsonl
from tests.trainer.test_methods import sums
from trainer.batches import Collator
from trainer.config import ProbeConfig, TrainingConfig
from trainer.fitting import fit
from trainer.loop import train
from trainer.material import Examples
from trainer.probe import ForgettingProbe
from trainer.suite import Item
from tunescope import Client, TunescopeError
from tunescope.transformers import ForgettingProbe as AnyProbe
from tunescope.transformers import TunescopeCallback, greedy

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


# --- any Trainer's ---


def trainer_with(
    tokenizer: PreTrainedTokenizerFast, folder: Path, *callbacks: TrainerCallback, steps: int = 6
) -> Trainer:
    """Transformers' own Trainer, as a script of one's own would use it."""
    rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in sums(tokenizer)]
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, learning_rate=1e-2, use_cpu=True,
        report_to="none", disable_tqdm=True, save_strategy="no", logging_steps=100, remove_unused_columns=False,
    )  # fmt: skip
    return Trainer(
        llama(), arguments, train_dataset=rows, data_collator=Collator(0), callbacks=list(callbacks),
    )  # fmt: skip


QUESTIONS = [{"id": "a", "input": "0+1=", "answer": "1", "group": "sums"}, {"id": "b", "input": "hi", "answer": "ho"}]


def test_a_probe_in_any_trainer_asks_records_and_stops(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    said = iter([["1", "ho"], ["1", "?"], ["?", "?"], ["?", "?"]])
    notes = Notes()
    probe = AnyProbe(QUESTIONS, ask=lambda *_: next(said), record=notes, name="mine", every=2, margin=0.5)
    trainer_with(tokenizer, tmp_path, probe, steps=20).train()
    assert notes.values == {
        0: {"probe/mine": 1.0, "probe/mine/sums": 1.0},
        2: {"probe/mine": 0.5, "probe/mine/sums": 1.0},
        4: {"probe/mine": 0.0, "probe/mine/sums": 0.0},
    }
    assert probe.stopped_at == 4


def test_the_models_own_answers_are_those_of_the_trainers_decoding(tokenizer: PreTrainedTokenizerFast) -> None:
    model = llama(3)
    prompts = ["0+1=", "a much longer question than that", "x"]
    model.train()
    texts = [tokenizer.decode(ids, skip_special_tokens=True) for ids in raw(model, tokenizer, prompts)]
    expected = [text.lstrip("\n").partition("\n")[0] for text in texts]
    assert greedy(tokenizer, 6, batch_size=2)(model, prompts) == expected
    assert model.training
    assert tokenizer.padding_side == "right"


def raw(model: Any, tokenizer: PreTrainedTokenizerFast, prompts: list[str]) -> list[list[int]]:
    """Six greedy tokens after each prompt, one at a time, nothing padded and nothing cached."""
    model.eval()
    found = []
    for prompt in prompts:
        ids = list(tokenizer(prompt)["input_ids"])
        start = len(ids)
        for _ in range(6):
            with torch.no_grad():
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
        found.append(ids[start:])
    model.train()
    return found


def test_a_probe_beside_the_recorder_keeps_its_answers_as_evaluations(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, live_service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESCOPE_DIR", str(tmp_path / "journal"))
    with Client(live_service) as client:
        suite = client.create_suite(
            name="probe-kept", task_type="generation", metrics=["exact_match"],
            items=[{"id": one["id"], "input": one["input"], "references": [one["answer"]]} for one in QUESTIONS],
        )  # fmt: skip
        recorder = TunescopeCallback(project="probed", url=live_service, system_interval=None, quiet=True)
        said = iter([["1", "ho"], ["?", "ho"], ["1", "?"], ["1", "ho"]])
        probe = AnyProbe(
            QUESTIONS, ask=lambda *_: next(said), record=recorder, every=2, client=client, suite_id=suite["id"]
        )
        trainer_with(tokenizer, tmp_path, recorder, probe).train()
        assert recorder.run is not None
        found = client.forgetting_events(recorder.run.id, "probe-kept")
        assert [(one["step"], one["forgotten"]) for one in found["checkpoints"]] == [(0, 0), (2, 1), (4, 1), (6, 0)]
        assert (found["events"], found["never_forgotten"]) == (2, 0)
        assert client.get_run(recorder.run.id)["metrics"]["probe/general"]["count"] == 4


def test_a_service_that_is_away_does_not_stop_the_training(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Client("http://127.0.0.1:9") as client:
        probe = AnyProbe(QUESTIONS, ask=lambda *_: ["1", "ho"], every=2, client=client, suite_id="x")
        trainer_with(tokenizer, tmp_path, probe, steps=2).train()
    assert "the probe's answers at step 2 were not kept" in caplog.text
    assert probe.history == [(0, 1.0), (2, 1.0)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"items": []},
        {"ask": None},
        {"tokenizer": 1},
        {"every": 0},
        {"margin": 1.5},
        {"suite_id": "x"},
    ],
)
def test_a_probe_that_cannot_work_says_so(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"items": QUESTIONS, "ask": lambda *_: [], **wrong}
    with pytest.raises(TunescopeError):
        AnyProbe(given.pop("items"), **given)


def test_answers_carry_how_they_were_made(sums_config: dict[str, Any], live_service: str) -> None:
    sums_config["evaluate"][0] |= {"before": True, "suite": "conditioned"}
    with Client(live_service) as client:
        (scored,) = train(built(sums_config), client=client).result.scored
        assert scored.evaluation is not None
        assert scored.evaluation_before is not None
        settings = scored.evaluation["settings"]
        assert settings == scored.evaluation_before["settings"]
        assert {name: settings[name] for name in ("num_fewshot", "temperature", "batch_size", "precision")} == {
            "num_fewshot": 0, "temperature": 0, "batch_size": 64, "precision": "float32",
        }  # fmt: skip
        protected = [{"suite": "conditioned", "margin": 0.5, "minimum_n": 1}]
        policy = client.create_policy(name="conditioned", protected=protected)
        audit = client.create_audit(
            policy_id=policy["id"], before=[scored.evaluation_before["id"]], after=[scored.evaluation["id"]]
        )
        states = {row["aspect"]: row["state"] for row in audit["tasks"][0]["compared"]}
        assert set(states.values()) == {"equal"}
        assert set(states) == {"prompt", "generation", "few-shot", "batch size", "precision"}
