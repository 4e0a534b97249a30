"""Read-only SQL views for people: what docs/sql.md lists. They live in code, so that they follow the tables.

A view is made anew when its text here is no longer what the database has. Everything that is in the bin is left out.
Views the user built on these survive as long as the columns stay what they are.
"""

from __future__ import annotations

import hashlib
import re

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

_RUNS = """
SELECT r.id, p.name AS project, r.name, r.status, r.group_name, r.parent_run_id, r.notes, r.data_hash,
       r.created_at, r.heartbeat_at, r.finished_at,
       COALESCE(r.finished_at, r.heartbeat_at) - r.created_at AS duration,
       r.exit_code, r.error, r.points_stored, r.points_sent, r.config, r.environment
FROM run r JOIN project p ON p.id = r.project_id
WHERE r.deleted_at IS NULL AND p.deleted_at IS NULL
"""
_PARAMS = """
SELECT v.run_id, r.project, r.name AS run_name, v.key, v.value, v.number
FROM param v JOIN v_runs r ON r.id = v.run_id
"""
_TAGS = """
SELECT v.run_id, r.project, r.name AS run_name, v.key, v.value
FROM tag v JOIN v_runs r ON r.id = v.run_id
"""
_METRICS = """
SELECT s.run_id, r.project, r.name AS run_name, s.key, s.count AS points, s.first_step, s.last_step, s.last_time,
       s.last AS last_value, s.last_special, s.min AS min_value, s.min_step, s.max AS max_value, s.max_step,
       s.sum AS finite_sum, s.segment + 1 AS segments, s.finite_count, s.first_time
FROM series s JOIN v_runs r ON r.id = s.run_id
WHERE s.rank = 0
"""
_ARTIFACTS = """
SELECT a.run_id, r.project, r.name AS run_name, a.path, a.kind, a.sha256, a.size, a.created_at
FROM artifact a JOIN v_runs r ON r.id = a.run_id
"""
_MEDIA = """
SELECT m.id, m.run_id, r.project, r.name AS run_name, m.key, m.step, m.rank, m.position, m.time, m.kind, m.caption,
       m.content_type, m.sha256, m.size
FROM media m JOIN v_runs r ON r.id = m.run_id
"""
_MODELS = """
SELECT v.id, v.name AS model, v.version, {aliases} AS aliases, v.run_id, r.project, r.name AS run_name,
       v.base_version_id, v.source, v.method, v.description, v.stage, v.created_at, v.updated_at
FROM model_version v LEFT JOIN v_runs r ON r.id = v.run_id
WHERE v.deleted_at IS NULL
"""
_EVALUATIONS = """
SELECT e.id AS evaluation_id, e.run_id, r.project, r.name AS run_name, e.model_version_id, e.name, e.step,
       e.suite_id, s.name AS suite, s.version AS suite_version, s.task_type,
       e.n AS items, e.n_missing AS items_missing, e.n_unparsed AS items_unparsed, e.created_at,
       {score.name:text} AS metric, {score.value:float} AS value,
       {score.interval.0:float} AS low, {score.interval.1:float} AS high, {score.confidence:float} AS confidence,
       {score.n:int} AS n, {score.method:text} AS method, {score.reason:text} AS reason,
       {score.higher_is_better:bool} AS higher_is_better, {score.signature:text} AS signature
FROM evaluation e JOIN suite s ON s.id = e.suite_id LEFT JOIN v_runs r ON r.id = e.run_id
     CROSS JOIN {each:e.scores} AS score
"""
_AUDITS = """
SELECT a.id AS audit_id, a.verdict, {result.sentence:text} AS sentence, q.name AS policy, q.version AS policy_version,
       a.run_id, r.project, r.name AS run_name, a.before_version_id, a.after_version_id, a.created_at,
       {task.suite:text} AS suite, {task.metric:text} AS metric, {task.verdict:text} AS task_verdict,
       {task.n:int} AS n, {task.before:float} AS before, {task.after:float} AS after,
       {task.difference:float} AS difference, {task.interval.0:float} AS low, {task.interval.1:float} AS high,
       {task.lower_bound:float} AS lower_bound, {task.margin:float} AS margin, {task.lost:int} AS lost,
       {task.gained:int} AS gained, {task.p_value:float} AS p_value, {task.p_adjusted:float} AS p_adjusted,
       {task.reason:text} AS reason,
       {task.floor.share:float} AS floor, {task.floor.above:float} AS above_floor,
       {task.floor.interval.0:float} AS above_low, {task.floor.interval.1:float} AS above_high,
       {task.floor.p_adjusted:float} AS above_p_adjusted, {task.floor.called:bool} AS called_forgetting,
       w.who AS waived_by, w.why AS waiver_reason, w.until AS waived_until
FROM audit a JOIN policy q ON q.id = a.policy_id LEFT JOIN v_runs r ON r.id = a.run_id
     CROSS JOIN {each:a.result.tasks} AS task
     LEFT JOIN waiver w ON w.id = (
       SELECT v.id FROM waiver v
       WHERE v.audit_id = a.id AND v.revokes IS NULL AND (v.suite IS NULL OR v.suite = {task.suite:text})
         AND {task.verdict:text} <> 'PASS' AND NOT EXISTS (SELECT 1 FROM waiver x WHERE x.revokes = v.id)
       ORDER BY v.until DESC, v.id DESC LIMIT 1)
"""
_EXPERIMENTS = """
SELECT x.id, x.key, x.name, x.status, x.phase, {plan.hypothesis:text} AS hypothesis, {plan.analysis:text} AS analysis,
       {plan.alpha:float} AS alpha, {plan.coverage:float} AS coverage, x.created_at, x.started_at,
       x.phase_started_at, x.stopped_at, {decision.winner:text} AS winner, {decision.verdict:text} AS verdict,
       {decision.reason:text} AS decision_reason, {decision.at:float} AS decided_at
FROM experiment x
"""
_ARMS = """
SELECT x.key AS experiment, a.phase, a.metric, a.variant, CAST(SUM(a.n) AS BIGINT) AS units,
       SUM(a.sum_x) AS denominator, SUM(a.sum_y) AS total, SUM(a.sum_y) / NULLIF(SUM(a.sum_x), 0) AS value
FROM arm_sum a JOIN experiment x ON x.id = a.experiment_id
GROUP BY x.key, a.phase, a.metric, a.variant
"""
# In the order they must be made: later ones use earlier ones.
DEFINITIONS = {
    "v_runs": _RUNS,
    "v_params": _PARAMS,
    "v_tags": _TAGS,
    "v_metrics": _METRICS,
    "v_artifacts": _ARTIFACTS,
    "v_media": _MEDIA,
    "v_models": _MODELS,
    "v_evaluations": _EVALUATIONS,
    "v_audits": _AUDITS,
    "v_experiments": _EXPERIMENTS,
    "v_experiment_arms": _ARMS,
}

_PLACE = re.compile(r"\{(?P<root>\w+)(?P<path>[\w.]*)(?::(?P<kind>[\w.]+))?\}")
_ROOTS = {"result": "a.result", "plan": "x.plan", "decision": "x.decision"}
_ALIASES = {
    "sqlite": "(SELECT group_concat(alias, ',') FROM (SELECT alias FROM model_alias"
    " WHERE model_version_id = v.id ORDER BY alias))",
    "postgresql": "(SELECT string_agg(alias, ',' ORDER BY alias) FROM model_alias WHERE model_version_id = v.id)",
}
_CASTS = {"float": "double precision", "int": "bigint", "bool": "boolean"}


def install(engine: Engine) -> None:
    """Make the views that are missing or changed. Hardly any start has something to do."""
    with engine.begin() as connection:
        dialect = connection.dialect.name
        wanted = {name: _create(name, definition, dialect) for name, definition in DEFINITIONS.items()}
        if _held(connection) == {name: _mark(sql) for name, sql in wanted.items()}:
            return
        if dialect == "postgresql":  # replicas that start together take turns
            connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('tunescope schema'))"))
            if not _replace(connection, wanted):
                drop(connection)
                _replace(connection, wanted)
        else:
            drop(connection)
            for sql in wanted.values():
                connection.exec_driver_sql(sql)


def drop(connection: Connection) -> None:
    """Take all views away: before a migration, which may not alter a column that a view shows."""
    cascade = " CASCADE" if connection.dialect.name == "postgresql" else ""
    for name in reversed(DEFINITIONS):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}{cascade}")


def _replace(connection: Connection, wanted: dict[str, str]) -> bool:
    """Put the views in place of those that are there; False if a column went, changed its type or moved."""
    savepoint = connection.begin_nested()
    try:
        for name, sql in wanted.items():
            connection.exec_driver_sql(sql.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1))
            connection.exec_driver_sql(f"COMMENT ON VIEW {name} IS '{_mark(sql)}'")
    except ProgrammingError:
        savepoint.rollback()
        return False
    savepoint.commit()
    return True


def _held(connection: Connection) -> dict[str, str]:
    """The views of ours that the database has, each with the mark of its text."""
    if connection.dialect.name == "sqlite":
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view'")
        return {name: _mark(sql) for name, sql in rows if name in DEFINITIONS}
    rows = connection.exec_driver_sql(
        "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class WHERE relkind = 'v'"
    )
    return {name: mark for name, mark in rows if name in DEFINITIONS}


def _mark(sql: str) -> str:
    return f"made by Tunescope: {hashlib.sha256(sql.encode()).hexdigest()[:16]}"


def _create(name: str, definition: str, dialect: str) -> str:
    return f"CREATE VIEW {name} AS {_PLACE.sub(lambda place: _json(place, dialect), definition.strip())}"


def _json(place: re.Match[str], dialect: str) -> str:
    """`{task.interval.0:float}`: a value inside a JSON column; `{each:a.result.tasks}`: the elements of a list."""
    root, path, kind = place["root"], place["path"].split(".")[1:], place["kind"]
    if root == "aliases":
        return _ALIASES[dialect]
    if root == "each":
        table, column, *inner = kind.split(".")
        if dialect == "sqlite":
            where = "".join(f".{name}" for name in inner)
            return f"json_each({table}.{column}, '${where}')"
        where = "".join(f" -> {_step(name)}" for name in inner)
        return f"LATERAL json_array_elements({table}.{column}{where})"
    source = _ROOTS.get(root, f"{root}.value")
    if dialect == "sqlite":
        steps = "".join(f"[{name}]" if name.isdigit() else f".{name}" for name in path)
        return f"json_extract({source}, '$.{steps[1:]}')"
    inside = "".join(f" -> {_step(name)}" for name in path[:-1])
    found = f"({source}{inside} ->> {_step(path[-1])})"
    return found if kind == "text" else f"CAST({found} AS {_CASTS[kind]})"


def _step(name: str) -> str:
    return name if name.isdigit() else f"'{name}'"
