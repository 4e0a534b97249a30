"""The readout over the API, against statsmodels, scipy and plain arithmetic on the same events."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import statsmodels.api as sm
from starlette.testclient import TestClient
from statsmodels.stats.multitest import multipletests

METRICS: list[dict[str, Any]] = [
    {"name": "satisfaction", "role": "primary"},
    {"name": "solved", "kind": "binary", "role": "primary"},
    {"name": "visits", "kind": "count", "by": "unit", "role": "secondary"},
    {"name": "bought", "kind": "binary", "by": "unit", "role": "secondary"},
    {"name": "acceptance", "kind": "ratio", "numerator": "accepted", "denominator": "suggested"},
    {"name": "complaints", "kind": "binary", "role": "guardrail", "direction": "lower", "margin": 0.05},
]
VARIANTS = [{"key": "base", "weight": 0.5}, {"key": "tuned", "weight": 0.5}]
OUTCOMES = ("satisfaction", "solved", "visits", "bought", "accepted", "suggested", "complaints")


def generate(n_units: int, lift: float, seed: int = 3) -> list[dict[str, Any]]:
    """Calls of units that differ from one another (so that requests are not independent)."""
    rng = np.random.default_rng(seed)
    calls = []
    for n in range(n_units):
        variant = VARIANTS[n % 2]["key"]
        taste = rng.beta(4, 4) + (lift if variant == "tuned" else 0.0)
        for k in range(1 + rng.poisson(2)):
            rated = rng.random() < 0.6
            calls.append(
                {
                    "request_id": f"r{n}-{k}",
                    "unit_id": f"u{n}",
                    "variant": variant,
                    "status": 503 if rng.random() < 0.02 else 200,
                    "latency": float(rng.lognormal(0, 0.5)),
                    "cost": float(rng.random()) if rng.random() < 0.9 else None,
                    "satisfaction": float(rng.random() < taste) if rated else None,
                    "solved": float(rng.random() < taste),
                    "visits": float(rng.poisson(1)) if rng.random() < 0.3 else None,
                    "bought": float(rng.random() < 0.1),
                    "suggested": float(rng.integers(1, 9)),
                    "accepted": float(rng.integers(0, 2)),
                    "complaints": float(rng.random() < 0.05),
                }
            )
    return calls


def send(client: TestClient, calls: list[dict[str, Any]], key: str = "chat") -> None:
    events: list[dict[str, Any]] = []
    for call in calls:
        request = {name: value for name, value in call.items() if name not in OUTCOMES and value is not None}
        events.append({"type": "request", "experiment": key, **request})
        events += [
            {"type": "outcome", "request_id": call["request_id"], "metric": name, "value": call[name]}
            for name in OUTCOMES
            if call.get(name) is not None
        ]
    for start in range(0, len(events), 5000):
        response = client.post("/api/v1/events", json={"events": events[start : start + 5000]})
        assert response.status_code == 200, response.text
        assert response.json()["duplicates"] == 0


def start(client: TestClient, **plan: Any) -> None:
    body = {"key": "chat", "variants": VARIANTS, "metrics": METRICS, "minimum_units": 50, **plan}
    response = client.post("/api/v1/experiments", json=body)
    assert response.status_code == 201, response.text
    client.post("/api/v1/experiments/chat/start")


def readout(client: TestClient) -> dict[str, Any]:
    response = client.get("/api/v1/experiments/chat/readout")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = json.loads(response.text, parse_constant=no_constant)
    return body


def no_constant(name: str) -> None:
    raise AssertionError(f"{name} in JSON")


def effect(body: dict[str, Any], metric: str) -> dict[str, Any]:
    (found,) = [e for e in body["effects"] if e["metric"] == metric]
    return dict(found)


@pytest.fixture
def calls() -> list[dict[str, Any]]:
    return generate(800, 0.15)


@pytest.fixture
def fixed(client: TestClient, calls: list[dict[str, Any]]) -> dict[str, Any]:
    start(client, analysis="fixed")
    send(client, calls)
    return readout(client)


def clustered(calls: list[dict[str, Any]], metric: str) -> tuple[float, float]:
    """Difference of means and its squared error, clustered by unit, by statsmodels' sandwich in each arm."""
    means, variance = {}, 0.0
    for variant in ("base", "tuned"):
        rows = [c for c in calls if c["variant"] == variant and c[metric] is not None]
        values, units = [c[metric] for c in rows], np.unique([c["unit_id"] for c in rows], return_inverse=True)[1]
        fit = sm.OLS(values, np.ones(len(values))).fit(
            cov_type="cluster", cov_kwds={"groups": units, "use_correction": False}
        )
        n_units = units.max() + 1
        means[variant] = fit.params[0]
        variance += fit.bse[0] ** 2 * n_units / (n_units - 1)
    return means["tuned"] - means["base"], variance


@pytest.mark.parametrize("metric", ["satisfaction", "solved"])
def test_a_metric_by_request_is_clustered_by_unit(
    fixed: dict[str, Any], calls: list[dict[str, Any]], metric: str
) -> None:
    found = effect(fixed, metric)
    difference, variance = clustered(calls, metric)
    assert found["absolute"] == pytest.approx(difference, rel=1e-9)
    low, high = found["absolute_interval"]
    # Some 400 units an arm: t's quantile is that of about 790 degrees of freedom.
    assert (high - low) / 2 == pytest.approx(scipy.stats.t.ppf(0.975, 790) * variance**0.5, rel=1e-3)
    naive = np.sqrt(
        sum(
            np.var([c[metric] for c in calls if c["variant"] == v and c[metric] is not None], ddof=1)
            / sum(c["variant"] == v and c[metric] is not None for c in calls)
            for v in ("base", "tuned")
        )
    )
    assert variance**0.5 > 1.05 * naive  # requests are not units, and the readout knows


@pytest.mark.parametrize(("metric", "per_unit"), [("visits", sum), ("bought", max)])
def test_a_metric_by_unit_is_welchs_test_over_all_exposed_units(
    fixed: dict[str, Any], calls: list[dict[str, Any]], metric: str, per_unit: Any
) -> None:
    values: dict[str, dict[str, list[float]]] = {"base": defaultdict(list), "tuned": defaultdict(list)}
    for call in calls:
        values[call["variant"]][call["unit_id"]].append(call[metric] or 0.0)
    base, tuned = ([per_unit(v) for v in values[arm].values()] for arm in ("base", "tuned"))
    expected = scipy.stats.ttest_ind(tuned, base, equal_var=False)
    found = effect(fixed, metric)
    assert found["absolute"] == pytest.approx(np.mean(tuned) - np.mean(base), rel=1e-9)
    assert found["p_value"] == pytest.approx(expected.pvalue, rel=1e-6)
    assert found["absolute_interval"] == pytest.approx(list(expected.confidence_interval(0.95)), rel=1e-6)
    assert (found["control_value"], found["variant_value"]) == (
        pytest.approx(np.mean(base)),
        pytest.approx(np.mean(tuned)),
    )


def test_a_ratio_is_the_ratio_of_sums(fixed: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    for variant, value in (("base", "control_value"), ("tuned", "variant_value")):
        rows = [c for c in calls if c["variant"] == variant]
        expected = sum(c["accepted"] for c in rows) / sum(c["suggested"] for c in rows)
        assert effect(fixed, "acceptance")[value] == pytest.approx(expected, rel=1e-9)


def test_several_tests_are_adjusted_for(fixed: dict[str, Any]) -> None:
    for role, method in (("primary", "holm"), ("secondary", "fdr_bh")):
        family = [e for e in fixed["effects"] if e["role"] == role and e["p_value"] is not None]
        assert len(family) > 1
        expected = multipletests([e["p_value"] for e in family], method=method)[1]
        assert [e["p_adjusted"] for e in family] == pytest.approx(list(expected), rel=1e-9)


def test_the_built_in_metrics(fixed: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    for arm in fixed["arms"]:
        rows = [c for c in calls if c["variant"] == arm["variant"]]
        answered = [c["latency"] for c in rows if c["status"] == 200]
        known = [c["cost"] for c in rows if c["cost"] is not None]
        value = {name: metric["value"] for name, metric in arm["metrics"].items()}
        assert arm["requests"] == len(rows)
        assert arm["units"] == len({c["unit_id"] for c in rows}) == 400
        assert value["rating_rate"] == pytest.approx(np.mean([c["satisfaction"] is not None for c in rows]))
        assert value["error_rate"] == pytest.approx(np.mean([c["status"] == 503 for c in rows]))
        assert value["latency"] == pytest.approx(np.mean(answered))
        assert value["cost"] == pytest.approx(np.mean(known))
        for percent in (50, 95):
            exact = np.quantile(answered, percent / 100, method="lower")
            assert value[f"latency_p{percent}"] == pytest.approx(exact, rel=0.02)
        assert arm["metrics"]["cost"]["count"] == len(known)
        low, high = arm["metrics"]["satisfaction"]["interval"]
        assert low < value["satisfaction"] < high
    roles = {e["metric"]: e["role"] for e in fixed["effects"]}
    assert (roles["error_rate"], roles["fallback_rate"], roles["rating_rate"]) == (
        "guardrail",
        "guardrail",
        "secondary",
    )


def test_a_guardrail_is_one_sided(fixed: dict[str, Any], calls: list[dict[str, Any]]) -> None:
    found = effect(fixed, "complaints")
    difference, variance = clustered(calls, "complaints")
    low, high = found["absolute_interval"]
    # Fewer are better: the bound says how many more there may be at least; there is none above.
    assert high is None
    assert low == pytest.approx(difference - scipy.stats.t.ppf(0.95, 790) * variance**0.5, rel=1e-3)
    assert found["p_value"] == pytest.approx(scipy.stats.t.sf(difference / variance**0.5, 790), rel=1e-2)
    assert found["verdict"] in {"not_worse", "no_difference"}


def test_the_always_valid_interval_is_the_published_one(client: TestClient, calls: list[dict[str, Any]]) -> None:
    """Waudby-Smith et al., Proposition 2.5, with rho found here by plain minimisation."""
    start(client, expected_units=2000)
    send(client, calls)
    found = effect(readout(client), "solved")
    difference, error = clustered(calls, "solved")
    n, variance = 800, error * 800

    def half_width(rho: float, n: float, variance: float) -> float:
        grown = n * variance * rho**2 + 1
        return float(np.sqrt(2 * grown / (n * rho) ** 2 * np.log(np.sqrt(grown) / 0.05)))

    best = scipy.optimize.minimize_scalar(lambda rho: half_width(rho, 2000, 1.0), bounds=(1e-4, 1), method="bounded")
    low, high = found["absolute_interval"]
    assert found["absolute"] == pytest.approx(difference, rel=1e-9)
    assert (high - low) / 2 == pytest.approx(half_width(best.x / variance**0.5, n, variance), rel=1e-3)
    assert "confidence sequence" in found["method"]


def test_a_real_improvement_is_found_and_said_in_a_sentence(client: TestClient) -> None:
    start(client)
    send(client, generate(1600, 0.25))
    body = readout(client)
    verdict = body["verdict"]
    assert (verdict["decision"], verdict["variant"]) == ("better", "tuned")
    assert verdict["sentence"].startswith("Answers of 'tuned' satisfy users more than those of 'base': +")
    assert " points [" in verdict["sentence"]
    found = effect(body, "satisfaction")
    assert found["relative"] == pytest.approx(found["absolute"] / found["control_value"])
    assert 0 < found["relative_interval"][0] < found["relative"] < found["relative_interval"][1]


def test_the_split_is_checked(client: TestClient) -> None:
    start(client)
    calls = [call for call in generate(800, 0.25) if call["variant"] == "base" or int(call["unit_id"][1:]) % 4 == 1]
    send(client, calls)
    body = readout(client)
    split = body["split"]
    assert split["observed"] == {"base": 400, "tuned": 200}
    assert split["expected"] == {"base": 0.5, "tuned": 0.5}
    assert split["p_value"] == pytest.approx(scipy.stats.chisquare([400, 200]).pvalue, rel=1e-9)
    assert split["ok"] is False
    assert body["verdict"]["decision"] == "broken"
    assert [reason["code"] for reason in body["verdict"]["reasons"]] == ["sample_ratio"]


def test_units_in_two_arms_break_the_verdict(client: TestClient) -> None:
    start(client)
    calls = generate(400, 0.25)
    crossing = [
        {**call, "request_id": f"again-{call['unit_id']}", "variant": "tuned"}
        for call in calls
        if call["variant"] == "base" and int(call["unit_id"][1:]) < 20 and call["request_id"].endswith("-0")
    ]
    send(client, calls + crossing)
    body = readout(client)
    assert body["split"]["crossed_units"] == len(crossing) == 10
    assert body["verdict"]["decision"] == "broken"
    assert body["verdict"]["reasons"][0]["code"] == "crossed_units"


def test_an_empty_experiment_says_what_is_missing_and_no_nan(client: TestClient) -> None:
    start(client)
    body = readout(client)
    assert (body["verdict"]["decision"], body["verdict"]["n_more_units"]) == ("too_little_data", 100)
    assert body["split"]["p_value"] is None
    assert {e["reason"] for e in body["effects"]} == {"too_few_units"}
    assert [arm["units"] for arm in body["arms"]] == [0, 0]
    assert body["timeline"] == []


def test_a_fixed_analysis_is_read_at_its_planned_size_and_not_before(client: TestClient) -> None:
    start(client, analysis="fixed", expected_units=1000)
    send(client, generate(800, 0.25))
    verdict = readout(client)["verdict"]
    assert (verdict["decision"], verdict["n_more_units"]) == ("too_little_data", 200)


def test_a_new_phase_is_read_by_itself_and_the_old_one_on_request(client: TestClient) -> None:
    start(client)
    send(client, generate(200, 0.0))
    client.patch("/api/v1/experiments/chat", json={"weights": {"base": 0.8, "tuned": 0.2}})
    body = readout(client)
    assert (body["phase"], sum(body["split"]["observed"].values())) == (2, 0)
    assert body["split"]["expected"] == {"base": 0.8, "tuned": 0.2}
    old = client.get("/api/v1/experiments/chat/readout?phase=1").json()
    assert (old["phase"], old["split"]["observed"]) == (1, {"base": 100, "tuned": 100})
    # Judged by the weights it was run with, not by those of now.
    assert (old["split"]["expected"], old["split"]["ok"]) == ({"base": 0.5, "tuned": 0.5}, True)


def test_an_arm_shows_the_model_version_behind_it(client: TestClient) -> None:
    version = client.post(
        "/api/v1/models/chat-model/versions", json={"description": "tuned", "aliases": ["best"]}
    ).json()
    start(client, variants=[VARIANTS[0], {**VARIANTS[1], "model_version_id": version["id"]}])
    arms = readout(client)["arms"]
    assert [arm["is_control"] for arm in arms] == [True, False]
    assert arms[0]["model_version"] is None
    assert arms[1]["model_version"] == version


def test_what_users_said_is_found_on_the_model_and_on_its_run(client: TestClient) -> None:
    client.post("/api/v1/runs", json={"id": "tune-1", "project": "support", "name": "tune"}).raise_for_status()
    made = [
        client.post("/api/v1/models/bot/versions", json={"description": name, "run_id": run}).json()["id"]
        for name, run in (("base", None), ("tuned", "tune-1"))
    ]
    start(client, variants=[{**arm, "model_version_id": id} for arm, id in zip(VARIANTS, made, strict=True)])
    send(client, generate(800, 0.25))
    client.post("/api/v1/experiments/chat/stop")
    said = effect(readout(client), "satisfaction")
    decided = client.post("/api/v1/experiments/chat/decide", json={"winner": "tuned", "reason": "liked more"})
    assert decided.status_code == 200, decided.text
    versions = [arm["model_version"]["tags"] for arm in readout(client)["arms"]]
    assert versions[0]["experiment.chat.verdict"] == "control"
    assert versions[1] == {"experiment.chat.verdict": "better", "experiment.chat.sentence": said["sentence"]}
    for verdict, runs in (("better", ["tune-1"]), ("worse", [])):
        found = client.get("/api/v1/runs", params={"q": f"tags.experiment.chat.verdict = '{verdict}'"})
        assert [run["id"] for run in found.json()["items"]] == runs


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"type": "outcome", "request_id": "r", "metric": "satisfaction", "value": 2}, "1 (yes) or 0 (no)"),
        ({"type": "outcome", "request_id": "r", "metric": "latency", "value": 2}, "measured by the service"),
        ({"type": "exposure", "experiment": "none", "unit_id": "u", "variant": "base"}, "no started experiment"),
        ({"type": "exposure", "experiment": "chat", "unit_id": "u", "variant": "third"}, "no variant 'third'"),
        ({"type": "exposure", "experiment": "chat", "unit_id": "u", "variant": "base", "phase": 2}, "phase 2"),
        ({"type": "exposure", "experiment": "chat", "unit_id": "a\x00b", "variant": "base"}, "unit_id"),
        ({"type": "outcome", "request_id": "r", "metric": "m", "value": "NaN"}, "value"),
        ({"type": "surprise"}, "events[0]"),
    ],
)
def test_an_event_that_cannot_be_true_is_refused_with_the_whole_batch(
    client: TestClient, event: dict[str, Any], said: str
) -> None:
    start(client)
    fine = {"type": "exposure", "experiment": "chat", "unit_id": "u", "variant": "base"}
    response = client.post("/api/v1/events", json={"events": [event, fine]})
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]
    assert readout(client)["split"]["observed"] == {"base": 0, "tuned": 0}
