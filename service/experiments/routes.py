"""The native API of experiments: plan, run, read."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from service.auth import require
from service.dependencies import ReadSession, ServiceSettings, WriteSession
from service.experiments import intake, lifecycle, planner, readout, return_path, rollout
from service.experiments.report import Readout
from service.experiments.schemas import (
    ChangeList,
    ChangeView,
    Decide,
    Events,
    EventsAccepted,
    ExperimentEdit,
    ExperimentList,
    ExperimentView,
    Halt,
    NewExperiment,
    UpstreamList,
    UpstreamSpec,
    UpstreamView,
)
from service.experiments.traffic import LiveTraffic
from service.experiments.views import experiment_view, upstream_view
from service.store import experiments as store

router = APIRouter(prefix="/api/v1", tags=["experiments"])

Writer = Annotated[str, Depends(require("write"))]
READ, INGEST, EVALUATE, ADMIN = ([Depends(require(scope))] for scope in ("read", "ingest", "evaluate", "admin"))


@router.post("/upstreams", status_code=201, dependencies=ADMIN)
def create_upstream(spec: UpstreamSpec, session: WriteSession, traffic: LiveTraffic) -> UpstreamView:
    """Allow the gateway to call a model endpoint."""
    store.after_commit(session, traffic.snapshots.refresh)
    return upstream_view(lifecycle.create_upstream(session, spec))


@router.put("/upstreams/{name}", dependencies=ADMIN)
def replace_upstream(name: str, spec: UpstreamSpec, session: WriteSession, traffic: LiveTraffic) -> UpstreamView:
    """Change an upstream; the model behind a running experiment stays."""
    store.after_commit(session, traffic.snapshots.refresh)
    return upstream_view(lifecycle.replace_upstream(session, name, spec))


@router.get("/upstreams", dependencies=READ)
def list_upstreams(session: ReadSession) -> UpstreamList:
    """The model endpoints that the gateway may call; their keys are never shown."""
    return UpstreamList(items=[upstream_view(row) for row in store.upstreams(session)])


@router.post("/experiments", status_code=201)
def create_experiment(
    plan: NewExperiment, session: WriteSession, traffic: LiveTraffic, settings: ServiceSettings, actor: Writer
) -> ExperimentView:
    """Plan an experiment: a draft, without traffic."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(lifecycle.create(session, plan, actor, settings.holdout))


@router.post("/experiments/plan", dependencies=READ)
def plan_experiment(question: planner.Question) -> planner.Plan:
    """Before the start: the smallest difference that this traffic shows, and the days that a difference takes."""
    return planner.plan(question)


@router.get("/experiments", dependencies=READ)
def list_experiments(
    session: ReadSession, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: str | None = None
) -> ExperimentList:
    """Newest first."""
    rows, following = store.page(session, limit, cursor)
    return ExperimentList(items=[experiment_view(row) for row in rows], next_cursor=following)


@router.get("/experiments/snapshot", dependencies=EVALUATE)
async def snapshot(request: Request, traffic: LiveTraffic) -> Response:
    """What clients that decide by themselves need. Poll it with If-None-Match: 304 while nothing changed."""
    current = traffic.snapshots.current
    headers = {"etag": f'"{current.etag}"', "cache-control": "no-cache"}
    known = {tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get("if-none-match", "").split(",")}
    if current.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(current.body, media_type="application/json", headers=headers)


@router.get("/experiments/{key}", dependencies=READ)
def get_experiment(key: str, session: ReadSession) -> ExperimentView:
    """One experiment with its plan."""
    return experiment_view(lifecycle.find(session, key))


@router.patch("/experiments/{key}")
def edit_experiment(
    key: str, change: ExperimentEdit, session: WriteSession, traffic: LiveTraffic, actor: Writer
) -> ExperimentView:
    """Change weights, coverage, targeting or testers; what moves units between arms begins a new phase."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(lifecycle.edit(session, key, change, actor))


@router.post("/experiments/{key}/start")
def start_experiment(key: str, session: WriteSession, traffic: LiveTraffic, actor: Writer) -> ExperimentView:
    """Send traffic to the arms, for the first time or again after a pause."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(lifecycle.move(session, key, "start", actor))


@router.post("/experiments/{key}/pause")
def pause_experiment(key: str, session: WriteSession, traffic: LiveTraffic, actor: Writer) -> ExperimentView:
    """Everybody gets the control, nobody is counted."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(lifecycle.move(session, key, "pause", actor))


@router.post("/experiments/{key}/stop")
def stop_experiment(key: str, session: WriteSession, traffic: LiveTraffic, actor: Writer) -> ExperimentView:
    """End it for good; outcomes of its requests may still come."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(lifecycle.move(session, key, "stop", actor))


@router.post("/experiments/{key}/decide")
def decide_experiment(
    key: str, choice: Decide, session: WriteSession, traffic: LiveTraffic, actor: Writer
) -> ExperimentView:
    """Name the winner of a stopped experiment: everybody gets it, at once or by the steps of a rollout. What users
    said is written to the arms' model versions and their runs, as tags."""
    store.after_commit(session, traffic.snapshots.refresh)
    read = readout.read(session, key)
    experiment = lifecycle.decide(session, key, choice, actor, read.verdict.decision, read.verdict.sentence)
    return_path.write(session, read)
    if choice.rollout is not None:
        rollout.begin(session, experiment, choice.rollout, actor)
    return experiment_view(experiment)


@router.post("/experiments/{key}/rollout/advance")
def advance_rollout(key: str, session: WriteSession, traffic: LiveTraffic, actor: Writer) -> ExperimentView:
    """Take the next step of a rollout now, without waiting for units or time."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(rollout.advance(session, key, actor))


@router.post("/experiments/{key}/rollout/halt")
def halt_rollout(key: str, why: Halt, session: WriteSession, traffic: LiveTraffic, actor: Writer) -> ExperimentView:
    """End a rollout: everybody gets the control again."""
    store.after_commit(session, traffic.snapshots.refresh)
    return experiment_view(rollout.halt(session, key, actor, why.reason))


@router.get("/experiments/{key}/changes", dependencies=READ)
def list_changes(key: str, session: ReadSession) -> ChangeList:
    """Who did what, when; oldest first."""
    rows = store.changes(session, lifecycle.find(session, key).id)
    return ChangeList(items=[ChangeView(**row.model_dump(exclude={"id", "experiment_id"})) for row in rows])


@router.get("/experiments/{key}/readout", dependencies=READ)
def read_experiment(key: str, session: ReadSession, phase: Annotated[int | None, Query(ge=1)] = None) -> Readout:
    """The verdict so far, and everything behind it. `phase`: an earlier one, or the current one of a rollout."""
    return readout.read(session, key, phase)


@router.post("/events", dependencies=INGEST)
def send_events(given: Events, traffic: LiveTraffic) -> EventsAccepted:
    """Outcomes, exposures and calls made elsewhere. What is acknowledged is stored; sending again is harmless."""
    now = traffic.clock.now()
    events = intake.read(given.events, traffic.snapshots, now, traffic.retention.oldest(now))
    applied = traffic.recorder.write_through(events)
    return EventsAccepted(accepted=applied.accepted, duplicates=applied.duplicates)
