"""draft -> running <-> paused -> stopped -> decided, and the log of every change."""

from __future__ import annotations

import time
from typing import Any

from sqlmodel import Session

from service.errors import Conflict, Invalid, NotFound
from service.experiments import phases
from service.experiments.schemas import Decide, ExperimentEdit, NewExperiment, UpstreamSpec
from service.store import experiments as store
from service.store.tables import Experiment, Upstream, new_id

# Action -> the states it is possible in, and the state it leads to.
TRANSITIONS = {
    "start": ({"draft", "paused"}, "running"),
    "pause": ({"running"}, "paused"),
    "stop": ({"running", "paused"}, "stopped"),
    "decide": ({"stopped"}, "decided"),
}


class ExperimentNotFound(NotFound):
    code = "experiment_not_found"


class ExperimentExists(Conflict):
    code = "experiment_exists"


class WrongStatus(Conflict):
    code = "experiment_status"


class PlanImpossible(Invalid):
    code = "experiment_plan"


class UpstreamExists(Conflict):
    code = "upstream_exists"


class UpstreamNotFound(NotFound):
    code = "upstream_not_found"


class UpstreamInUse(Conflict):
    code = "upstream_in_use"


def find(session: Session, key: str) -> Experiment:
    experiment = store.find(session, key)
    if experiment is None:
        raise ExperimentNotFound(f"There is no experiment '{key}'.")
    return experiment


def create(session: Session, plan: NewExperiment, actor: str, holdout: float = 0.0) -> Experiment:
    """A draft with this plan. `holdout`: the share of units that keep the control as long as it lives.

    Raises:
        ExperimentExists, PlanImpossible: names an upstream or a model version that is not there.
    """
    if store.find(session, plan.key) is not None:
        raise ExperimentExists(f"There is an experiment '{plan.key}' already; keys are never used twice.")
    _check_references(session, plan)
    body = plan.model_dump(mode="json", exclude={"key", "name", "salt"}) | {"holdout": holdout}
    experiment = Experiment(
        key=plan.key, name=plan.name or plan.key, salt=plan.salt or new_id(), plan=body, created_at=time.time()
    )
    store.add(session, experiment)
    store.log(session, experiment, actor, "create", body)
    return experiment


def _check_references(session: Session, plan: NewExperiment) -> None:
    wanted = {name for name in (*(v.upstream for v in plan.variants), plan.fallback_upstream) if name}
    _check_upstreams_exist(session, wanted)
    versions = {v.model_version_id for v in plan.variants if v.model_version_id}
    unknown = sorted(versions - store.model_versions(session, versions).keys())
    if unknown:
        raise PlanImpossible(f"No such model version: {', '.join(unknown)}.")


def _check_upstreams_exist(session: Session, names: set[str]) -> None:
    missing = sorted(name for name in names if store.find_upstream(session, name) is None)
    if missing:
        raise PlanImpossible(f"No such upstream: {', '.join(missing)}. An admin adds one with POST /api/v1/upstreams.")


def move(session: Session, key: str, action: str, actor: str, details: dict[str, Any] | None = None) -> Experiment:
    """Take the experiment to the state that `action` leads to.

    Raises:
        ExperimentNotFound, WrongStatus
        PlanImpossible: at the start, some variants name an upstream and others do not.
    """
    experiment = find_for_change(session, key)
    possible, target = TRANSITIONS[action]
    if experiment.status not in possible:
        raise WrongStatus(
            f"'{key}' is {experiment.status}: only {' or '.join(sorted(possible))} experiments can {action}."
        )
    now = time.time()
    if target == "running" and experiment.started_at is None:
        _check_upstreams(experiment)
        experiment.started_at = now
        phases.begin(experiment, phases.planned(experiment), now)
    if target == "stopped":
        experiment.stopped_at = now
    log = {"from": experiment.status, "to": target} | (details or {})
    experiment.status = target
    store.log(session, experiment, actor, action, log)
    return experiment


def _check_upstreams(experiment: Experiment) -> None:
    """All variants name an upstream, or none does: else the gateway answers some users and refuses others."""
    with_one = [variant["key"] for variant in experiment.plan["variants"] if variant["upstream"]]
    without = [variant["key"] for variant in experiment.plan["variants"] if not variant["upstream"]]
    if with_one and without:
        raise PlanImpossible(
            f"'{experiment.key}' cannot start: {_listed(with_one)} an upstream, {_listed(without)} none, so the "
            "gateway would refuse those users. Give each one: PATCH "
            f'/api/v1/experiments/{experiment.key} {{"upstreams": {{"{without[0]}": NAME}}}}. '
            "Where clients call the models themselves, no variant needs one."
        )


def _listed(keys: list[str]) -> str:
    named = ", ".join(f"'{key}'" for key in keys)
    return f"the variant {named} names" if len(keys) == 1 else f"the variants {named} name"


def decide(session: Session, key: str, choice: Decide, actor: str, verdict: str, sentence: str) -> Experiment:
    """Name the winner of a stopped experiment; from now on everybody gets it."""
    keys = [variant["key"] for variant in find(session, key).plan["variants"]]
    if choice.winner not in keys:
        raise PlanImpossible(f"'{choice.winner}' is no variant of '{key}': it has {', '.join(keys)}.")
    decision = choice.model_dump(exclude={"rollout"}) | {"verdict": verdict, "sentence": sentence}
    experiment = move(session, key, "decide", actor, decision)
    experiment.decision = decision | {"actor": actor, "at": time.time()}
    return experiment


def edit(session: Session, key: str, change: ExperimentEdit, actor: str) -> Experiment:
    """Change what may change; what moves units between arms begins a new phase once traffic has come.

    Raises:
        ExperimentNotFound, WrongStatus, PlanImpossible
    """
    experiment = find_for_change(session, key)
    fields = change.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    plan_fields = fields.keys() - {"name"}
    if plan_fields and experiment.status in {"stopped", "decided"}:
        raise WrongStatus(f"'{key}' is {experiment.status}: its plan is part of the record now.")
    plan = dict(experiment.plan)
    if "weights" in fields:
        plan["variants"] = _weighted(key, plan["variants"], fields.pop("weights"))
    if "upstreams" in fields:
        plan["variants"] = _with_upstreams(session, experiment, plan["variants"], fields.pop("upstreams"))
    _check_forced(key, plan, fields.get("forced", {}))
    experiment.name = fields.pop("name", experiment.name)
    plan |= fields
    moved = any(plan[part] != experiment.plan[part] for part in ("variants", "targeting"))
    if moved and experiment.status != "draft":
        experiment.phase += 1
    experiment.plan = plan
    if moved and experiment.status != "draft":
        phases.begin(experiment, phases.planned(experiment), time.time())
    log = change.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    store.log(session, experiment, actor, "edit", log | {"phase": experiment.phase})
    return experiment


def _weighted(key: str, variants: list[dict[str, Any]], weights: dict[str, float]) -> list[dict[str, Any]]:
    if weights.keys() != {variant["key"] for variant in variants}:
        raise PlanImpossible(f"Weights must name every variant of '{key}': {', '.join(v['key'] for v in variants)}.")
    if sum(weights.values()) <= 0:
        raise PlanImpossible("The weights add up to 0: nobody would be assigned.")
    return [variant | {"weight": weights[variant["key"]]} for variant in variants]


def _with_upstreams(
    session: Session, experiment: Experiment, variants: list[dict[str, Any]], upstreams: dict[str, str]
) -> list[dict[str, Any]]:
    if experiment.status != "draft":
        raise WrongStatus(f"'{experiment.key}' is {experiment.status}: its variants keep the models they have.")
    unknown = sorted(upstreams.keys() - {variant["key"] for variant in variants})
    if unknown:
        raise PlanImpossible(f"'{experiment.key}' has no variant {', '.join(unknown)} to give an upstream to.")
    _check_upstreams_exist(session, set(upstreams.values()))
    return [variant | {"upstream": upstreams.get(variant["key"], variant["upstream"])} for variant in variants]


def _check_forced(key: str, plan: dict[str, Any], forced: dict[str, str]) -> None:
    unknown = sorted(set(forced.values()) - {variant["key"] for variant in plan["variants"]})
    if unknown:
        raise PlanImpossible(f"'{key}' has no variant {', '.join(unknown)} to force a unit into.")


def find_for_change(session: Session, key: str) -> Experiment:
    experiment = store.find_for_change(session, key)
    if experiment is None:
        raise ExperimentNotFound(f"There is no experiment '{key}'.")
    return experiment


def create_upstream(session: Session, spec: UpstreamSpec) -> Upstream:
    if store.find_upstream(session, spec.name) is not None:
        raise UpstreamExists(f"There is an upstream '{spec.name}' already; change it with PUT.")
    return store.save_upstream(session, Upstream(**spec.model_dump(), created_at=time.time()))


def replace_upstream(session: Session, name: str, spec: UpstreamSpec) -> Upstream:
    """Change an upstream; while an experiment runs on it, only its key and prices.

    Raises:
        UpstreamNotFound, UpstreamInUse, PlanImpossible: the body names another upstream.
    """
    old = store.find_upstream(session, name)
    if old is None:
        raise UpstreamNotFound(f"There is no upstream '{name}'.")
    if spec.name != name:
        raise PlanImpossible(f"An upstream keeps its name: the path says '{name}', the body '{spec.name}'.")
    if (old.base_url, old.model) != (spec.base_url, spec.model):
        users = [e.key for e in store.everything(session) if e.status in {"running", "paused"} and _uses(e, old.name)]
        if users:
            raise UpstreamInUse(
                f"Experiments run on '{spec.name}' ({', '.join(users)}): another model would spoil them. "
                "Add a new upstream instead."
            )
    return store.save_upstream(session, Upstream(**spec.model_dump(), created_at=old.created_at))


def _uses(experiment: Experiment, upstream: str) -> bool:
    plan = experiment.plan
    return plan["fallback_upstream"] == upstream or any(v["upstream"] == upstream for v in plan["variants"])
