"""Which arm a unit gets: the published cases, the service's own rule, and a live service."""

from __future__ import annotations

import json
import logging
import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.experiments import assignment as service_rule
from tests.conftest import LiveService, free_port, wait_until
from tunescope import Assigner, Client, assign
from tunescope._bucketing import bucket, bucket_ranges, choose, in_namespace

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "cases" / "assignment.json").read_text())[
    "cases"
]


def cases(category: str) -> list[Any]:
    return [pytest.param(c["inputs"], c["expected"], id=c["id"]) for c in CASES if c["category"].endswith(category)]


@pytest.mark.parametrize(("given", "expected"), cases("growthbook.hash"))
def test_hash(given: dict[str, Any], expected: float | None) -> None:
    assert bucket(given["seed"], given["value"], given["version"]) == expected


@pytest.mark.parametrize(("given", "expected"), cases("getBucketRanges"))
def test_ranges(given: dict[str, Any], expected: list[list[float]]) -> None:
    ranges = bucket_ranges(given["numVariations"], given["coverage"], given["weights"])
    assert [list(pytest.approx(r, abs=1e-9).expected) for r in ranges] == [list(r) for r in ranges]
    for got, wanted in zip(ranges, expected, strict=True):
        assert list(got) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("given", "expected"), cases("chooseVariation"))
def test_choice(given: dict[str, Any], expected: int) -> None:
    assert choose(given["n"], given["ranges"]) == expected


@pytest.mark.parametrize(("given", "expected"), cases("inNamespace"))
def test_namespace(given: dict[str, Any], expected: bool) -> None:
    assert in_namespace(given["userId"], tuple(given["namespace"])) is expected


def experiment(**changes: Any) -> dict[str, Any]:
    return {
        "key": "e",
        "salt": "salt",
        "hash_version": 2,
        "phase": 3,
        "status": "running",
        "variants": [{"key": "a", "weight": 0.5, "value": "old"}, {"key": "b", "weight": 0.5, "value": {"t": 1}}],
        "coverage": 1.0,
        "targeting": {},
        "forced": {},
        "namespace": None,
        "winner": None,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "unit", "attributes", "expected"),
    [
        ({}, "u1", {}, (True, "assigned")),
        ({}, None, {}, ("a", False, "no_unit")),
        ({}, "", {}, ("a", False, "no_unit")),
        ({"status": "draft"}, "u1", {}, ("a", False, "not_running")),
        ({"status": "paused"}, "u1", {}, ("a", False, "not_running")),
        ({"status": "decided", "winner": "b"}, "u1", {}, ("b", False, "decided")),
        ({"status": "decided", "winner": "gone"}, "u1", {}, ("a", False, "decided")),
        ({"forced": {"u1": "b"}}, "u1", {}, ("b", False, "forced")),
        ({"forced": {"u1": "b"}, "status": "draft"}, "u1", {}, ("b", False, "forced")),
        ({"forced": {"u1": "gone"}}, "u1", {}, (True, "assigned")),
        ({"coverage": 0.0}, "u1", {}, ("a", False, "not_covered")),
        ({"hash_version": 9}, "u1", {}, ("a", False, "not_covered")),
        ({"namespace": {"name": "n", "start": 0.0, "end": 0.0}}, "u1", {}, ("a", False, "not_covered")),
        ({"namespace": {"name": "n", "start": 0.0, "end": 1.0}}, "u1", {}, (True, "assigned")),
        ({"targeting": {"plan": "pro"}}, "u1", {}, ("a", False, "not_targeted")),
        ({"targeting": {"plan": "pro"}}, "u1", {"plan": "pro"}, (True, "assigned")),
        ({"targeting": {"plan": ["x", "pro"]}}, "u1", {"plan": "pro"}, (True, "assigned")),
        ({"targeting": {"age": {"min": 18}}}, "u1", {"age": "20"}, (True, "assigned")),
        ({"targeting": {"age": {"min": 18, "max": 19}}}, "u1", {"age": 20}, ("a", False, "not_targeted")),
        ({"targeting": {"beta": True}}, "u1", {"beta": "true"}, (True, "assigned")),
    ],
)
def test_rules(
    changes: dict[str, Any], unit: str | None, attributes: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    arm = assign(experiment(**changes), unit, attributes)
    assert (arm.variant, arm.counted, arm.reason)[-len(expected) :] == expected


values = st.one_of(st.none(), st.booleans(), st.integers(0, 30), st.sampled_from(["pro", "true", "18", "x"]))
conditions = st.one_of(
    values, st.lists(values, max_size=3), st.fixed_dictionaries({"min": st.integers(0, 30)}), st.just({"max": 18})
)


@settings(max_examples=500)
@given(
    unit=st.one_of(st.none(), st.text()),
    salt=st.text(),
    version=st.sampled_from([1, 2, 3]),
    status=st.sampled_from(["draft", "running", "paused", "stopped", "decided"]),
    coverage=st.floats(0, 1),
    weights=st.lists(st.floats(0.01, 5), min_size=1, max_size=4),
    targeting=st.dictionaries(st.sampled_from(["plan", "age"]), conditions),
    attributes=st.dictionaries(st.sampled_from(["plan", "age"]), values),
    namespace=st.one_of(st.none(), st.just({"name": "n", "start": 0.2, "end": 0.9})),
    holdout=st.sampled_from([0.0, 0.3]),
)
def test_the_service_decides_alike(
    unit: str | None, salt: str, version: int, status: str, coverage: float, weights: list[float],
    targeting: dict[str, Any], attributes: dict[str, Any], namespace: dict[str, Any] | None, holdout: float,
) -> None:  # fmt: skip
    live = service_rule.LiveExperiment(
        id="i", key="e", salt=salt, hash_version=version, phase=1, status=status,
        variants=tuple(service_rule.Variant(f"v{i}", w) for i, w in enumerate(weights)),
        coverage=coverage, targeting=targeting, forced={"forced": "v0"}, namespace=namespace, winner="v0",
        fallback_upstream=None, store_content=False, holdout=holdout,
    )  # fmt: skip
    public = experiment(
        salt=salt, hash_version=version, status=status, coverage=coverage, targeting=targeting, namespace=namespace,
        holdout=holdout, forced={"forced": "v0"}, winner="v0",
        variants=[{"key": k, "weight": share, "value": None} for k, share in live.shares],
    )  # fmt: skip
    theirs, ours = service_rule.assign(live, unit, attributes), assign(public, unit, attributes)
    assert (ours.variant, ours.counted, ours.reason) == (theirs.variant.key, theirs.counted, theirs.reason)
    assert ours.recorded == theirs.recorded


def test_raising_the_coverage_moves_nobody() -> None:
    for unit in map(str, range(2000)):
        arms = [assign(experiment(coverage=c), unit) for c in (0.1, 0.4, 1.0)]
        counted = [arm.variant for arm in arms if arm.counted]
        assert len(set(counted)) == 1


def test_arms_are_split_by_weight() -> None:
    variants = [{"key": "a", "weight": 0.8}, {"key": "b", "weight": 0.2}]
    counts = Counter(assign(experiment(variants=variants), f"unit-{i}").variant for i in range(20_000))
    assert counts["b"] / 20_000 == pytest.approx(0.2, abs=0.01)


# --- against a service ---


def start_experiment(client: Client, key: str) -> None:
    client.create_experiment(
        key=key,
        name=key,
        variants=[{"key": "old", "weight": 0.5, "value": "model-1"}, {"key": "new", "weight": 0.5, "value": "model-2"}],
        metrics=[{"name": "satisfaction", "kind": "binary", "role": "primary", "direction": "higher", "by": "unit"}],
    )
    client.start_experiment(key)


def units(client: Client, key: str) -> int:
    return sum(arm["units"] for arm in client.readout(key)["arms"])


def test_exposures_and_outcomes_reach_the_readout(live_service: str, api: Client) -> None:
    start_experiment(api, "exposures")
    with Assigner(live_service) as assigner:
        arms = {}
        for i in range(100):
            arm = arms[f"u{i}"] = assigner.assign("exposures", f"u{i}")
            assigner.assign("exposures", f"u{i}")
            assigner.record_request(f"request-{i}", arm, f"u{i}", latency=0.5)
            assigner.record_outcome(f"request-{i}", "satisfaction", 1)
        assert assigner.assign("exposures", None).reason == "no_unit"
        assert assigner.assign("unheard of", "u1").variant is None
        assert {arm.value for arm in arms.values()} == {"model-1", "model-2"}
    wait_until(lambda: units(api, "exposures") == 100)
    readout = api.readout("exposures")
    assert {arm["variant"]: arm["units"] for arm in readout["arms"]} == Counter(a.variant for a in arms.values())
    assert sum(arm["requests"] for arm in readout["arms"]) == 100


def test_a_change_is_seen(live_service: str, api: Client) -> None:
    with Assigner(live_service, refresh_seconds=0.05) as assigner:
        assert assigner.assign("changing", "u").reason == "no_such_experiment"
        start_experiment(api, "changing")
        wait_until(lambda: assigner.assign("changing", "u").reason == "assigned")
        api.pause_experiment("changing")
        wait_until(lambda: assigner.assign("changing", "u").reason == "not_running")


def test_the_last_copy_serves_while_the_service_is_away(
    live: LiveService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(live.url) as client:
        start_experiment(client, "away")
        Assigner(live.url, dir=tmp_path).close()
        live.kill()
        with caplog.at_level(logging.WARNING, "tunescope"):
            offline = Assigner(live.url, dir=tmp_path, refresh_seconds=0.05)
            arms = {unit: offline.assign("away", unit).variant for unit in ("u1", "u2", "u3")}
            offline.close()
        assert set(arms.values()) <= {"old", "new"}
        assert caplog.text.count("decided from the last copy") == 1
        # What could not be sent then is sent by the next one.
        live.start()
        Assigner(live.url, dir=tmp_path).close()
        wait_until(lambda: units(client, "away") == 3)
        assert not list(tmp_path.glob("*.events-*.json"))


def test_a_bad_event_does_not_hold_up_the_others(
    live_service: str, api: Client, caplog: pytest.LogCaptureFixture
) -> None:
    start_experiment(api, "bad-event")
    with caplog.at_level(logging.WARNING, "tunescope"), Assigner(live_service) as assigner:
        for unit in ("u1", "x" * 100_000, "u2", "u3"):
            assigner.assign("bad-event", unit)
        assert assigner.flush()
    assert caplog.text.count("an event was refused") == 1
    wait_until(lambda: units(api, "bad-event") == 3)


def test_a_unit_keeps_its_arm_when_weights_change(live_service: str, api: Client, tmp_path: Path) -> None:
    variants = [{"key": "old", "weight": 1}, {"key": "new", "weight": 1}]
    api.create_experiment(key="kept", variants=variants, sticky=True)
    api.start_experiment("kept")
    people = [f"u{i}" for i in range(100)]
    with Assigner(live_service, dir=tmp_path) as running, Assigner(live_service, dir=tmp_path) as idle:
        first = {unit: running.assign("kept", unit).variant for unit in people}
        running._sticky.save()
        api.edit_experiment("kept", weights={"old": 9, "new": 1})
        for assigner in (running, idle):  # the second process of this machine has met nobody itself
            assigner._refresh()
            assert {unit: assigner.assign("kept", unit).variant for unit in people} == first
    # Also after a restart; a unit that comes now gets the new weights.
    with next(tmp_path.glob("*.sticky.jsonl")).open("ab") as file:
        file.write(b'["kept","torn')
    with Assigner(live_service, dir=tmp_path) as again:
        assert {unit: again.assign("kept", unit).variant for unit in people} == first
        assert sum(again.assign("kept", f"late{i}").variant == "new" for i in range(100)) < 25
    wait_until(lambda: sum(api.readout("kept")["split"]["observed"].values()) == 100)  # the late ones
    before = api.readout("kept", phase=1)["split"]
    assert (sum(before["observed"].values()), before["crossed_units"]) == (100, 0)


def test_held_out_units_are_reported_apart() -> None:
    held = experiment(holdout=0.5)
    arms = [assign(held, f"u{i}") for i in range(2000)]
    out = [arm for arm in arms if arm.reason == "holdout"]
    assert len(out) == pytest.approx(1000, abs=100)
    assert {(arm.variant, arm.counted, arm.recorded) for arm in out} == {("a", False, "(holdout)")}
    decided = experiment(holdout=0.5, status="decided", winner="b")
    assert {assign(decided, f"u{i}").variant for i in range(20)} == {"a", "b"}


def _assign_in_child(assigner: Assigner) -> None:
    assigner.assign("forked", "from-child")
    assert assigner.flush()


def test_a_forked_worker_goes_on(live_service: str, api: Client) -> None:
    start_experiment(api, "forked")
    with Assigner(live_service) as assigner:
        assigner.assign("forked", "from-parent")
        child = multiprocessing.get_context("fork").Process(target=_assign_in_child, args=(assigner,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
    wait_until(lambda: units(api, "forked") == 2)


def test_no_service_and_no_copy(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tunescope"), Assigner(f"http://127.0.0.1:{free_port()}") as assigner:
        assert assigner.assign("any", "u1").counted is False
        assert assigner.experiments == []


GOOD = json.dumps({"etag": "x", "experiments": [experiment()]})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 100,
        GOOD.encode()[:-20],  # cut off, as a full disk leaves it
        b"[]",
        b"null",
        b'{"etag": "x"}',
        b'{"etag": "x", "experiments": {"e": 1}}',
        b'{"etag": "x", "experiments": [17]}',
        b'{"etag": "x", "experiments": [{"key": "e"}]}',
        GOOD.replace('"variants": [', '"variants": [], "was": [').encode(),
        GOOD.replace('"weight": 0.5', '"weight": "half"').encode(),
        GOOD.replace('"salt": "salt"', '"salt": null').encode(),
        GOOD.replace('"forced": {}', '"forced": ["u1"]').encode(),
    ],
)
def test_a_copy_that_is_corrupt_is_done_without(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    file = Assigner(url, dir=tmp_path)._file
    file.write_bytes(content)
    file.with_name(f"{file.stem}.events-1-1.json").write_bytes(content)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "tunescope"), Assigner(url, dir=tmp_path) as assigner:
        arm = assigner.assign("e", "u1")
    assert (arm.variant, arm.counted, arm.reason) == (None, False, "no_such_experiment")
    assert caplog.text.count(f"{file} cannot be read") == 1


def test_a_corrupt_copy_is_replaced_by_the_next_good_one(live_service: str, tmp_path: Path) -> None:
    with Client(live_service) as client:
        start_experiment(client, "replaced")
    Assigner(live_service, dir=tmp_path).close()
    [file] = tmp_path.glob("experiments-*.json")
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2])
    with Assigner(live_service, dir=tmp_path) as assigner:
        assert assigner.assign("replaced", "u1").variant in ("old", "new")
    assert json.loads(file.read_bytes())["experiments"]
