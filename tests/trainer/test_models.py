from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.trainer.conftest import built
from trainer.config import ModelConfig
from trainer.errors import ModelError
from trainer.loop import train
from trainer.models import CARD, Card, load, load_base, read_card, save

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


@torch.inference_mode()
def logits(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    output = model.eval()(**tokenizer(["3+1=", "1+1="], return_tensors="pt"))
    return torch.as_tensor(output.logits)


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("task", ["sums_config", "tickets_config"])
def test_what_is_saved_answers_as_what_was_trained(task: str, method: str, request: pytest.FixtureRequest) -> None:
    config = built(request.getfixturevalue(task), method={"name": method})
    trained = train(config)
    loaded = load(Path(trained.result.model_folder))
    assert torch.equal(logits(loaded.model, loaded.tokenizer), logits(trained.model, trained.tokenizer))
    assert loaded.card.task == config.task
    assert loaded.card.method["name"] == method


def test_an_adapter_on_a_base_built_in_memory_can_be_loaded(
    sums_config: dict[str, Any], tokenizer_folder: Path
) -> None:
    model = {"config": LLAMA, "tokenizer": str(tokenizer_folder)}
    trained = train(built(sums_config, model=model, method={"name": "lora"}))
    loaded = load(Path(trained.result.model_folder))
    assert torch.equal(logits(loaded.model, loaded.tokenizer), logits(trained.model, trained.tokenizer))


def test_mixed_precision_ends_with_the_training(sums_config: dict[str, Any]) -> None:
    config = built(sums_config, train={**sums_config["train"], "precision": "bf16"})
    trained = train(config)
    loaded = load(Path(trained.result.model_folder))
    assert torch.equal(logits(loaded.model, loaded.tokenizer), logits(trained.model, trained.tokenizer))


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("auto", torch.float16)])
def test_random_weights_are_held_in_the_type_asked_for(
    dtype: Any, expected: torch.dtype, tokenizer_folder: Path
) -> None:
    config = ModelConfig(config={**LLAMA, "dtype": "float16"}, tokenizer=str(tokenizer_folder), dtype=dtype)
    model, _ = load_base(config, "causal_lm", None, 0)
    assert {parameter.dtype for parameter in model.parameters()} == {expected}


def test_random_layers_start_from_the_seed(encoder_folder: Path, tokenizer_folder: Path) -> None:
    def head(seed: int) -> torch.Tensor:
        labels = ["a", "b", "c", "d"]
        torch.rand(3)
        model, _ = load_base(ModelConfig(config=LLAMA, tokenizer=str(tokenizer_folder)), "classification", labels, seed)
        assert model.config.id2label == dict(enumerate(labels))
        return torch.as_tensor(model.score.weight)

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_a_package_may_carry_the_weights(causal_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights_carrier").mkdir()
    (tmp_path / "weights_carrier" / "__init__.py").write_text("raise RuntimeError('it is not run')")
    (tmp_path / "weights_carrier" / "inner").symlink_to(causal_folder)
    monkeypatch.syspath_prepend(tmp_path)
    model, tokenizer = load_base(ModelConfig(module="weights_carrier:inner"), "causal_lm", None, 0)
    expected, _ = load_base(ModelConfig(path=str(causal_folder)), "causal_lm", None, 0)
    assert torch.equal(logits(model, tokenizer), logits(expected, tokenizer))
    with pytest.raises(ModelError, match="the package 'weights_carrier' has no folder 'model'"):
        load_base(ModelConfig(module="weights_carrier"), "causal_lm", None, 0)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (ModelConfig(path="/no/such/folder"), "model.path: there is no folder /no/such/folder."),
        (ModelConfig(path="./here"), "model.path: there is no folder "),
        (ModelConfig(path="/tmp"), "model.path: /tmp holds no config.json, so no model."),
        (ModelConfig(module="no_such_package"), "model.module: no Python package 'no_such_package' is installed"),
        (ModelConfig(config={"model_type": "none"}, tokenizer="/tmp"), "model {'model_type': 'none'}: "),
    ],
)
def test_a_model_that_is_not_there(config: ModelConfig, sentence: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_base(config, "causal_lm", None, 0)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_an_adapter_without_its_card_is_refused(sums_config: dict[str, Any]) -> None:
    folder = Path(train(built(sums_config, method={"name": "lora"})).result.model_folder)
    (folder / CARD).unlink()
    with pytest.raises(ModelError, match=r"an adapter without its tunescope\.json"):
        load(folder)
    (folder / CARD).write_text("{}")
    with pytest.raises(ModelError, match=r"tunescope\.json: Object missing required field `task`"):
        load(folder)
    with pytest.raises(ModelError, match="no model is saved there"):
        load(folder.parent)


def test_a_folder_of_anothers_making_is_a_plain_causal_model(causal_folder: Path) -> None:
    assert read_card(causal_folder).prompt_template is None
    assert load(causal_folder).card.task == "causal_lm"


def test_saving_replaces_a_folder_whole(
    causal_folder: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model, _ = load_base(ModelConfig(path=str(causal_folder)), "causal_lm", None, 0)
    card = Card(task="causal_lm", method={"name": "full"}, base=ModelConfig(path="x"), prompt_template="Q: {input}\nA:")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old.txt").write_text("old")
    save(tmp_path / "model", model, tokenizer, card)
    assert not (tmp_path / "model" / "old.txt").exists()
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    assert json.loads((tmp_path / "model" / CARD).read_text())["prompt_template"] == "Q: {input}\nA:"
