"""A winner reaches everybody by steps, each watched against the control; harm ends it without anybody's hand.

A step is a phase of two arms: the winner gets its share, the control the rest. A larger share only ever moves units
from the control to the winner. Watching is looking often, so effects are read by the always-valid sequence, whatever
the experiment's own analysis was.
"""

from __future__ import annotations

import time
from typing import Any, Literal

from sqlmodel import Session

from service.errors import Conflict
from service.experiments import evidence, lifecycle, phases, readout
from service.experiments.effects import effects_of
from service.experiments.schemas import RolloutPlan
from service.experiments.verdict import split_of
from service.store import experiments as store
from service.store.tables import Experiment

WATCHER = "tunescope"


class RolloutImpossible(lifecycle.PlanImpossible):
    code = "rollout_plan"


class NoRollout(Conflict):
    code = "rollout_status"


def begin(session: Session, experiment: Experiment, plan: RolloutPlan, actor: str) -> None:
    """Send the first share of the traffic to the winner of an experiment that was just decided.

    Raises:
        RolloutImpossible: the winner is the control, which everybody has already.
    """
    winner, control = winner_of(experiment), control_of(experiment)
    if winner == control:
        raise RolloutImpossible(f"'{winner}' is the control: everybody gets it already. Decide without a rollout.")
    rules = plan.model_dump(mode="json")
    rules["minimum_units"] = plan.minimum_units or experiment.plan["minimum_units"]
    experiment.rollout = rules | {"state": "rolling", "reason": None, "waiting_for": None, "checked_at": None}
    _take_step(session, experiment, 0, actor)


def advance(session: Session, key: str, actor: str) -> Experiment:
    """Take the next step now, by a person's own judgement.

    Raises:
        ExperimentNotFound, NoRollout
    """
    experiment = _rolling(session, key)
    _take_step(session, experiment, step_of(experiment) + 1, actor)
    return experiment


def halt(session: Session, key: str, actor: str, reason: str) -> Experiment:
    """Give everybody the control again.

    Raises:
        ExperimentNotFound, NoRollout
    """
    experiment = _rolling(session, key)
    _halt(session, experiment, actor, reason)
    return experiment


def _rolling(session: Session, key: str) -> Experiment:
    experiment = lifecycle.find_for_change(session, key)
    if not is_rolling(experiment):
        state = (experiment.rollout or {}).get("state", "not begun")
        raise NoRollout(f"The rollout of '{key}' is {state}: only one that is rolling can be changed.")
    return experiment


def _take_step(session: Session, experiment: Experiment, step: int, actor: str) -> None:
    rules, now = dict(experiment.rollout or {}), time.time()
    share = rules["steps"][step]
    rules |= {"step": step, "share": share, "step_started_at": now, "waiting_for": None}
    if share >= 1:
        rules["state"] = "done"
    else:
        experiment.phase += 1
        weights = {control_of(experiment): 1 - share, winner_of(experiment): share}
        phases.begin(experiment, weights, now, rollout_step=step)
    experiment.rollout = rules
    action = "rollout_done" if share >= 1 else "rollout_step"
    store.log(session, experiment, actor, action, {"share": share, "phase": experiment.phase})


def _halt(session: Session, experiment: Experiment, actor: str, reason: str) -> None:
    experiment.rollout = {**(experiment.rollout or {}), "state": "halted", "reason": reason, "waiting_for": None}
    share = experiment.rollout["share"]
    store.log(session, experiment, actor, "rollout_halted", {"reason": reason, "share": share})


# --- watching -----------------------------------------------------------------------------------------


def claim(session: Session, key: str, now: float, every_seconds: float) -> int | None:
    """The step to look at, if nobody has looked in the last `every_seconds`. Of several replicas one gets it: the
    others wait for its transaction, and find the look taken, also where their clocks are behind. A clock that went
    back further does not stop the looks."""
    experiment = store.find_for_change(session, key)
    if experiment is None or not is_rolling(experiment):
        return None
    looked = (experiment.rollout or {}).get("checked_at")
    if looked is not None and abs(now - looked) < every_seconds:
        return None
    experiment.rollout = {**(experiment.rollout or {}), "checked_at": now}
    return step_of(experiment)


def look(session: Session, key: str, now: float) -> tuple[Literal["halt", "wait", "step"], str | None]:
    """What the current step says: harm (and which), what it waits for, or that the next step may come."""
    experiment = lifecycle.find(session, key)
    found = evidence.read(session, experiment, experiment.phase, watched=True)
    effects = effects_of(found.evidence, readout.design_of(experiment, experiment.phase, found.evidence.metrics))
    harm = next((effect for effect in effects if effect.verdict == "worse"), None)
    if harm is not None:
        return "halt", harm.sentence
    rules = experiment.rollout or {}
    split = split_of(found.weights, found.totals)
    if not split.ok:
        return "wait", f"units did not split as planned (p = {split.p_value:.1e}): see that all callers are up to date"
    fewest = min(split.observed.values())
    if fewest < rules["minimum_units"]:
        return "wait", f"{rules['minimum_units'] - fewest:,} more units in the smaller arm"
    left = rules["step_started_at"] + rules["hold_seconds"] - now
    return ("wait", f"{left:,.0f} more seconds of this step") if left > 0 else ("step", None)


def act(session: Session, key: str, step: int, found: tuple[Literal["halt", "wait", "step"], str | None]) -> bool:
    """Do what the look at `step` asks for, unless somebody has changed the rollout since; whether traffic changes."""
    experiment = store.find_for_change(session, key)
    if experiment is None or not is_rolling(experiment) or step_of(experiment) != step:
        return False
    action, why = found
    if action == "halt":
        _halt(session, experiment, WATCHER, why or "")
    elif action == "step":
        _take_step(session, experiment, step + 1, WATCHER)
    else:
        experiment.rollout = {**(experiment.rollout or {}), "waiting_for": why}
    return action != "wait"


# --- what the record says -----------------------------------------------------------------------------


def is_rolling(experiment: Experiment) -> bool:
    return (experiment.rollout or {}).get("state") == "rolling"


def step_of(experiment: Experiment) -> int:
    step: int = (experiment.rollout or {})["step"]
    return step


def control_of(experiment: Experiment) -> str:
    control: str = experiment.plan["variants"][0]["key"]
    return control


def winner_of(experiment: Experiment) -> str:
    decision: dict[str, Any] = experiment.decision or {}
    winner: str = decision["winner"]
    return winner
