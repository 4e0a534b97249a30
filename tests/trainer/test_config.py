from __future__ import annotations

from pathlib import Path

import pytest

from trainer.config import load_config
from trainer.errors import ConfigError

WHOLE = """\
project: intents
task: classification
model: {path: base}
data:
  train: train.csv
train:
  learning_rate: 1e-4
output: out
"""


def load(tmp_path: Path, text: str, *overrides: str) -> list[object]:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    return list(load_config(path, overrides))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a config is a YAML mapping with project, task, model, data and output."),
        ("- a\n- b\n", "a config is a YAML mapping with project, task, model, data and output."),
        ("a: [1,\n", ", line 2: expected the node content, but found '<stream end>'."),
        (WHOLE + "trian: {}\n", ", line 9: there is no setting trian."),
        (WHOLE.replace("train.csv", "train.csv\n  txet: a"), ", line 6: there is no setting data.txet."),
        (WHOLE.replace("1e-4", "fast"), ", line 7: train.learning_rate: expected `float`, got `str`."),
        (WHOLE.replace("1e-4", "-1e-4"), ", line 7: train.learning_rate: expected `float` > 0.0."),
        (WHOLE.replace("classification", "ranking"), ", line 2: task: invalid enum value 'ranking'."),
        (WHOLE.replace("output: out\n", ""), ", line 1: output is missing."),
        (WHOLE.replace("  train: train.csv", "  test: a.csv"), ", line 4: data.train is missing."),
        (
            WHOLE.replace("{path: base}", "{path: base, module: m}"),
            "model needs exactly one of path, module and config.",
        ),
        (
            WHOLE.replace("{path: base}", "{config: {model_type: bert}}"),
            "model.tokenizer is needed beside model.config.",
        ),
        (WHOLE + "method: {r: 8}\n", "method needs a name, such as full, lora or qlora."),
        (WHOLE + "evaluate: [{suite: s}]\n", "evaluate needs data.test, or a path in each entry."),
        (
            WHOLE + "evaluate: [{suite: s, path: a}, {suite: s, path: b}]\n",
            "evaluate: each suite needs a name of its own.",
        ),
        (WHOLE + "replay: {path: general.jsonl}\n", "replay is for causal_lm, not for classification."),
        (WHOLE + "runs: full\n", ", line 9: runs is a list of mappings, one for each variant."),
        (WHOLE + "runs: [{name: a}, {name: a}]\n", ", line 9: each of the runs needs a name of its own."),
        (
            WHOLE + "runs:\n  - name: a\n  - name: b\n    train:\n      epochs: 0\n",
            ", line 13: train.epochs: expected `float` > 0.0.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'config.yaml'}")
    assert message.endswith(sentence)
    assert "\n" not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file\.$"):
        load_config(tmp_path / "none.yaml")


def test_an_exponent_without_a_point_is_a_number(tmp_path: Path) -> None:
    [config] = load(tmp_path, WHOLE)
    assert config.train.learning_rate == 1e-4  # type: ignore[attr-defined]


def test_variants_are_laid_over_the_file_and_overrides_over_both(tmp_path: Path) -> None:
    text = WHOLE + "runs:\n  - name: a\n  - name: b\n    train: {learning_rate: 2e-3}\n    method: {name: lora, r: 4}\n"
    first, second = load_config(_written(tmp_path, text), ["train.epochs=7", "data.label=kind"])
    assert (first.train.learning_rate, second.train.learning_rate) == (1e-4, 2e-3)
    assert (first.method, second.method) == ({"name": "full"}, {"name": "lora", "r": 4})
    assert {first.train.epochs, second.train.epochs} == {7.0}
    assert {first.data.label, second.data.label} == {"kind"}
    assert (first.output, second.output) == (str(Path("out/a")), str(Path("out/b")))


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train.epochs=[", "train.epoch=3"])
def test_a_bad_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path, WHOLE, override)


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    return path
