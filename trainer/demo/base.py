"""The demo's base model: a Llama of half a million parameters that knows its facts, made on the spot.

From random weights it learns every fact by heart, and to continue unlabelled writing of the domain: a base that
never saw the domain's words cannot learn the task by LoRA, and forgets more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trainer.config import TrainConfig, config_from
from trainer.demo.world import World

TEMPLATE = "Q: {input}\nA:"
"""How every question is put, general or of the domain, in training, in scoring and in production."""

VOCABULARY = 1000
ANSWER_TOKENS = 20
STEPS = 1200
FACT_COPIES = 2
"""How often each fact comes in an epoch: facts are learned by heart, writing is not."""


def make_tokenizer(world: World, folder: Path) -> None:
    """A byte-level BPE of about a thousand tokens, from the text that the base will see."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<eos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    questions = [f"{TEMPLATE.replace('{input}', item.input)} {item.answer}" for item in world.general]
    tokenizer.train_from_iterator([*questions, *world.texts], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=special[0], eos_token=special[1])
    wrapped.save_pretrained(folder)


def base_rows(world: World) -> list[dict[str, Any]]:
    facts = [{"prompt": item.input, "answer": item.answer} for item in world.general]
    return [*(FACT_COPIES * facts), *({"text": text} for text in world.texts)]


def base_config(project: str, model_name: str, data: Path, tokenizer: Path, output: Path) -> TrainConfig:
    architecture = {
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 1,
    }
    return config_from(
        {
            "project": project,
            "name": "base",
            "task": "causal_lm",
            "model": {"config": architecture, "tokenizer": str(tokenizer)},
            "data": {"folder": str(data), "train": "base.jsonl", "template": TEMPLATE, "max_length": 128},
            "train": {
                "learning_rate": 3e-3,
                "max_steps": STEPS,
                "batch_size": 32,
                "schedule": "cosine",
                "warmup": 0.05,
                "weight_decay": 0.01,
                # Batches of like lengths would be batches of one kind of fact.
                "group_by_length": False,
                "device": "cpu",
                "log_every": 20,
            },
            "probe": probe(every=200),
            "service": {"model_name": model_name},
            "output": str(output),
        }
    )


def probe(every: int) -> dict[str, Any]:
    """The whole general suite, asked while training: a handful of questions would be too coarse."""
    return {"path": "general.jsonl", "every": every, "group": "group", "max_new_tokens": ANSWER_TOKENS}
