"""Policies: what may be lost, written down, hashed and versioned before the result is seen."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any, Literal

from sqlmodel import Session

from service.errors import Invalid, NotFound
from service.forgetting.schemas import PolicyCreate
from service.measure.metrics import METRICS
from service.store import audits
from service.store.tables import Policy


class PolicyNotFound(NotFound):
    code = "policy_not_found"


class PolicyInvalid(Invalid):
    code = "policy_invalid"


def build(wanted: PolicyCreate) -> Policy:
    """The checked policy, ready for `audits.add_policy`."""
    seen: set[str] = set()
    for task in wanted.protected:
        if task.suite in seen:
            raise PolicyInvalid(f"The suite '{task.suite}' is protected twice.")
        seen.add(task.suite)
        if task.metric is not None and task.metric not in METRICS:
            known = ", ".join(sorted(METRICS))
            raise PolicyInvalid(f"There is no metric '{task.metric}' (suite '{task.suite}'). Known: {known}.")
        if task.metric is not None and METRICS[task.metric].kind == "corpus":
            raise PolicyInvalid(f"{whole_set(task.metric)} (suite '{task.suite}').")
        better = "higher" if task.metric is None else better_when(task.metric)
        if task.metric is not None and task.direction not in (None, better):
            raise PolicyInvalid(f"{other_direction(task.metric, task.direction)} (suite '{task.suite}').")
        if task.direction is None:
            task.direction = better
    body = wanted.model_dump(exclude={"name"})
    if not wanted.require_aa:
        # Left out, so that a policy from before it could be asked for keeps its hash, and so its version.
        del body["require_aa"]
    return Policy(name=wanted.name, version=0, hash=canonical_hash(body), body=body, created_at=time.time())


def existing(session: Session, policy_id: str) -> Policy:
    policy = audits.get_policy(session, policy_id)
    if policy is None:
        raise PolicyNotFound(f"There is no policy '{policy_id}'. GET /api/v1/policies lists them.")
    return policy


def wanted_policy(session: Session, policy_id: str | None, named: str | None) -> Policy:
    """The policy of this id, or of this name: `name` is its newest version, `name@3` that one."""
    if policy_id is not None:
        return existing(session, policy_id)
    assert named is not None  # the request has one of the two
    found = audits.newest_policy(session, named)
    name, at, version = named.rpartition("@")
    if found is None and at and version.isascii() and version.isdigit() and len(version) < 10:
        found = audits.find_policy(session, name, int(version))
    if found is None:
        raise PolicyNotFound(f"There is no policy '{named}'. GET /api/v1/policies lists them.")
    return found


def whole_set(metric: str) -> str:
    """Why a metric cannot be gated."""
    gated = ", ".join(sorted(name for name, one in METRICS.items() if one.kind != "corpus"))
    return f"The gate pairs items, and '{metric}' scores only a whole set: name one of {gated}"


def better_when(metric: str) -> Literal["higher", "lower"]:
    return "higher" if METRICS[metric].higher_is_better else "lower"


def other_direction(metric: str, direction: str | None) -> str:
    """Why a metric cannot be gated in this direction."""
    right = better_when(metric)
    return f"'{metric}' is better the {right} it is, and the policy says '{direction}': name direction '{right}'"


def canonical_hash(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical_text(value).encode()).hexdigest()


def canonical_text(value: Any) -> str:
    """A JSON value as one text, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
