"""How long, how many and of which letters: MLflow's limits in MLflow's words. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from functools import lru_cache

from service.tracking.mlflow.errors import InvalidParameterValue
from service.tracking.mlflow.messages import Dataset, KeyValue, Metric
from service.tracking.mlflow.wire import invalid_value

METRICS = 1000
PARAMS_OR_TAGS = 100
ENTITIES = 1000
KEY = 250
PARAM_VALUE = 6000
TAG_VALUE = 8000
EXPERIMENT_NAME = 500
EXPERIMENT_TAG_VALUE = 20_000
SEARCH_RESULTS = 50_000
HISTORY_RESULTS = 25_000
HISTORY_RUNS = 100
INTERVAL_RESULTS = 2500
DATASET_EXPERIMENTS = 20
_DATASET = {"name": 500, "digest": 36, "source": 65_535, "schema": 1_048_575, "profile": 16_777_215}
_INPUT_TAG_KEY, _INPUT_TAG_VALUE = 255, 500
_NAME = re.compile(r"^[/\w.\- :]*$")
_RUN_ID = re.compile(r"^[a-zA-Z0-9][\w\-]{0,255}$")


@lru_cache(maxsize=8192)
def _name_fault(name: str) -> str | None:
    """What is wrong with the name of a metric, param or tag; None when nothing is."""
    if not _NAME.match(name):
        return (
            "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) "
            "and slashes (/)."
        )
    plain = posixpath.normpath(name)
    if plain != name or plain == "." or plain.startswith(("..", "/")):
        return (
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
            f"This name would resolve to {plain!r}"
        )
    return None


def check_name(name: str, path: str) -> None:
    fault = _name_fault(name)
    if fault is not None:
        raise InvalidParameterValue(invalid_value(path, name, fault))


def check_length(what: str, limit: int, value: str | None) -> None:
    if value is not None and len(value) > limit:
        raise InvalidParameterValue(f"'{what}' exceeds the maximum length of {limit} characters")


def check_run_id(run_id: str) -> None:
    if not _RUN_ID.match(run_id):
        raise InvalidParameterValue(invalid_value("run_id", run_id))


def check_results(given: int, most: int = SEARCH_RESULTS) -> int:
    """`max_results` of a search."""
    if given < 1:
        raise InvalidParameterValue(
            f"Invalid value {given} for parameter 'max_results' supplied. It must be a positive integer"
        )
    if given > most:
        raise InvalidParameterValue(
            f"Invalid value {given} for parameter 'max_results' supplied. It must be at most {most}"
        )
    return given


def check_metric(metric: Metric, path: str = "") -> None:
    check_name(metric.key, f"{path}name")
    if metric.timestamp < 0:
        reason = f"metric '{metric.key}' (value={metric.value}). Timestamp must be a nonnegative long (64-bit integer) "
        raise InvalidParameterValue(invalid_value(f"{path}timestamp", metric.timestamp, reason))
    check_length("Metric name", KEY, metric.key)


def param(given: KeyValue, path: str = "") -> tuple[str, str]:
    """Key and value as they are stored: a value that is too long is cut."""
    check_name(given.key, f"{path}key")
    check_length("Param key", KEY, given.key)
    return given.key, given.value[:PARAM_VALUE]


def tag(given: KeyValue, path: str = "") -> tuple[str, str]:
    """Key and value as they are stored: a value that is too long is cut."""
    check_name(given.key, f"{path}key")
    check_length(f"{path}key", KEY, given.key)
    return given.key, given.value[:TAG_VALUE]


def experiment_tag(given: KeyValue) -> tuple[str, str]:
    check_name(given.key, "key")
    check_length("key", KEY, given.key)
    check_length("value", EXPERIMENT_TAG_VALUE, given.value)
    return given.key, given.value


def check_batch(metrics: Sequence[Metric], params: Sequence[KeyValue], tags: Sequence[KeyValue]) -> None:
    """The sizes of a batch, and that no param comes twice."""
    total = len(metrics) + len(params) + len(tags)
    for what, most, count in (
        ("metrics", METRICS, len(metrics)),
        ("params", PARAMS_OR_TAGS, len(params)),
        ("tags", PARAMS_OR_TAGS, len(tags)),
        ("metrics, params, and tags", ENTITIES, total),
    ):
        if count > most:
            raise InvalidParameterValue(
                f"A batch logging request can contain at most {most} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )
    seen: set[str] = set()
    twice = [one.key for one in params if one.key in seen or seen.add(one.key)]  # type: ignore[func-returns-value]
    if twice:
        raise InvalidParameterValue(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param "
            "value per param key."
        )


def check_dataset(dataset: Dataset, tags: Sequence[KeyValue]) -> None:
    for name, most in _DATASET.items():
        check_length(name, most, getattr(dataset, name))
    for one in tags:
        check_length("key", _INPUT_TAG_KEY, one.key)
        check_length("value", _INPUT_TAG_VALUE, one.value)
