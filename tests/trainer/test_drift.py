"""Drift against a naive reference in float64: whole texts at once, no cache, no batch, one sum at a time."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM
from typer.testing import CliRunner

from tests.trainer.conftest import built, llama, write_jsonl
from trainer import cli
from trainer.drift import DriftError, Reader, compare, measure, summarise, without_adapter
from trainer.loop import train
from trainer.methods import choose

ROWS = [
    [int(token) for token in np.random.default_rng(place).integers(2, 250, size=size)]
    for place, size in enumerate((1, 2, 17, 40, 63, 5, 33, 12, 8, 21, 50))
]


def naive(base: Any, tuned: Any, rows: list[list[int]]) -> np.ndarray:
    """The definitions, written out: for each text (tokens, NLL base, NLL tuned, KL)."""
    found = []
    for row in rows:
        tokens, first, second, divergence = 0, 0.0, 0.0, 0.0
        with torch.no_grad():
            p, q = (model(torch.tensor([row])).logits[0].double().softmax(-1) for model in (base, tuned))
        for place in range(len(row) - 1):
            tokens += 1
            first -= float(p[place, row[place + 1]].log())
            second -= float(q[place, row[place + 1]].log())
            divergence += float((p[place] * (p[place] / q[place]).log()).sum())
        found.append((tokens, first, second, divergence))
    return np.array(found).T


@pytest.fixture(scope="module")
def pair() -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    return llama(0).double().eval(), llama(1).double().eval()


@pytest.mark.parametrize("pass_tokens", [1, 24, 100_000])
def test_windows_and_batches_change_nothing(pair: tuple[Any, Any], pass_tokens: int) -> None:
    sums = compare(Reader(pair[0]), Reader(pair[1]), ROWS, pass_tokens=pass_tokens)
    got = np.stack([sums.tokens, sums.base, sums.tuned, sums.kl])
    np.testing.assert_allclose(got, naive(*pair, ROWS), rtol=1e-9, atol=1e-9)


def test_models_with_positions_of_their_own() -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        shape = GPT2Config(
            vocab_size=258, n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1
        )
        models.append(GPT2LMHeadModel(shape).double().eval())
    sums = compare(Reader(models[0]), Reader(models[1]), ROWS, pass_tokens=40)
    got = np.stack([sums.tokens, sums.base, sums.tuned, sums.kl])
    np.testing.assert_allclose(got, naive(*models, ROWS), rtol=1e-9, atol=1e-9)


def test_float32_is_near_the_reference_and_a_model_is_at_no_distance_from_itself() -> None:
    first, second = llama(0), llama(1)
    sums = compare(Reader(first), Reader(second), ROWS)
    np.testing.assert_allclose(sums.kl, naive(first.double(), second.double(), ROWS)[3], rtol=2e-4, atol=1e-5)
    same = compare(Reader(first), Reader(first), ROWS)
    assert same.kl.tolist() == [0.0] * len(ROWS)
    assert same.base.tolist() == same.tuned.tolist()


def test_no_more_logits_at_once_than_asked(pair: tuple[Any, Any]) -> None:
    widths: list[int] = []
    handle = pair[0].register_forward_hook(lambda _m, _a, output: widths.append(output.logits[..., 0].numel()))
    compare(Reader(pair[0]), Reader(pair[1]), ROWS, pass_tokens=24)
    handle.remove()
    assert max(widths) <= 24


def test_the_mode_is_given_back(pair: tuple[Any, Any]) -> None:
    tuned = llama(1)
    tuned.train()
    compare(Reader(pair[0]), Reader(tuned), ROWS[:3])
    assert tuned.training
    assert not pair[0].training


def test_an_adapter_switched_off_is_its_base() -> None:
    method = choose({"name": "lora", "r": 4})
    tuned = method.prepare(llama(0), task="causal_lm", seed=0, device=torch.device("cpu")).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    base = without_adapter(tuned)
    assert base is not None
    found = compare(base, Reader(tuned), ROWS)
    expected = compare(Reader(llama(0).eval()), Reader(tuned), ROWS)
    np.testing.assert_allclose(found.kl, expected.kl, rtol=1e-5)
    np.testing.assert_allclose(found.base, expected.base, rtol=1e-5)
    assert found.kl.sum() > 0.1
    assert without_adapter(llama(0)) is None


def test_the_summary_is_a_ratio_of_sums_with_texts_resampled(pair: tuple[Any, Any]) -> None:
    texts = [f"text {place}" for place in range(len(ROWS))]
    sums = compare(Reader(pair[0]), Reader(pair[1]), ROWS)
    found = summarise(sums, texts, seed=3)
    tokens, base, tuned, kl = (part.sum() for part in naive(*pair, ROWS))
    assert found.n_tokens == tokens == sum(len(row) - 1 for row in ROWS)
    assert found.n_texts == len(ROWS) - 1  # one has a single token
    assert found.delta_nll.value == pytest.approx((tuned - base) / tokens)
    assert found.perplexity_ratio.value == pytest.approx(np.exp(tuned / tokens) / np.exp(base / tokens))
    assert found.kl.value == pytest.approx(kl / tokens)
    for one in (found.delta_nll, found.perplexity_ratio, found.kl):
        assert one.interval is not None
        assert one.interval[0] < one.value < one.interval[1]
    assert found == summarise(sums, texts, seed=3)
    assert found.text_hash == hashlib.sha256("".join(f"{text}\0" for text in texts).encode()).hexdigest()


def test_intervals_cover_texts_that_were_not_read() -> None:
    """Long and short texts with a drift of their own each: the interval holds the ratio of the expectations."""
    generator = np.random.default_rng(0)
    covered = 0
    for seed in range(300):
        tokens = generator.integers(5, 200, size=60).astype(np.float64)
        gap = tokens * generator.normal(0.2, 0.3, size=60)
        zero = np.zeros(60)
        sums = type("S", (), {"tokens": tokens, "base": zero, "tuned": gap, "kl": zero})
        interval = summarise(sums, ["t"], seed=seed).delta_nll.interval  # type: ignore[arg-type]
        assert interval is not None
        covered += interval[0] <= 0.2 <= interval[1]
    assert 0.90 <= covered / 300 <= 0.98


def test_what_cannot_be_compared_is_refused(pair: tuple[Any, Any]) -> None:
    other = llama(1).double().eval()
    other.resize_token_embeddings(300)
    with pytest.raises(DriftError, match="vocabularies of 258 and 300"):
        compare(Reader(pair[0]), Reader(other), ROWS)
    with pytest.raises(DriftError, match="no text has two tokens"):
        summarise(compare(Reader(pair[0]), Reader(pair[1]), [[5], []]), ["a", ""])
    one = summarise(compare(Reader(pair[0]), Reader(pair[1]), [[5, 6, 7]]), ["a"])
    assert (one.delta_nll.interval, one.n_texts, one.resamples) == (None, 1, None)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_measures_its_drift(sums_config: dict[str, Any], tmp_path: Path, method: str) -> None:
    write_jsonl(tmp_path / "wiki.jsonl", [{"text": f"General text number {n}."} for n in range(6)])
    config = built(sums_config, drift={"path": "wiki.jsonl", "limit": 5, "max_length": 32}, method={"name": method})
    trained = train(config)
    found = trained.result.drift
    assert found is not None
    assert (found.n_texts, found.n_tokens > 50) == (5, True)
    assert found.kl.value > 0
    saved = msgspec.json.decode((tmp_path / "out" / "drift.json").read_bytes())
    assert msgspec.convert(saved, type(found)) == found


def test_the_command(causal_folder: Path, sums_config: dict[str, Any], tmp_path: Path) -> None:
    texts = write_jsonl(tmp_path / "wiki.jsonl", [{"body": f"General text number {n}."} for n in range(6)])
    trained = train(built(sums_config, method={"name": "lora"}))
    runner, app = CliRunner(), __import__("typer").Typer()
    app.command()(cli.drift)
    output = tmp_path / "drift.json"
    folders = (str(causal_folder), trained.result.model_folder, str(texts))
    done = runner.invoke(app, [*folders, "--column", "body", "--output", str(output), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "nats a token more than the base" in " ".join(done.output.split())
    found = json.loads(output.read_text())
    assert (found["n_texts"], found["kl"]["value"] > 0) == (6, True)
    refused = runner.invoke(app, [*folders, "--output", str(output)])
    assert (refused.exit_code, "no column 'text'" in refused.output) == (2, True)


def test_measure_cuts_long_texts(pair: tuple[Any, Any], tokenizer: Any) -> None:
    found = measure(Reader(pair[0]), Reader(pair[1]), tokenizer, ["abcdefghij" * 9, "abc"], max_length=20)
    assert found.n_tokens == 19 + 2
