"""`tunescope audit`: the card, the report, the exit codes, waivers, and the record checked against its hash."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests.conftest import free_port
from tunescope import Client
from tunescope.audit_commands import app

runner = CliRunner()
Json = dict[str, Any]


def invoke(*arguments: str) -> Any:
    return runner.invoke(app, list(arguments), env={"COLUMNS": "220", "TERM": "dumb", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def project(live_service: str) -> Json:
    """A suite, a policy, and evaluations by how many of 200 answers are right."""
    with Client(live_service) as api:
        items = [
            {"id": str(i), "input": f"q {i}", "references": ["yes"], "group": ["a", "b"][i % 2]} for i in range(200)
        ]
        suite = api.create_suite(
            name="audited", task_type="generation", items=items, metrics=["exact_match"], template="{input}"
        )
        api.create_policy(name="release", protected=[{"suite": "audited", "margin": 0.9}])
        api.create_policy(name="release", protected=[{"suite": "audited", "margin": 0.05}])
        api.create_policy(name="strict", protected=[{"suite": "audited", "margin": 0.05}], require_aa=True)
        return {"suite": suite["id"], "url": live_service}


def evaluate(api: Client, project: Json, right: int, **of: Any) -> str:
    predictions = [{"id": str(i), "output": "yes" if i < right else "no"} for i in range(200)]
    return str(api.create_evaluation(suite_id=project["suite"], predictions=predictions, **of)["id"])


def audit(project: Json, before: str, after: str, *more: str, policy: str = "release") -> Any:
    return invoke("--policy", policy, "--before", before, "--after", after, "--url", project["url"], *more)


@pytest.mark.parametrize(
    ("right", "policy", "code", "verdict"),
    [
        (180, "release", 0, "PASS"),
        (100, "release", 1, "FAIL"),
        (175, "release", 2, "INCONCLUSIVE"),
        (180, "strict", 3, "INVALID"),
        (100, "release@1", 0, "PASS"),
        (100, "release@2", 1, "FAIL"),
    ],
)
def test_the_exit_code_is_the_verdict(
    api: Client, project: Json, right: int, policy: str, code: int, verdict: str
) -> None:
    before, after = evaluate(api, project, 180), evaluate(api, project, right)
    done = audit(project, before, after, policy=policy)
    assert done.exit_code == code, done.output
    assert f"{verdict} · policy {policy.partition('@')[0]}" in done.output


def test_the_card_of_a_failure(api: Client, project: Json, tmp_path: Path) -> None:
    run = api.create_run(project="audits", config={"lr": 1e-3})
    base = api.register_model("carded", aliases=["base"])
    evaluate(api, project, 180, model_version_id=base["id"], settings={"temperature": 0})
    again = evaluate(api, project, 178, model_version_id=base["id"], settings={"temperature": 0})
    evaluate(api, project, 170, run_id=run["id"], step=10)
    evaluate(api, project, 100, run_id=run["id"], step=20, settings={"temperature": 0})
    drift = {
        "delta_nll": {"value": 0.5, "interval": [0.4, 0.6]}, "perplexity_ratio": {"value": 1.6487, "interval": None},
        "kl": {"value": 0.3, "interval": [0.2, 0.4]}, "n_tokens": 900, "n_texts": 12, "text_hash": "0" * 64,
    }  # fmt: skip
    api.upload_artifact(run["id"], "drift.json", json.dumps(drift).encode())
    report = tmp_path / "audit.html"
    done = audit(project, "carded@1", run["id"], "--aa", "carded@base", "--report", str(report))
    assert done.exit_code == 1, done.output
    output = " ".join(done.output.split())
    for part in (
        "'audited' went from 0.890 to 0.500",
        "audited: 78 of 200, F 0.390: a 39, b 39",
        "the base against itself lost 0, gained 2",
        "ΔNLL per token 0.5 [+0.400, +0.600]",
        "a warning, not part of the verdict",
        "Lower the learning rate",
        "SHA-256",
    ):
        assert part in output, part
    assert "FAIL" in report.read_text()
    made = api.list_audits(run_id=run["id"])["items"][0]
    assert made["before_version_id"] == base["id"]
    assert made["tasks"][0]["before_evaluation_id"] == again
    assert invoke("verify", str(report)).exit_code == 0


def test_a_run_before_and_after_its_training(api: Client, project: Json) -> None:
    run = api.create_run(project="audits")
    first = evaluate(api, project, 180, run_id=run["id"], step=0)
    last = evaluate(api, project, 100, run_id=run["id"], step=30)
    done = audit(project, f"{run['id']}:0", run["id"], "--json")
    (task,) = json.loads(done.output)["tasks"]
    assert (task["before_evaluation_id"], task["after_evaluation_id"]) == (first, last)
    nothing = audit(project, f"{run['id']}:7", run["id"])
    assert (nothing.exit_code, "no evaluation at step 7" in nothing.output) == (4, True)


def unbroken(output: str) -> str:
    """What a card says, whatever its width, and so wherever its lines break."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", output).split())


def test_names_are_printed_as_they_are(api: Client, project: Json, tmp_path: Path) -> None:
    """What looks like a printer's markup, or like an emoji, is a name."""
    name = "[/red] [bold] :cat:"
    items = [{"id": str(i), "input": "q", "references": ["yes"], "group": f"{name} {i % 2}"} for i in range(200)]
    suite = api.create_suite(
        name=name, task_type="generation", items=items, metrics=["exact_match"], template="{input}"
    )
    api.create_policy(name=name, protected=[{"suite": name, "margin": 0.05}])
    mine = {**project, "suite": suite["id"]}
    before, after = (evaluate(api, mine, right, name=f"{name} {right}") for right in (180, 100))
    done = audit(project, before, after, "--report", str(tmp_path / "[b].html"), policy=name)
    assert done.exit_code == 1, done.output
    assert f"policy {name} v1" in done.output
    assert f"{name} 0" in unbroken(done.output)
    assert f"{name} 1" in unbroken(done.output)
    assert f"Report: {tmp_path}/[b].html" in done.output.replace("\n", "")
    audit_id = api.list_audits()["items"][0]["id"]
    waived = invoke(
        "waive", audit_id, "--who", name, "--why", name, "--until", "2099-01-01", "--suite", name, "--url", api.url
    )
    assert waived.exit_code == 0, waived.output
    assert f"{name}: {name}" in unbroken(invoke("show", audit_id, "--url", api.url).output)
    assert invoke("verify", str(tmp_path / "[b].html")).exit_code == 0
    assert "There is no policy '[/x] :cat:'" in unbroken(audit(project, before, after, policy="[/x] :cat:").output)


def test_waivers_from_the_command_line(api: Client, project: Json) -> None:
    run = api.create_run(project="audits")
    before, after = evaluate(api, project, 180), evaluate(api, project, 90, run_id=run["id"])
    made = json.loads(audit(project, before, after, "--json").output)
    url = ("--url", project["url"])
    assert invoke("show", made["id"], *url, "--accept-waivers").exit_code == 1
    said = invoke("waive", made["id"], "--who", "Ada", "--why", "testers only", "--until", "2999-01-31", *url)
    assert said.exit_code == 0, said.output
    assert "until 2999-02-01 00:00 UTC" in said.output
    shown = invoke("show", made["id"], *url)
    assert (shown.exit_code, "Ada: testers only" in shown.output) == (1, True)
    assert invoke("show", made["id"], *url, "--accept-waivers").exit_code == 0
    # The same evidence under the same policy: the audit that is waived, not another one.
    again = audit(project, before, after, "--accept-waivers", "--json")
    assert (again.exit_code, json.loads(again.output)["id"]) == (0, made["id"])
    assert audit(project, before, after, "--json").exit_code == 1
    waiver = api.list_waivers(made["id"])["items"][0]
    back = invoke("revoke", made["id"], waiver["id"], "--who", "Grace", "--why", "found", *url)
    assert back.exit_code == 0, back.output
    shown = invoke("show", made["id"], *url, "--accept-waivers")
    assert (shown.exit_code, "revoked by Grace" in shown.output) == (1, True)


@pytest.mark.parametrize("kind", ["html", "md"])
def test_a_report_is_verified_offline_and_a_changed_one_is_not(
    api: Client, project: Json, tmp_path: Path, kind: str
) -> None:
    before, after = evaluate(api, project, 180), evaluate(api, project, 90)
    report = tmp_path / f"report.{kind}"
    assert audit(project, before, after, "--report", str(report)).exit_code == 1
    good = invoke("verify", str(report))
    assert (good.exit_code, "The record matches its hash" in good.output) == (0, True)
    text = report.read_text()
    found = api.list_audits(limit=1)["items"][0]
    assert found["hash"] in text
    assert invoke("verify", found["id"], "--url", project["url"]).exit_code == 0
    tampered = tmp_path / f"tampered.{kind}"
    for old, new, words in (
        ('"after":0.45', '"after":0.95', "was stated of it"),
        ("&quot;after&quot;:0.45", "&quot;after&quot;:0.95", "was stated of it"),
        ("<h1>FAIL</h1>", "<h1>PASS</h1>", "headed PASS"),
        ("audit: FAIL", "audit: PASS", "headed PASS"),
    ):
        if text.replace(old, new) == text or (kind == "html" and old.startswith("audit:")):
            continue
        tampered.write_text(text.replace(old, new))
        bad = invoke("verify", str(tampered))
        assert (bad.exit_code, words in bad.output) == (1, True), bad.output
    tampered.write_text(text[: len(text) // 2])
    half = invoke("verify", str(tampered))
    assert (half.exit_code, "not a report of an audit" in half.output) == (4, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Exit codes"),
        (("--policy", "release"), "Say --policy, --before and --after"),
        (("--nonsense",), "No such option"),
        (("shw", "x"), "No such command"),
        (("waive", "x", "--who", "A", "--why", "B", "--until", "soon"), "--until soon: write a day"),
        (("waive", "x"), "Missing option"),
        (("show", "nothing"), "no audit 'nothing'"),
        (("verify", "missing.html"), "No such file"),
        (("--policy", "none", "--before", "x", "--after", "y"), "There is no policy 'none'"),
        (("--policy", "release", "--before", "x", "--after", "y"), "'x' is no run and no evaluation"),
        (("--policy", "release", "--before", "no@where", "--after", "y"), "name=no not found"),
        (("--policy", "release", "--before", "x", "--after", "y", "--report", "a.pdf"), "ends with .html or .md"),
    ],
)
def test_every_other_error_ends_with_4(project: Json, arguments: tuple[str, ...], words: str) -> None:
    given = (
        (*arguments, "--url", project["url"]) if arguments[:1] not in ((), ("--nonsense",), ("verify",)) else arguments
    )
    done = invoke(*given)
    assert done.exit_code == 4, done.output
    assert words in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_no_service_ends_with_4() -> None:
    done = invoke("show", "x", "--url", f"http://127.0.0.1:{free_port()}")
    assert (done.exit_code, "Cannot reach Tunescope" in done.output) == (4, True)


def test_a_fault_of_our_own_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("tunescope.audit_commands.Client", broken)
    done = invoke("show", "x")
    assert (done.exit_code, "ZeroDivisionError: oops" in done.output) == (4, True)


def test_help_of_every_command() -> None:
    for name in ("show", "waive", "revoke", "verify"):
        assert f"Example: tunescope audit {name}" in invoke(name, "--help").output
    told = invoke("--help").output
    assert "0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID" in told
    assert "Example: tunescope audit --policy" in told
    assert sorted(get_command(app).commands) == ["revoke", "show", "verify", "waive"]  # type: ignore[attr-defined]


def test_an_expired_waiver_is_shown_as_such(api: Client, project: Json) -> None:
    made = json.loads(audit(project, evaluate(api, project, 180), evaluate(api, project, 90), "--json").output)
    until = time.time() + 0.5
    api.waive(made["id"], who="Ada", why="?", until=until)
    while time.time() < until:
        time.sleep(0.05)
    done = invoke("show", made["id"], "--url", project["url"], "--accept-waivers")
    assert (done.exit_code, "expired" in done.output) == (1, True)
