"""Runs, and what every operator of MLflow's search language must find among them.

`test_tracking_search.py` asks this service on both databases; `test_tracking_parity.py` asks a real MLflow server the
same, so that the expectations here are MLflow's and not ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# POST a path below /api/2.0/mlflow with a JSON body; return status and JSON.
Post = Callable[[str, dict[str, Any]], tuple[int, dict[str, Any]]]

T0 = 1_700_000_000_000


@dataclass(frozen=True)
class Case:
    start: int
    status: str = "FINISHED"
    user: str = "ada"
    end: int | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    dataset: tuple[str, str, str] | None = None  # name, digest, context


RUNS = {
    "alpha": Case(
        T0,
        end=T0 + 1000,
        metrics={"loss": 0.25, "m/val acc": 0.9, "only": 1},
        params={"lr": "0.1", "opt": "adam", "model.size": "10"},
        tags={"team": "nlp", "with space": "x", "mlflow.note.content": "the first"},
        dataset=("squad", "d1", "training"),
    ),
    "beta": Case(
        T0 + 1,
        end=T0 + 500,
        metrics={"loss": 0.5, "m/val acc": 0.7},
        params={"lr": "0.01", "opt": "Adam"},
        tags={"team": "NLP"},
        dataset=("squad", "d2", "evaluation"),
    ),
    "gamma": Case(
        T0 + 2,
        status="FAILED",
        user="bob",
        end=T0 + 2000,
        metrics={"loss": "NaN"},
        params={"lr": "0.1"},
        tags={"a": ""},
    ),
    "delta": Case(T0 + 6, status="RUNNING", metrics={"loss": "Infinity"}, params={"opt": "sgd"}),
    "epsilon": Case(T0 + 3, status="KILLED", end=T0 + 3000, metrics={"loss": "-Infinity"}, tags={"team": "vision"}),
    "zeta-100%": Case(T0 + 4, status="SCHEDULED", user="", metrics={"loss": -3.5}, params={"opt": "a_b", "lr": "1"}),
    "eta": Case(T0 + 5, tags={"team": "nl%p"}, dataset=("glue", "d1", "training")),
    "theta": Case(T0 + 7, metrics={"loss": 0.25, "only": -1}, params={"opt": "", "lr": "0.1"}, tags={"Team": "nlp"}),
}


def populate(post: Post, experiment: str) -> tuple[str, dict[str, str]]:
    """Write `RUNS` into a new experiment; return its id, and each run's id to its name."""
    experiment_id = _ok(post("experiments/create", {"name": experiment}))["experiment_id"]
    names: dict[str, str] = {}
    for name, case in RUNS.items():
        start = {"experiment_id": experiment_id, "run_name": name, "start_time": case.start, "user_id": case.user}
        run_id = _ok(post("runs/create", start))["run"]["info"]["run_id"]
        names[run_id] = name
        metrics = [{"key": k, "value": v, "timestamp": case.start, "step": 1} for k, v in case.metrics.items()]
        pairs = {"params": case.params, "tags": case.tags}
        listed = {kind: [{"key": k, "value": v} for k, v in given.items()] for kind, given in pairs.items()}
        _ok(post("runs/log-batch", {"run_id": run_id, "metrics": metrics, **listed}))
        if case.dataset is not None:
            dataset_name, digest, context = case.dataset
            dataset = {"name": dataset_name, "digest": digest, "source_type": "local", "source": "{}"}
            tagged = {"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": context}]}
            _ok(post("runs/log-inputs", {"run_id": run_id, "datasets": [tagged]}))
        over = {} if case.end is None else {"end_time": case.end}
        _ok(post("runs/update", {"run_id": run_id, "status": case.status, **over}))
    return experiment_id, names


def _ok(answer: tuple[int, dict[str, Any]]) -> dict[str, Any]:
    assert answer[0] == 200, answer
    return answer[1]


def search(post: Post, experiment_id: str, names: dict[str, str], **given: Any) -> list[str] | int:
    """The names of the runs found, in their order; or the status of a refusal."""
    status, body = post("runs/search", {"experiment_ids": [experiment_id], **given})
    return [names[run["info"]["run_id"]] for run in body.get("runs", [])] if status == 200 else status


# Filter -> the runs it finds, newest first.
FILTERS = {
    "metrics.loss > 0.25": "delta beta",
    "metrics.loss >= 0.25": "theta delta beta alpha",
    "metric.loss = 0.25": "theta alpha",
    "metrics.loss != 0.25": "delta zeta-100% epsilon gamma beta",
    "metrics.loss < 0": "zeta-100% epsilon",
    "metrics.loss <= -3.5": "zeta-100% epsilon",
    "metrics.loss < 1e3": "theta zeta-100% epsilon beta alpha",
    "metrics.loss > -1e-5": "theta delta beta alpha",
    "metrics.loss = 2.5E-1": "theta alpha",
    "metrics.loss = -3.5": "zeta-100%",
    "metrics.loss > .3": "delta beta",
    "metrics.loss = 0": "",
    "metrics.only != 5": "theta alpha",
    "metrics.missing != 1": "",
    "metrics.`m/val acc` > 0.8": "alpha",
    'metrics."m/val acc" > 0.8': "alpha",
    "metrics.`loss` > 0.3": "delta beta",
    "params.lr = '0.1'": "theta gamma alpha",
    'params.lr = "0.1"': "theta gamma alpha",
    "param.lr != '0.1'": "zeta-100% beta",
    "parameter.lr = '1'": "zeta-100%",
    "parameters.lr = '1'": "zeta-100%",
    "params.opt LIKE 'a%'": "zeta-100% alpha",
    "params.opt like 'A%'": "beta",
    "params.opt ILIKE 'A%'": "zeta-100% beta alpha",
    "params.opt LIKE 'a_b'": "zeta-100%",
    "params.opt LIKE 'a\\_b'": "",
    "params.opt LIKE '%'": "theta delta zeta-100% beta alpha",
    "params.opt = ''": "theta",
    "params.opt IS NULL": "eta epsilon gamma",
    "params.opt IS NOT NULL": "theta delta zeta-100% beta alpha",
    "params.opt is not null": "theta delta zeta-100% beta alpha",
    "params.model.size = '10'": "alpha",
    "params.`model.size` = '10'": "alpha",
    "params.opt != 'adam'": "theta delta zeta-100% beta",
    "tags.team = 'nlp'": "alpha",
    "tag.team != 'nlp'": "eta epsilon beta",
    "tags.team LIKE 'nl%'": "eta alpha",
    "tags.team ILIKE 'NL%'": "eta beta alpha",
    "tags.team LIKE '%\\%%'": "",
    "tags.team IS NULL": "theta delta zeta-100% gamma",
    "tags.team IS NOT NULL": "eta epsilon beta alpha",
    "tags.a = ''": "gamma",
    "tags.a IS NULL": "theta delta eta zeta-100% epsilon beta alpha",
    "tags.`with space` = 'x'": "alpha",
    "tags.\"with space\" = 'x'": "alpha",
    "tags.mlflow.runName = 'alpha'": "alpha",
    "tags.`mlflow.runName` LIKE '%eta'": "theta eta beta",
    "tags.mlflow.note.content ILIKE '%FIRST'": "alpha",
    "tags.mlflow.note.content IS NULL": "theta delta eta zeta-100% epsilon gamma beta",
    "attributes.status = 'FINISHED'": "theta eta beta alpha",
    "attribute.status != 'FINISHED'": "delta zeta-100% epsilon gamma",
    "attr.status LIKE 'F%'": "theta eta gamma beta alpha",
    "run.status ILIKE 'fail%'": "gamma",
    "status = 'running'": "",
    "status = 'RUNNING'": "delta",
    "status != 'RUNNING'": "theta eta zeta-100% epsilon gamma beta alpha",
    "run_name = 'alpha'": "alpha",
    "run_name LIKE '%eta'": "theta eta beta",
    "attributes.run_name ILIKE 'ALPHA'": "alpha",
    "attributes.`run name` = 'beta'": "beta",
    "attributes.\"run name\" = 'beta'": "beta",
    "`run name` = 'beta'": "beta",
    "\"run name\" = 'beta'": "beta",
    "\"Run Name\" = 'beta'": "beta",
    "run_name != 'alpha'": "theta delta eta zeta-100% epsilon gamma beta",
    "run_name LIKE '%100\\%'": "",
    "run_name LIKE '%100%'": "zeta-100%",
    "user_id = 'ada'": "theta delta eta epsilon beta alpha",
    "user_id != 'ada'": "zeta-100% gamma",
    "user_id LIKE 'b%'": "gamma",
    "user_id = ''": "zeta-100%",
    "start_time > 1700000000002": "theta delta eta zeta-100% epsilon",
    "start_time >= 1700000000002": "theta delta eta zeta-100% epsilon gamma",
    "start_time = 1700000000002": "gamma",
    "start_time != 1700000000002": "theta delta eta zeta-100% epsilon beta alpha",
    "start_time < 1700000000002": "beta alpha",
    "attributes.start_time <= 1700000000001": "beta alpha",
    "created > 1700000000003": "theta delta eta zeta-100%",
    "attributes.Created = 1700000000003": "epsilon",
    "start_time > 1700000000000.5": "theta delta eta zeta-100% epsilon gamma beta",
    "end_time > 1700000000600": "epsilon gamma alpha",
    "end_time != 1700000000500": "epsilon gamma alpha",
    "end_time < 0": "",
    "artifact_uri LIKE 'mlflow-artifacts:/%'": "theta delta eta zeta-100% epsilon gamma beta alpha",
    "artifact_uri LIKE '%/artifacts'": "theta delta eta zeta-100% epsilon gamma beta alpha",
    "artifact_uri = 'x'": "",
    "dataset.name = 'squad'": "beta alpha",
    "datasets.name != 'squad'": "eta",
    "dataset.name LIKE 'SQ%'": "",
    "dataset.name ILIKE 'SQ%'": "beta alpha",
    "dataset.name IN ('squad', 'x')": "beta alpha",
    "dataset.name NOT IN ('squad')": "eta",
    "dataset.digest = 'd1'": "eta alpha",
    "dataset.digest IN ('d2')": "beta",
    "dataset.context = 'training'": "eta alpha",
    "dataset.context != 'training'": "beta",
    "dataset.context LIKE 'eval%'": "beta",
    "dataset.context NOT IN ('training')": "beta",
    "dataset.name = 'squad' AND dataset.digest = 'd1'": "alpha",
    "metrics.loss > 0 AND params.lr = '0.1'": "theta alpha",
    "metrics.loss > 0 and tags.team ilike 'nlp' and status = 'FINISHED'": "beta alpha",
    "metrics.loss > 0 and metrics.loss < 0.3": "theta alpha",
    "metrics.loss > 0 and": "theta delta beta alpha",
    "and metrics.loss > 0": "theta delta beta alpha",
    "metrics.loss > 0 and and status = 'FINISHED'": "theta beta alpha",
    " metrics.loss  >  0.4": "delta beta",
    "metrics.loss>0.4": "delta beta",
    "metrics.loss >0.4 AND": "delta beta",
}

# Filters that are refused with 400.
REFUSED = (
    "metrics.loss > 0 or metrics.loss < 0",
    "(metrics.loss > 0)",
    "metrics.loss > 'a'",
    "metrics.loss > '0.1'",
    "metrics.loss LIKE '0%'",
    "metrics.loss IS NULL",
    "metrics.loss IN (1, 2)",
    "metrics.loss",
    "metrics.loss >",
    "metrics.loss = ",
    "> 1",
    "params.lr = 0.1",
    "params.lr > '0.1'",
    "params.lr = abc",
    "params.lr = `abc`",
    "params.lr IN ('0.1')",
    "tags.team IN ('nlp')",
    "tags.team > 'a'",
    "tags.team = 5",
    "status > 'A'",
    "status IN ('FINISHED')",
    "status IS NULL",
    "status = FINISHED",
    "run_name IN ('a')",
    "run_name IS NULL",
    "run_id IN ()",
    "run_id IN (1)",
    "run_id IN 'a'",
    "run_id > 'a'",
    "start_time = 'x'",
    "start_time = '1700000000002'",
    "start_time LIKE '17%'",
    "start_time IN (1)",
    "experiment_id = '1'",
    "lifecycle_stage = 'active'",
    "attributes.foo = 'x'",
    "foo = 'x'",
    "foo.bar = 'x'",
    "METRICS.loss > 0",
    "metrics > 0",
    "dataset.foo = 'x'",
    "dataset.name > 'x'",
    "dataset.name = 5",
    "dataset.name IS NULL",
    "metrics.loss == 0.25",
    "metrics.loss <> 0.25",
    "metrics.loss > 0, metrics.loss < 1",
    "metrics.loss > 0; metrics.loss < 1",
    "metrics.loss > abc",
    "metrics.loss > 0 AND OR",
    "params.lr NOT LIKE 'a'",
    "params.lr = 'a",
    "not metrics.loss > 0",
    "metrics.loss between 0 and 1",
    "run_id NOT 'a'",
)

# One order, field by field -> all runs in that order.
ORDERS: dict[tuple[str, ...], str] = {
    ("metrics.loss",): "epsilon zeta-100% theta alpha beta delta gamma eta",
    ("metrics.loss ASC",): "epsilon zeta-100% theta alpha beta delta gamma eta",
    ("metrics.loss DESC",): "delta beta theta alpha zeta-100% epsilon gamma eta",
    ("metric.loss desc",): "delta beta theta alpha zeta-100% epsilon gamma eta",
    ("metrics.only",): "theta alpha delta eta zeta-100% epsilon gamma beta",
    ("metrics.only DESC",): "alpha theta delta eta zeta-100% epsilon gamma beta",
    ("params.lr",): "beta theta gamma alpha zeta-100% delta eta epsilon",
    ("params.lr DESC",): "zeta-100% theta gamma alpha beta delta eta epsilon",
    ("params.opt", "metrics.loss DESC"): "theta beta zeta-100% alpha delta epsilon gamma eta",
    ("tags.team",): "beta eta alpha epsilon theta delta zeta-100% gamma",
    ("tags.team DESC",): "epsilon alpha eta beta theta delta zeta-100% gamma",
    ("start_time",): "alpha beta gamma epsilon zeta-100% eta delta theta",
    ("start_time DESC",): "theta delta eta zeta-100% epsilon gamma beta alpha",
    ("attributes.start_time ASC",): "alpha beta gamma epsilon zeta-100% eta delta theta",
    ("created",): "alpha beta gamma epsilon zeta-100% eta delta theta",
    ("attributes.Created DESC",): "theta delta eta zeta-100% epsilon gamma beta alpha",
    ("end_time",): "beta alpha gamma epsilon theta delta eta zeta-100%",
    ("end_time DESC",): "epsilon gamma alpha beta theta delta eta zeta-100%",
    ("status",): "gamma theta eta beta alpha epsilon delta zeta-100%",
    ("status DESC", "run_name"): "zeta-100% delta epsilon alpha beta eta theta gamma",
    ("run_name",): "alpha beta delta epsilon eta gamma theta zeta-100%",
    ("attributes.run_name DESC",): "zeta-100% theta gamma eta epsilon delta beta alpha",
    ("user_id",): "zeta-100% theta delta eta epsilon beta alpha gamma",
    ("metrics.`m/val acc` DESC",): "alpha beta theta delta eta zeta-100% epsilon gamma",
    ('metrics."m/val acc"',): "beta alpha theta delta eta zeta-100% epsilon gamma",
    ("params.`model.size`",): "alpha theta delta eta zeta-100% epsilon gamma beta",
    ("tags.`with space`",): "alpha theta delta eta zeta-100% epsilon gamma beta",
    ("metrics.missing",): "theta delta eta zeta-100% epsilon gamma beta alpha",
    ("tags.mlflow.runName",): "alpha beta delta epsilon eta gamma theta zeta-100%",
    ("tags.mlflow.note.content",): "alpha theta delta eta zeta-100% epsilon gamma beta",
    ("metrics.loss", "params.lr", "tags.team"): "epsilon zeta-100% alpha theta beta delta gamma eta",
    ("`start_time` DESC",): "theta delta eta zeta-100% epsilon gamma beta alpha",
    ("attribute.end_time",): "beta alpha gamma epsilon theta delta eta zeta-100%",
}
REFUSED_ORDERS = (
    "metrics.loss, params.lr",
    "metrics.loss up",
    "metrics.loss ASC DESC",
    "loss",
    "dataset.name",
    "experiment_id",
    "lifecycle_stage",
    "'run_name'",
    "metrics",
    "",
)
