"""A callback for the Transformers Trainer (and those built on it, such as TRL's):

    from tunescope.transformers import TunescopeCallback

    trainer = Trainer(model, args, ..., callbacks=[TunescopeCallback(project="intents")])

and a probe that asks general questions while it trains, and can stop a training that forgets:

    recorder = TunescopeCallback(project="intents")
    probe = ForgettingProbe(questions, tokenizer=tokenizer, every=100, margin=0.05, record=recorder)
    trainer = Trainer(model, args, ..., callbacks=[recorder, probe])

The only module of this package that imports transformers.
"""

from __future__ import annotations

import hashlib
import json
import logging
import resource
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tunescope._client import Client
from tunescope._exceptions import TunescopeError
from tunescope._run import Run, init
from tunescope.media import Histogram

__all__ = ["ForgettingProbe", "TunescopeCallback"]

log = logging.getLogger("tunescope")

Ask = Callable[[Any, Sequence[str]], Sequence[str]]
LARGEST_HASHED = 1 << 30
LABEL_MAPS = ("id2label", "label2id")


class TunescopeCallback(TrainerCallback):  # type: ignore[misc]
    """Records a training: arguments, model config, parameter counts, every log, throughput, memory and checkpoints.

    Give it a `run`, which stays yours to finish; or what `tunescope.init` takes, and it opens a run when training
    begins, finishes it when training ends, and continues it for an evaluation after that. With several processes,
    only the first records the training; with `all_ranks=True` each of them also logs its system metrics and console
    into that run.

    `log_checkpoints=True` uploads checkpoints; otherwise their place, sizes and hashes are kept.

    `histograms=100` keeps, every 100 steps, how the gradients and weights of each trained parameter are distributed,
    as `gradients/<name>` and `weights/<name>`. Each costs a pass over the parameters: off by default. Gradients are
    those the optimizer gets, after clipping.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        log_checkpoints: bool = False,
        all_ranks: bool = False,
        histograms: int | None = None,
        **init_arguments: Any,
    ) -> None:
        if run is not None and init_arguments:
            raise TunescopeError("Give TunescopeCallback a run or the arguments of tunescope.init, not both.")
        self.run = run
        self._own = run is None
        self._arguments = init_arguments
        if histograms is not None and histograms < 1:
            raise TunescopeError(f"histograms is a number of steps, at least 1, not {histograms}.")
        self._log_checkpoints = log_checkpoints
        self._all_ranks = all_ranks
        self._histograms = histograms
        self._training = False
        self._began = 0.0
        self._reset_clock(0, 0)

    # --- events of the Trainer ---

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if self._own and state.is_hyper_param_search:
            self._close()
            self.run = None
        if not state.is_world_process_zero:
            if self._all_ranks:
                self._open(args, state)
            return
        run = self._open(args, state)
        run.config.update(describe(args, state, model))
        self._training = True
        self._reset_clock(state.global_step, state.num_input_tokens_seen)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Only the steps are timed: an evaluation between two logs says nothing about throughput.
        if control.should_log or control.should_evaluate or control.should_save:
            # What comes next waits for the GPU anyway, and what the GPU still has to do belongs to these steps.
            wait_for_gpu()
        self._busy += time.perf_counter() - self._began

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        step = state.global_step + 1  # the step this update ends
        if self._histograms and step % self._histograms == 0 and state.is_world_process_zero:
            self._open(args, state).log(histograms(model), step=step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        if not state.is_world_process_zero or not logs:
            return
        values = renamed(logs)
        if self._training and "loss" in logs:
            # The Trainer's own count of tokens a second includes evaluations and saving.
            values.pop("train/train_tokens_per_second", None)
            values |= self._throughput(args, state) | peak_memory()
            if state.max_steps > 0:
                values["train/progress"] = state.global_step / state.max_steps
        self._open(args, state).log(values, step=state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if not state.is_world_process_zero or not folder.is_dir():
            return
        run = self._open(args, state)
        if self._log_checkpoints:
            run.log_artifact(folder, f"checkpoints/{folder.name}", kind="checkpoint")
        else:
            content = json.dumps(inventory(folder), indent=2).encode()
            run.log_artifact(content, f"checkpoints/{folder.name}.json", kind="checkpoint")

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self._training:
            self._close()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        if metrics:
            self._open(args, state).log(renamed(metrics), step=state.global_step)
        if not self._training:
            self._close()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._training = False
        if state.is_world_process_zero:
            best = {"metric": state.best_metric, "checkpoint": state.best_model_checkpoint}
            if state.best_metric is not None:
                self._open(args, state).config.update({"best": best})
        self._close()

    # --- the run ---

    def _open(self, args: Any, state: Any) -> Run:
        """The run to record into: opened the first time, continued if it was finished."""
        if self.run is None:
            named = {"name": state.trial_name or args.run_name or None, **self._arguments}
            self.run = init(**named)
        elif self._own and self.run.finished:
            self.run = init(**{**self._arguments, "resume": self.run.id})
        return self.run

    def _close(self) -> None:
        if self._own and self.run is not None:
            self.run.finish()

    # --- measurements ---

    def _reset_clock(self, step: int, tokens: int) -> None:
        self._busy, self._step, self._tokens = 0.0, step, tokens

    def _throughput(self, args: Any, state: Any) -> dict[str, float]:
        """Per second of training since the last log."""
        steps, tokens, busy = state.global_step - self._step, state.num_input_tokens_seen - self._tokens, self._busy
        self._reset_clock(state.global_step, state.num_input_tokens_seen)
        if steps <= 0 or busy <= 0:
            return {}
        samples = steps * args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        values = {"train/steps_per_second": steps / busy, "train/samples_per_second": samples / busy}
        return values | ({"train/tokens_per_second": tokens / busy} if tokens > 0 else {})


class ForgettingProbe(TrainerCallback):  # type: ignore[misc]
    """Asks a small general suite before the first step and every `every` steps of any Trainer; with `margin`, stops a
    training that has lost more than that share of right answers since its start.

    `items` are mappings with `input`, `answer`, and where there are some `group` and `id`. Answers come from
    `ask(model, prompts)`, or with a `tokenizer` from the model's own greedy `generate`, up to the end of the line.

    `record` takes the values: a run, a `TunescopeCallback` that stands before the probe among the callbacks, or any
    `function(values, step)`. Logged: `probe/<name>`, the share answered exactly; `probe/<name>/<group>`; and with
    `domain_answers`, `probe/<name>/domain_share`, the share of general questions answered with one of them. The
    Forgetting page draws them. With a `client` and a `suite_id` the answers become evaluations of the run at each
    step, from which the service tells which items were forgotten when.

    With several processes all of them ask, and so agree on stopping; the first one records.
    """

    def __init__(
        self,
        items: Sequence[Mapping[str, Any]],
        *,
        tokenizer: Any = None,
        ask: Ask | None = None,
        record: Run | TunescopeCallback | Callable[[dict[str, float], int], object] | None = None,
        name: str = "general",
        every: int = 50,
        margin: float | None = None,
        template: str = "{input}",
        max_new_tokens: int = 32,
        domain_answers: frozenset[str] = frozenset(),
        client: Client | None = None,
        suite_id: str | None = None,
    ) -> None:
        if not items:
            raise TunescopeError("A probe without items measures nothing.")
        if (tokenizer is None) == (ask is None):
            raise TunescopeError("Give ForgettingProbe a tokenizer or a function that asks, one of the two.")
        if every < 1 or (margin is not None and not 0 <= margin < 1):
            raise TunescopeError(f"every is a number of steps and margin a share, not {every} and {margin}.")
        if (client is None) != (suite_id is None):
            raise TunescopeError("To keep the probe's answers give it both a client and a suite_id.")
        self.items = list(items)
        self.prompts = [template.replace("{input}", str(item["input"])) for item in self.items]
        self.name, self.every, self.margin = name, every, margin
        self.domain_answers = domain_answers
        self.history: list[tuple[int, float]] = []
        self.stopped_at: int | None = None
        self._ask: Ask = ask or greedy(tokenizer, max_new_tokens)
        self._record = record
        self._first = True
        self._client, self._suite_id = client, suite_id

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._first = state.is_world_process_zero
        self.measure(model, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        last = state.global_step >= state.max_steps
        if state.global_step % self.every and not last:
            return
        share = self.measure(model, state.global_step)
        if self.margin is not None and self.history[0][1] - share > self.margin and not last:
            self.stopped_at = state.global_step
            control.should_training_stop = True

    def measure(self, model: Any, step: int) -> float:
        """Asks everything once and answers the share that is right; the first process records it."""
        answers = [answer.strip() for answer in self._ask(model, self.prompts)]
        right = [str(item["answer"]).strip() == answer for item, answer in zip(self.items, answers, strict=True)]
        share = statistics.fmean(right)
        name = f"probe/{self.name}"
        values = {name: share}
        groups: dict[str, list[bool]] = defaultdict(list)
        for item, correct in zip(self.items, right, strict=True):
            if item.get("group") is not None:
                groups[str(item["group"])].append(correct)
        values |= {f"{name}/{group}": statistics.fmean(inside) for group, inside in groups.items()}
        if self.domain_answers:
            values[f"{name}/domain_share"] = statistics.fmean(answer in self.domain_answers for answer in answers)
        self.history.append((step, share))
        if self._first:
            self._say(values, answers, step)
        return share

    def _say(self, values: dict[str, float], answers: Sequence[str], step: int) -> None:
        run = self._record.run if isinstance(self._record, TunescopeCallback) else self._record
        if isinstance(run, Run):
            run.log(values, step=step)
        elif callable(run):
            run(values, step)
        if self._client is None or self._suite_id is None:
            return
        predictions = [
            {"id": str(item.get("id", place)), "output": answer}
            for place, (item, answer) in enumerate(zip(self.items, answers, strict=True))
        ]
        owner: dict[str, Any] = {"run_id": run.id} if isinstance(run, Run) else {}
        try:
            self._client.create_evaluation(suite_id=self._suite_id, step=step, predictions=predictions, **owner)
        except TunescopeError as error:
            # Training goes on: the curve is in the run all the same.
            log.warning("the probe's answers at step %d were not kept: %s", step, error)


def greedy(tokenizer: Any, max_new_tokens: int, batch_size: int = 32) -> Ask:
    """Answers by the model's own `generate`: the likeliest tokens, up to the end of the line."""

    def ask(model: Any, prompts: Sequence[str]) -> list[str]:
        side, training = tokenizer.padding_side, model.training
        tokenizer.padding_side = "left"
        model.eval()
        answers: list[str] = []
        try:
            for start in range(0, len(prompts), batch_size):
                batch = tokenizer(list(prompts[start : start + batch_size]), return_tensors="pt", padding=True)
                batch = batch.to(model.device)
                made = model.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    use_cache=True,
                    pad_token_id=tokenizer.pad_token_id,
                )
                texts = tokenizer.batch_decode(made[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
                answers += [text.lstrip("\n").partition("\n")[0] for text in texts]
        finally:
            tokenizer.padding_side = side
            model.train(training)
        return answers

    return ask


def describe(args: Any, state: Any, model: Any) -> dict[str, Any]:
    """What a training is, for the run's config."""
    arguments = {**args.to_dict(), "max_steps": state.max_steps, "world_size": args.world_size}
    # Under a name of their own: a script's config may well have a `project` or a `seed` that means something else.
    config: dict[str, Any] = {"arguments": arguments}
    model_config = getattr(model, "config", None)
    if model_config is not None:
        settings = model_config if isinstance(model_config, dict) else model_config.to_dict()
        config["model"] = {name: value for name, value in settings.items() if name not in LABEL_MAPS}
    if adapters := getattr(model, "peft_config", None):
        config["peft"] = {name: adapter.to_dict() for name, adapter in adapters.items()}
    if hasattr(model, "parameters"):
        sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
        total, trainable = sum(n for n, _ in sizes), sum(n for n, learns in sizes if learns)
        config["parameters"] = {"total": total, "trainable": trainable}
    return config


def histograms(model: Any) -> dict[str, Histogram]:
    """Of each parameter that is trained: its weights, and its gradient where there is one.

    Where the model is sharded over processes, of what this process holds.
    """
    values: dict[str, Histogram] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.numel():
            values[f"weights/{name}"] = Histogram(parameter)
            if parameter.grad is not None:
                values[f"gradients/{name}"] = Histogram(parameter.grad)
    return values


def renamed(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's names as groups: `eval_loss` is `eval/loss`, `loss` is `train/loss`."""
    values = {}
    for name, value in logs.items():
        group, _, rest = name.partition("_")
        values[f"{group}/{rest}" if group in ("eval", "test") and rest else f"train/{name}"] = value
    return values


def peak_memory() -> dict[str, float]:
    """Most memory held so far, in MiB: of this process, and of its GPU if it uses one."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    values = {"train/peak_memory_mib": kilobytes / 1024}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        values["train/peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() / (1 << 20)
    return values


def wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def inventory(folder: Path) -> dict[str, Any]:
    """Where a checkpoint is and what it is made of. Files above 1 GiB are not hashed: training would wait for it."""
    files = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        size, digest = file.stat().st_size, None
        if size <= LARGEST_HASHED:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files.append({"path": file.relative_to(folder).as_posix(), "size": size, "sha256": digest})
    return {"path": str(folder.absolute()), "files": files}
