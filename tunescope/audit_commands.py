"""`tunescope audit`: may a fine-tune ship? The verdict, with an exit code that a pipeline can stop at."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from typer.core import TyperGroup

from tunescope._audit_card import card, day
from tunescope._audit_record import Checked, check, from_report
from tunescope._client import Client, Json
from tunescope._exceptions import ApiError, TunescopeError
from tunescope._references import Model, pick, resolve
from tunescope.commands import ApiKey, Url

__all__ = ["app"]

ERROR = 4
FORMATS = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}
DRIFT = "drift.json"
T = TypeVar("T")


class Commands(TyperGroup):
    """Every error ends with 4: what is wrong with a call must not look like a verdict (2 is INCONCLUSIVE)."""

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        return _with_our_code(lambda: super(Commands, self).make_context(*arguments, **options))

    def invoke(self, ctx: Any) -> Any:
        return _with_our_code(lambda: super(Commands, self).invoke(ctx))


def _with_our_code(body: Callable[[], T]) -> T:
    try:
        return body()
    except (typer.Exit, typer.Abort):
        raise
    except TunescopeError as error:
        errors.print(str(error), style="red", soft_wrap=True, markup=False)
    except Exception as error:
        # A wrong option, an unknown command: Typer's own errors, which show themselves. What they derive from has
        # moved from click into Typer.
        if hasattr(error, "exit_code") and hasattr(error, "show"):
            error.exit_code = ERROR
            raise
        traceback.print_exc()
    raise typer.Exit(ERROR)


app = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    epilog="Example: tunescope audit --policy release --before support@base --after 0198f0c3b1 --report audit.html",
)
console = Console(highlight=False, emoji=False)
errors = Console(stderr=True, highlight=False, emoji=False)

AuditId = Annotated[str, typer.Argument(help="Id of the audit.", show_default=False)]
Report = Annotated[
    Path | None, typer.Option(help="Also write the report to sign and keep: .html or .md.", dir_okay=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the audit as JSON instead of the card.")]
AcceptWaivers = Annotated[
    bool, typer.Option("--accept-waivers", help="Exit with 0 where a valid waiver covers all that did not pass.")
]
Who = Annotated[str, typer.Option(help="Who answers for it.", show_default=False)]
Why = Annotated[str, typer.Option(help="Why.", show_default=False)]


@app.callback()
def audit(
    ctx: typer.Context,
    policy: Annotated[
        str | None, typer.Option(help="Name of the policy: its newest version, or NAME@VERSION.", show_default=False)
    ] = None,
    before: Annotated[
        list[str] | None,
        typer.Option(help="The base: RUN, RUN:STEP, EVALUATION or MODEL@ALIAS; may be repeated.", show_default=False),
    ] = None,
    after: Annotated[
        list[str] | None, typer.Option(help="The fine-tune, named in the same ways.", show_default=False)
    ] = None,
    aa: Annotated[
        list[str] | None,
        typer.Option(help="A second run of the base, for the noise floor (A/A).", show_default=False),
    ] = None,
    drift: Annotated[
        Path | None,
        typer.Option(
            help="What `tunescope drift` measured; absent: the run's own.",
            show_default=False,
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    report: Report = None,
    as_json: AsJson = False,
    accept_waivers: AcceptWaivers = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """What did a fine-tune forget, is that more than noise, and may it ship?

    Exit codes: 0 PASS, 1 FAIL, 2 INCONCLUSIVE, 3 INVALID; 4 for any other error (a wrong option, no service).

    With --accept-waivers, an audit of the same evaluations under the same policy that somebody has waived is shown
    instead of a new one.
    """
    if ctx.invoked_subcommand is not None:
        return
    if policy is None or not before or not after:
        raise TunescopeError("Say --policy, --before and --after, or a command: show, waive, revoke, verify.")
    _format(report)
    with Client(url, api_key, timeout=600.0) as client:
        question = _question(client, policy, before, after, aa or [])
        question |= {"drift": _drift(client, drift, question)}
        waived = _waived(client, question) if accept_waivers else None
        _answer(client, waived or client.create_audit(**question), report, as_json, accept_waivers)


@app.command()
def show(
    audit_id: AuditId,
    report: Report = None,
    as_json: AsJson = False,
    accept_waivers: AcceptWaivers = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """An audit that was made, with its waivers as of now. Exit codes as above.

    Example: tunescope audit show 0198f0c3b1 --accept-waivers
    """
    _format(report)
    with Client(url, api_key) as client:
        _answer(client, client.get_audit(audit_id), report, as_json, accept_waivers)


@app.command()
def waive(
    audit_id: AuditId,
    who: Who,
    why: Why,
    until: Annotated[str, typer.Option(help="The last day it holds, 2027-01-31, or a time (UTC).", show_default=False)],
    suite: Annotated[str | None, typer.Option(help="Only this task.", show_default="all of the audit")] = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Answer for what an audit found, for a time. Its verdict and its record stay as they are.

    Example: tunescope audit waive 0198f0c3b1 --who Ada --why "testers only" --until 2027-01-31
    """
    with Client(url, api_key) as client:
        made = client.waive(audit_id, who=who, why=why, until=_moment(until), suite=suite)
    console.print(
        f"Waiver {made['id']}, until {day(made['until'])}. Back: tunescope audit revoke {audit_id} {made['id']}",
        markup=False,
    )


@app.command()
def revoke(
    audit_id: AuditId,
    waiver_id: Annotated[str, typer.Argument(help="Id of the waiver.", show_default=False)],
    who: Who,
    why: Why,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Take a waiver back. Both stay on record.

    Example: tunescope audit revoke 0198f0c3b1 0198f0d0aa --who Grace --why "found by users"
    """
    with Client(url, api_key) as client:
        client.revoke_waiver(audit_id, waiver_id, who=who, why=why)
    console.print(f"The waiver {waiver_id} is revoked.", markup=False)


@app.command()
def verify(
    what: Annotated[str, typer.Argument(help="A report (.html, .md) or the id of an audit.", show_default=False)],
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Compute a record's SHA-256 anew and hold it against what is stated: of a report, offline, or of the service's.

    The hash is that of the text in the report's last part, as GET /api/v1/audits/ID/record answers it. Exit codes: 0
    it matches, 1 it does not, 4 for any other error.

    Example: tunescope audit verify audit.html
    """
    path = Path(what)
    if path.is_file() or path.suffix.lower() in FORMATS:
        checked = from_report(path)
    else:
        with Client(url, api_key) as client:
            checked = check(client.audit_record(what), client.get_audit(what)["hash"])
    _say_checked(checked)


# --- making one ---


def _question(client: Client, policy: str, before: Sequence[str], after: Sequence[str], aa: Sequence[str]) -> Json:
    """What to ask the service: the evaluations of the policy's suites, and the versions where one is named."""
    body = _policy(client, policy)
    suites = [task["suite"] for task in body["body"]["protected"]]
    base, tuned = resolve(client, before), resolve(client, after)
    chosen, others = pick(suites, base, tuned)
    for option, ids, model in (("--before", chosen, base), ("--after", others, tuned)):
        if not ids:
            asked = ", ".join(sorted({one["suite"]["name"] for one in model.evaluations}))
            raise TunescopeError(f"{option}: no evaluation on a protected suite ({', '.join(suites)}); on: {asked}.")
    question: Json = {"policy_id": body["id"], "before": chosen, "after": others}
    if aa:
        # The version of each suite that was answered before; of a model given twice, its evaluation before that one.
        kept = Model([one for one in base.evaluations if one["id"] in chosen])
        question["aa"] = pick(suites, _without(resolve(client, aa), chosen), kept)[0]
    named = {"run_id": tuned.run_id, "before_version_id": base.version_id, "after_version_id": tuned.version_id}
    return question | {name: value for name, value in named.items() if value is not None}


def _without(model: Model, ids: Sequence[str]) -> Model:
    """What is left of a model's evaluations; all of them where that is nothing, so that the audit says so."""
    left = [one for one in model.evaluations if one["id"] not in ids]
    return model._replace(evaluations=left or model.evaluations)


def _policy(client: Client, named: str) -> Json:
    """By name, newest version, or name@version."""
    for name, version in ((named, None), tuple(named.rpartition("@")[::2])):
        if version is not None and not version.isdigit():
            continue
        cursor = None
        while name:
            page = client.list_policies(name=name, limit=100, cursor=cursor)
            found = [one for one in page["items"] if version is None or one["version"] == int(version)]
            if found:
                return dict(found[0])
            cursor = page["next_cursor"]
            if cursor is None:
                break
    raise TunescopeError(f"There is no policy '{named}'.")


def _drift(client: Client, given: Path | None, question: Json) -> Json | None:
    """The drift of a file, else what the audited run kept of its own."""
    if given is not None:
        try:
            return dict(json.loads(given.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise TunescopeError(f"{given}: not what `tunescope drift` writes ({error}).") from error
    runs = {client.get_evaluation(one)["run_id"] for one in question["after"]}
    run_id = question.get("run_id") or (runs.pop() if len(runs) == 1 else None)
    if run_id is None:
        return None
    with suppress(ApiError, ValueError):
        return dict(json.loads(client.download_artifact(run_id, DRIFT)))
    return None


def _waived(client: Client, question: Json) -> Json | None:
    """The newest audit of the same evaluations under the same policy that is waived, if there is one."""
    of = {"run_id": question.get("run_id"), "after_version_id": question.get("after_version_id")}
    wanted = {side: set(question.get(side, [])) for side in ("before", "after", "aa")}
    for one in client.list_audits(**of, limit=1000)["items"]:
        given = one["inputs"]["evaluations"]
        same = all({each["id"] for each in given.get(side, [])} == ids for side, ids in wanted.items())
        if same and one["waived"] and one["policy"]["id"] == question["policy_id"]:
            return dict(one)
    return None


# --- showing one ---


def _answer(client: Client, made: Json, report: Path | None, as_json: bool, accept_waivers: bool) -> None:
    """Print, write, and end with the verdict's code."""
    if as_json:
        typer.echo(json.dumps(made, ensure_ascii=False, indent=2))
    else:
        console.print(card(made))
    if report is not None:
        kind: Any = _format(report)
        try:
            report.write_text(client.audit_report(made["id"], kind), "utf-8")
        except OSError as error:
            raise TunescopeError(f"{report}: {error.strerror}.") from error
        if not as_json:
            console.print(f"Report: {report}", soft_wrap=True, markup=False)
    raise typer.Exit(client.audit_gate(made["id"], accept_waivers)["exit_code"])


def _say_checked(checked: Checked) -> None:
    record = checked.record
    head = f"audit {record['id']}   {record['verdict']}   made {day(record['created_at'])}"
    console.print(f"{head}\n{record['result']['sentence']}", soft_wrap=True, markup=False)
    for problem in checked.problems:
        console.print(problem, style="red", soft_wrap=True, markup=False)
    if checked.problems:
        raise typer.Exit(1)
    console.print(f"[green]The record matches its hash:[/] {checked.found}", soft_wrap=True)


def _format(report: Path | None) -> str | None:
    if report is None:
        return None
    if report.suffix.lower() not in FORMATS:
        raise TunescopeError(f"--report {report}: the name ends with .html or .md.")
    return FORMATS[report.suffix.lower()]


def _moment(text: str) -> float:
    """A day holds to its end; a time without a zone is UTC."""
    try:
        if len(text) == 10:
            end = datetime.combine(date.fromisoformat(text) + timedelta(days=1), datetime.min.time(), UTC)
            return end.timestamp()
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise TunescopeError(f"--until {text}: write a day, 2027-01-31, or a time, 2027-01-31T18:00.") from None
    return seconds
