"""What users said goes back to where the model came from: tags on the arm's model version and on its training run.

    experiment.<key>.verdict    better, worse, …; 'control' for the arm that the others are compared with
    experiment.<key>.sentence   the first primary metric's effect, with its interval

Runs are found by them: `tags.experiment.support-bot.verdict = 'better'`.
"""

from __future__ import annotations

from sqlmodel import Session

from service.experiments.report import ArmReport, Readout
from service.store import registry, runs


def write(session: Session, readout: Readout) -> None:
    """Tag the model versions behind the arms of a decided experiment, and the runs that made them."""
    for arm in readout.arms:
        if arm.model_version is None:
            continue
        tags = _tags(readout, arm)
        registry.set_version_tags(session, arm.model_version.id, tags)
        run_id = arm.model_version.run_id
        if run_id is not None and runs.exists(session, run_id):
            runs.set_tags(session, run_id, tags)


def _tags(readout: Readout, arm: ArmReport) -> dict[str, str | None]:
    verdict, sentence = "control", readout.verdict.sentence
    if not arm.is_control:
        effect = next(e for e in readout.effects if e.variant == arm.variant and e.role == "primary")
        broken = readout.verdict.decision == "broken"
        verdict = "broken" if broken else effect.verdict
        sentence = readout.verdict.sentence if broken else effect.sentence
    key = readout.experiment.key
    return {f"experiment.{key}.verdict": verdict, f"experiment.{key}.sentence": sentence}
