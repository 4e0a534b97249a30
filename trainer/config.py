"""One YAML file describes one or several training runs.

Every setting is a field below with its type, its default and a sentence. `runs:` lists variants: each is laid over
the rest of the file, and each becomes a run of its own, so that one file states a comparison.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta, Struct

from trainer.errors import ConfigError

Share = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[int, Meta(ge=1)]
Rate = Annotated[float, Meta(gt=0)]


class ModelConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Where the model starts from: exactly one of `path`, `module`, `config`."""

    path: str | None = None
    """A folder saved by `save_pretrained`, or a hub id."""
    module: str | None = None
    """A Python package that carries weights, as `package` or `package:folder` (folder defaults to `model`)."""
    config: dict[str, Any] | None = None
    """A Transformers configuration with its `model_type`: weights start at random."""
    tokenizer: str | None = None
    """A folder or hub id; default: the model's own. Needed with `config`."""
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """The type the weights are held in; `auto`: as they were saved, or as `config` says."""


class DataConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    train: str
    """CSV, JSONL, JSON (a list of records) or Parquet, relative to `folder`."""
    test: str | None = None
    """Held out: scored once, after training."""
    validation: str | Share = 0.0
    """A file, or the share of the training rows set aside: scored while training."""
    folder: str = "."
    """What the paths above are relative to (itself relative to the working directory)."""
    text: str = "text"
    """Classification: the column with the input. Causal LM: the column of rows to model whole."""
    label: str = "label"
    prompt: str = "prompt"
    """Causal LM: the column with the question; the loss falls on the answer only."""
    answer: str = "answer"
    template: str = "{input}\n"
    """Causal LM: how a prompt is put to the model; `{input}` is the prompt."""
    limit: Positive | None = None
    """Use this many training rows, drawn with the seed."""
    max_length: Positive = 512
    """Tokens kept of a row."""


class ReplayConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """General items mixed into every batch, so that what they stand for is not forgotten."""

    path: str
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.2
    """The share of each batch."""


class TrainingConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    learning_rate: Rate = 5e-5
    head_learning_rate: Rate | None = None
    """Classification: a rate of its own for the layers that start at random (default: the same)."""
    epochs: Rate = 3.0
    max_steps: Positive | None = None
    """Overrides `epochs`."""
    batch_size: Positive = 32
    accumulation: Positive = 1
    """Batches whose gradients are summed before a step."""
    schedule: Literal["linear", "cosine", "constant", "polynomial"] = "linear"
    warmup: Share = 0.0
    """The share of the steps over which the rate rises from zero."""
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0
    label_smoothing: Share = 0.0
    clip: Rate = 1.0
    """The gradient's largest norm."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit"] = "adamw"
    """`8bit`: a quarter of the memory for its states; `paged`: they move to the CPU's memory when the GPU's is full."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more time."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """`bf16`: mixed precision; `auto`: bf16 where it is fast, on newer GPUs and on CPUs with AVX512-BF16 or AMX."""
    group_by_length: bool = True
    """Batches of like lengths waste less on padding."""
    device: Literal["auto", "cpu"] = "auto"
    seed: int = 0
    log_every: Positive = 10
    save_every: Positive | None = None
    """Write a checkpoint every so many steps (the newest two are kept), to resume from."""


class EvaluationConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One suite to score, on the service, when training is done."""

    suite: str
    path: str | None = None
    """The items; default: `data.test`."""
    metrics: tuple[str, ...] = ()
    """Default: accuracy, f1_macro, roc_auc, average_precision, log_loss, brier_score and ece for classification,
    exact_match for causal LM."""
    primary: str | None = None
    """The metric a comparison is about; default: the first."""
    group: str | None = None
    """A column to slice by."""
    before: bool = False
    """Score the model before training too: what an audit compares with."""
    max_new_tokens: Positive = 32


class ProbeConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Causal LM: ask a general suite while training, to see forgetting as it happens."""

    path: str
    name: str = "general"
    every: Positive = 50
    limit: Positive | None = None
    group: str | None = None
    """A column to report by."""
    margin: Share | None = None
    """Stop training once this much has been lost against the start."""
    max_new_tokens: Positive = 32


class DriftConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Causal LM: how far the training moved the model on general text, measured once, when it is done."""

    path: str
    """The texts: a file with a column `data.text`."""
    limit: Positive | None = 200
    """Use this many texts, drawn with the seed."""
    max_length: Annotated[int, Meta(ge=2)] = 512
    """Tokens read of a text."""


class ServiceConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    url: str | None = None
    """Default: what the client finds (`TUNESCOPE_URL`, else http://127.0.0.1:8000)."""
    model_name: str | None = None
    """Register the results under this name; default: the project's."""
    base_version_id: str | None = None
    """The registered version that `model.path` holds, where there is one: what the result descends from."""
    margin: Annotated[float, Meta(ge=0)] = 0.0
    """A difference within ± this counts as equivalent in the comparison of the variants."""


class TrainConfig(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One run, with everything it needs."""

    project: str
    task: Literal["classification", "causal_lm"]
    model: ModelConfig
    data: DataConfig
    output: str
    """The folder for checkpoints and the trained model; a variant writes to a folder of its name inside."""
    name: str | None = None
    method: dict[str, Any] = msgspec.field(default_factory=lambda: {"name": "full"})
    """`name` picks a file of `trainer/methods`; the rest are that method's options."""
    replay: ReplayConfig | None = None
    train: TrainingConfig = TrainingConfig()
    evaluate: tuple[EvaluationConfig, ...] = ()
    probe: ProbeConfig | None = None
    drift: DriftConfig | None = None
    service: ServiceConfig = ServiceConfig()
    tags: dict[str, str] = msgspec.field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: in PyYAML, which reads YAML 1.1, `1e-4` is a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


def load_config(path: Path, overrides: Sequence[str] = ()) -> list[TrainConfig]:
    """The runs that a file describes, `key.of.field=value` overrides applied: one for each entry of `runs:`, or one.

    Raises `ConfigError` with the file and, where it can be told, the line.
    """
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError(f"{path}: {reason}.") from error
    try:
        root = yaml.compose(source, Loader=_Loader)
        content = yaml.load(source, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ConfigError(_yaml_sentence(path, error)) from error
    if not isinstance(content, dict) or root is None:
        raise ConfigError(f"{path}: a config is a YAML mapping with project, task, model, data and output.")
    variants = content.pop("runs", None)
    if variants is None:
        return [_convert(path, root, _overlay(content, overrides), None)]
    if not isinstance(variants, list) or not variants or not all(isinstance(one, dict) for one in variants):
        raise ConfigError(f"{path}, line {_find(root, ['runs'])}: runs is a list of mappings, one for each variant.")
    configs = [
        _convert(path, root, _overlay(_merge(content, one), overrides), index) for index, one in enumerate(variants)
    ]
    names = [config.name for config in configs]
    if None in names or len(set(names)) < len(names):
        raise ConfigError(f"{path}, line {_find(root, ['runs'])}: each of the runs needs a name of its own.")
    return [msgspec.structs.replace(one, output=str(Path(one.output) / str(one.name))) for one in configs]


def config_from(content: Mapping[str, Any]) -> TrainConfig:
    """A config from a mapping, for callers that build one in Python. Raises `ConfigError`."""
    try:
        return _checked(msgspec.convert(content, TrainConfig))
    except msgspec.ValidationError as error:
        raise ConfigError(f"config: {error}.") from error


def _convert(path: Path, root: yaml.Node, content: dict[str, Any], variant: int | None) -> TrainConfig:
    try:
        return _checked(msgspec.convert(content, TrainConfig))
    except msgspec.ValidationError as error:
        keys, message = _explain(str(error))
        here = _find(root, keys)
        if variant is not None:
            here = _find(root, ["runs", variant, *keys]) or here
        line = f", line {here}" if here else ""
        raise ConfigError(f"{path}{line}: {message}.") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _explain(text: str) -> tuple[list[str | int], str]:
    """The keys a validation error is about, and a sentence with their dotted name."""
    message, _, where = text.partition(" - at ")
    parts = re.findall(r"[^.\[\]`$]+", where)
    keys: list[str | int] = [int(part) if part.isdigit() else part for part in parts]
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", message)
    if unknown:
        keys.append(unknown[1])
        return keys, f"there is no setting {'.'.join(map(str, keys))}"
    missing = re.fullmatch(r"Object missing required field `(.*)`", message)
    if missing:
        return keys, f"{'.'.join(map(str, [*keys, missing[1]]))} is missing"
    return keys, f"{'.'.join(map(str, keys))}: {message[0].lower()}{message[1:]}"


def _checked(config: TrainConfig) -> TrainConfig:
    """What types alone cannot say."""
    model = config.model
    if sum(source is not None for source in (model.path, model.module, model.config)) != 1:
        raise ConfigError("model needs exactly one of path, module and config.")
    if model.config is not None and model.tokenizer is None:
        raise ConfigError("model.tokenizer is needed beside model.config.")
    if not isinstance(config.method.get("name"), str):
        raise ConfigError("method needs a name, such as full, lora or qlora.")
    if config.task == "classification":
        for name, part in (("probe", config.probe), ("replay", config.replay), ("drift", config.drift)):
            if part is not None:
                raise ConfigError(f"{name} is for causal_lm, not for classification.")
    elif config.replay is not None and config.train.batch_size < 2:
        raise ConfigError("replay needs a train.batch_size of at least 2.")
    elif "{input}" not in config.data.template:
        raise ConfigError("data.template must hold {input}, where the prompt goes.")
    if any(one.path is None for one in config.evaluate) and config.data.test is None:
        raise ConfigError("evaluate needs data.test, or a path in each entry.")
    suites = [one.suite for one in config.evaluate]
    if len(set(suites)) < len(suites):
        raise ConfigError("evaluate: each suite needs a name of its own.")
    return config


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`, mapping by mapping; a list or a value is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _overlay(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    for override in overrides:
        dotted, equals, text = override.partition("=")
        if not equals or not dotted:
            raise ConfigError(f"--set {override}: write it as key=value, such as train.epochs=1.")
        try:
            change: Any = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML.") from error
        for key in reversed(dotted.split(".")):
            change = {key: change}
        content = _merge(content, change)
    return content


def _child(node: yaml.Node | None, key: str | int) -> tuple[yaml.Node | None, int] | None:
    """The value under `key` and the line it is named on, counted from 0."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == key:
                return value, name.start_mark.line
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key].start_mark.line
    return None


def _find(root: yaml.Node, keys: Sequence[str | int]) -> int | None:
    """The line, counted from 1, that names `keys`; none if the file does not."""
    node: yaml.Node | None = root
    line = root.start_mark.line
    for key in keys:
        found = _child(node, key)
        if found is None:
            return None
        node, line = found
    return line + 1


def _yaml_sentence(path: Path, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{path}, line {mark.line + 1}: {problem}." if mark is not None else f"{path}: {problem}."
