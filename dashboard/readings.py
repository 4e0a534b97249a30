"""What a page says about a run, read out of its record. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from dashboard import charts, formats

Json = dict[str, Any]

TOTAL_STEPS = ("max_steps", "total_steps", "num_training_steps", "train_steps")
PREFERRED = ("accuracy", "f1_macro", "f1", "exact_match", "rougeL", "bleu", "loss")
UNITS = {
    "_percent": "%", "_mib": "MiB", "_mib_s": "MiB/s", "_watts": "W", "_celsius": "°C", "_seconds": "s", "_bytes": "B",
}  # fmt: skip


# As the service has them where it averages curves over seeds.
PLACES = frozenset({"output_dir", "logging_dir", "run_name", "run_id", "hub_model_id", "resume_from_checkpoint"})
LABEL_PARTS = 3


class Progress(NamedTuple):
    share: float
    done: int
    total: int
    seconds_left: float | None


def progress(run: Json, now: float) -> Progress | None:
    """How far a run has come: what it logs as `progress`, else its last step against the steps in its config."""
    done = max((summary["last_step"] for summary in run["metrics"].values()), default=0)
    share = last(run, "progress")
    if share is None:
        total = config_number(run, TOTAL_STEPS)
        if not total:
            return None
        share = done / total
    else:
        total = round(done / share) if share > 0 else done
    share = min(1.0, max(0.0, share))
    passed = now - run["created_at"]
    return Progress(share, done, int(total), passed * (1 - share) / share if share > 0 else None)


def config_number(run: Json, names: Sequence[str]) -> float | None:
    """The first number in the config whose own name (its path aside) or path's end is one of `names`."""
    for key, text in formats.flatten(run["config"]).items():
        if any(key == name or key.endswith(f".{name}") for name in names) and text.isdigit():
            return float(text)
    return None


def metric_keys(runs: Iterable[Json]) -> list[str]:
    """Every metric of some runs: evaluation before training, the preferred ones first, system metrics last."""
    keys = {key for run in runs for key in run["metrics"]}

    def rank(key: str) -> tuple[int, int, int, str]:
        name = charts.family(key)
        preferred = PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)
        return (
            2 if charts.is_system(key) else 1 if charts.is_probe(key) else 0,
            preferred,
            0 if charts.is_evaluation(key) else 1,
            key,
        )

    return sorted(keys, key=rank)


def default_metrics(keys: Sequence[str]) -> list[str]:
    """Columns to begin with: what the ranking puts first, at most three."""
    return [key for key in keys if charts.family(key) in PREFERRED and not charts.is_probe(key)][:3]


def chart_groups(keys: Sequence[str]) -> dict[str, list[str]]:
    """Metric keys by what they measure: train and eval loss share a chart. System and probe metrics are left out, and
    the epoch, which is an axis."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        if not charts.is_system(key) and not charts.is_probe(key) and not charts.is_epoch(key):
            groups.setdefault(charts.family(key), []).append(key)
    order = sorted(groups, key=lambda name: (name != "loss", -len(groups[name]), name))
    return {name: sorted(groups[name]) for name in order}


SECTIONS = ("Training", "Gradients", "More")


def section_of(name: str, keys: Sequence[str]) -> str:
    """Under which heading a chart stands: gradients and norms of weights apart; what is neither trained nor evaluated
    (rates, timings, counters of the user's own) last."""
    if any(part in name for part in ("grad", "weight_norm", "param_norm", "update_ratio")):
        return "Gradients"
    usual = charts.family(name) in PREFERRED or any(key.startswith((*charts.TRAIN, *charts.EVAL)) for key in keys)
    return "Training" if usual else "More"


def unit(key: str) -> str | None:
    return next(
        (unit for suffix, unit in sorted(UNITS.items(), key=lambda u: -len(u[0])) if key.endswith(suffix)), None
    )


def value_text(key: str, value: float | str | None) -> str:
    """A metric's value in the unit its name ends in."""
    measure = unit(key)
    if isinstance(value, int | float) and measure in {"B", "MiB"}:
        return formats.size(value * (2**20 if measure == "MiB" else 1))
    if isinstance(value, int | float) and key.endswith(("_seconds", "/seconds")):
        return formats.duration(value)
    return formats.number(value) + (f" {measure}" if measure and value is not None else "")


def system_title(key: str) -> str:
    """`system/gpu0_memory_mib` → `gpu0 memory, MiB`."""
    name, measure = key.split("/", 1)[-1], unit(key)
    ending = next((ending for ending in sorted(UNITS, key=len, reverse=True) if key.endswith(ending)), "")
    words = name.removesuffix(ending).replace("_", " ")
    return f"{words}, {measure}" if measure else words


def last(run: Json, *names: str) -> float | None:
    """The last value of the first metric whose own name (its prefix aside) is one of `names`."""
    for name in names:
        for key, summary in run["metrics"].items():
            if key.rsplit("/", 1)[-1] == name and isinstance(summary["last"], int | float):
                return float(summary["last"])
    return None


def peak_memory(run: Json) -> float | None:
    """Bytes at the peak: what training reported, else the most the monitor saw on a GPU, else of the process."""
    in_bytes = last(run, "peak_gpu_memory_bytes", "peak_memory_bytes")
    if in_bytes is not None:
        return in_bytes
    in_mib = last(run, "peak_gpu_memory_mib", "peak_memory_mib")
    if in_mib is not None:
        return in_mib * 2**20
    for wanted in (("gpu", "_memory_mib"), ("process", "_memory_mib")):
        seen = [
            summary["max"]
            for key, summary in run["metrics"].items()
            if key.startswith(f"system/{wanted[0]}") and key.endswith(wanted[1]) and summary["max"] is not None
        ]
        if seen:
            return float(max(seen)) * 2**20
    return None


def gpu_hours(run: Json) -> float | None:
    """Hours the run took, times the GPUs its client watched; None where it watched none."""
    gpus = {key.partition("_")[0] for key in run["metrics"] if key.startswith("system/gpu")}
    return float(run["duration"]) * len(gpus) / 3600 if gpus and run["duration"] is not None else None


def trainable_parameters(run: Json) -> float | None:
    names = ("trainable_parameters", "trainable_params")
    found = last(run, *names)
    return found if found is not None else config_number(run, (*names, "parameters.trainable"))


def environment(run: Json) -> list[tuple[str, str]]:
    """What the client recorded of the machine and the code, flat; packages and the command have their own places."""
    recorded = {key: value for key, value in run["environment"].items() if key not in {"packages", "command"}}
    flat = formats.flatten(recorded)
    return [(key, value) for key, value in flat.items() if value not in {"", formats.NONE} and "\n" not in value]


def packages(run: Json) -> list[tuple[str, str]]:
    found: Mapping[str, str] = run["environment"].get("packages") or {}
    return sorted(found.items())


def reproduce(run: Json) -> str | None:
    """The commands that run this again: the commit, then the command line. None when neither was recorded."""
    recorded = run["environment"]
    git = recorded.get("git") or {}
    command = recorded.get("command")
    lines = [f"git checkout {git['commit']}"] if git.get("commit") else []
    if git.get("dirty"):
        lines[-1] += "  # there were changes beside it"
    if command:
        lines.append(shlex.join(command) if isinstance(command, list) else str(command))
    return "\n".join(lines) or None


def config_json(run: Json) -> str:
    return json.dumps(run["config"], indent=2, ensure_ascii=False)


def items_frame(items: Sequence[Json]) -> pd.DataFrame:
    """Items as a frame for its CSV: lists joined."""
    return pd.DataFrame(
        [{k: "; ".join(map(str, v)) if isinstance(v, list) else v for k, v in item.items()} for item in items]
    )


def groupings(runs: Sequence[Json]) -> dict[str, str]:
    """What runs can be averaged over, as the service calls it, with its name: what splits them, but not all of them."""
    found: dict[str, str] = {}
    if any(name.endswith("seed") for run in runs for name in formats.flatten(run["config"])):
        found["seed"] = "seeds of a configuration"
    if 1 < len({run["group"] for run in runs}) < len(runs):
        found["group"] = "group"
    flats = {
        "params": [formats.flatten(run["config"]) for run in runs],
        "tags": [dict(run["tags"]) for run in runs],
    }
    for kind, columns in flats.items():
        for key in dict.fromkeys(key for column in columns for key in column):
            if 1 < len({column.get(key) for column in columns}) < len(runs):
                found[f"{kind}.{key}"] = key if kind == "params" else f"tag {key}"
    return found


def setting_columns(runs: Sequence[Json], keys: Iterable[str]) -> dict[str, list[float | str | None]]:
    """Config keys → the value of each run: a number where every run that sets it has a number, else text."""
    flats = [formats.flatten(run["config"]) for run in runs]
    return {key: as_numbers([flat.get(key) for flat in flats]) for key in keys}


def as_numbers(texts: Sequence[str | None]) -> list[float | str | None]:
    """Numbers where every text that is there is one; else the texts."""
    try:
        return [None if text is None else float(text) for text in texts]
    except ValueError:
        return list(texts)


def varying(runs: Sequence[Json]) -> list[str]:
    """The config keys that are not the same in all runs."""
    flats = [formats.flatten(run["config"]) for run in runs]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return [key for key in keys if len({flat.get(key) for flat in flats}) > 1]


# --- runs in groups ---


class RunGroup(NamedTuple):
    """Runs that have one value of a field; `condition` finds them in the search language."""

    label: str
    condition: str
    runs: list[Json]


def grouped(runs: Sequence[Json], field: str) -> list[RunGroup]:
    """The runs by `group`, `params.KEY` or `tags.KEY`, the largest group first."""
    groups: dict[str | None, list[Json]] = {}
    for run in runs:
        groups.setdefault(field_text(run, field), []).append(run)
    found = [
        RunGroup("not set" if text is None else text, condition(field, text), held) for text, held in groups.items()
    ]
    return sorted(found, key=lambda group: -len(group.runs))


def field_text(run: Json, field: str) -> str | None:
    """A run's value of `group`, `params.KEY` or `tags.KEY`, as the service keeps it."""
    kind, _, key = field.partition(".")
    if kind == "params":
        return leaves(run["config"]).get(key)
    value: str | None = run["group"] if kind == "group" else run["tags"].get(key)
    return value


def leaves(config: Mapping[str, Any]) -> dict[str, str]:
    """A config flattened with dots, each value as the text that a search compares."""
    found: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found.update({f"{key}.{name}": text for name, text in leaves(value).items()})
        else:
            found[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return found


def condition(field: str, text: str | None) -> str:
    kind, _, key = field.partition(".")
    name = f"{kind}.`{key}`" if key else kind
    if text is None:
        return f"{name} is null"
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name} = "{quoted}"'


def configurations(runs: Sequence[Json], by: str) -> list[tuple[str, list[Json]]]:
    """The runs that are one configuration, with what to call it, in the order of their first run.

    `by`: `seed` (the same config but for seeds and places), or what `grouped` takes.
    """
    if by != "seed":
        return [(group.label, group.runs) for group in grouped(runs, by)]
    held: dict[tuple[tuple[str, str], ...], list[Json]] = {}
    for run in runs:
        recipe = {key: text for key, text in leaves(run["config"]).items() if not _differs(key.rpartition(".")[2])}
        held.setdefault(tuple(sorted(recipe.items())), []).append(run)
    recipes = [dict(recipe) for recipe in held]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    telling = [key for key in keys if len({recipe.get(key) for recipe in recipes}) > 1][:LABEL_PARTS]
    return [
        (", ".join(f"{key.rpartition('.')[2]} {recipe.get(key, 'not set')}" for key in telling) or members[0]["name"],
         members)
        for recipe, members in zip(recipes, held.values(), strict=True)
    ]  # fmt: skip


def _differs(name: str) -> bool:
    """Does a key of this name differ between seeds of one configuration?"""
    return name.endswith("seed") or name in PLACES


def mean_and_sd(runs: Sequence[Json], key: str) -> tuple[float | None, float | None]:
    """Of the finite last values of a metric: the mean, and the standard deviation from two runs on."""
    values = [run["metrics"].get(key, {}).get("last") for run in runs]
    finite = pd.Series([float(value) for value in values if isinstance(value, int | float)], dtype=float)
    return (float(finite.mean()) if len(finite) else None), (float(finite.std()) if len(finite) > 1 else None)
