"""What every rule says about a run now: its series read in bounded pieces, the rules applied."""

from __future__ import annotations

from sqlmodel import Session

from service.measure.diagnosis import Curve, Diagnosis
from service.measure.examination import Facts, chosen, examine, loss_is_yardstick
from service.measure.metric_names import role
from service.store import sketch as store
from service.store.tables import Run
from service.tracking.flatten import flatten

# Where people write down how many steps a training will have.
TOTAL_STEPS = {"max_steps", "total_steps", "num_training_steps", "train_steps", "max_iters"}


def of_run(session: Session, run: Run, now: float, silent_after: float) -> list[Diagnosis]:
    """One diagnosis a rule, and more where a rule reads several metrics. Costs milliseconds however long the run."""
    counts = store.counts(session, run.id)
    curves = [
        Curve(key, points.steps, points.times, points.values)
        for key, points in store.sketch(session, run.id, chosen(counts)).items()
    ]
    facts = Facts(
        running=run.status == "running",
        heartbeat_at=run.heartbeat_at,
        error=run.error,
        exit_code=run.exit_code,
        share_done=_share_done(session, run, list(counts), curves),
        loss_is_yardstick=loss_is_yardstick(counts),
    )
    return examine(facts, curves, now=now, silent_after=silent_after + run.patience)


def _share_done(session: Session, run: Run, keys: list[str], curves: list[Curve]) -> float | None:
    """What the run logs as its progress, else its last training step against the steps in its config."""
    logged = store.last_values(session, run.id, [key for key in keys if role(key) == "progress"])
    shares = [share for share in logged.values() if share is not None and 0 <= share <= 1]
    if shares:
        return shares[0]
    steps = [int(curve.steps.max()) for curve in curves if role(curve.key) == "train_loss" and len(curve)]
    planned = [
        number
        for key, (_, number) in flatten(run.config).items()
        if number is not None and number > 0 and key.rpartition(".")[2] in TOTAL_STEPS
    ]
    return min(steps[0] / planned[0], 1.0) if steps and planned else None
