"""`tunescope suites`: evaluation sets and predictions from files, and what they scored."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tunescope import suites
from tunescope._client import Client, Json
from tunescope._exceptions import ApiError, TunescopeError
from tunescope.commands import ApiKey, Url, explained

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Store evaluation sets, and score predictions on them.",
    add_completion=False,
    epilog="Example: tunescope suites create intents test.csv --task classification --metrics accuracy,f1_macro",
)
console = Console(highlight=False, emoji=False)

Map = Annotated[
    str | None,
    typer.Option("--map", help="What the file calls the fields: column=field, several with commas.", metavar="A=B,C=D"),
]


class Task(StrEnum):
    classification = "classification"
    multi_label = "multi_label"
    multiple_choice = "multiple_choice"
    generation = "generation"
    summarisation = "summarisation"
    translation = "translation"
    extractive_qa = "extractive_qa"
    language_modelling = "language_modelling"


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the suite.")],
    file: Annotated[Path, typer.Argument(help="Items: .csv, .tsv, .json, .jsonl or .parquet.")],
    task: Annotated[Task, typer.Option(help="What is asked of a model.")],
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Names of metrics, with commas; the first is the primary one. Absent: those usual for the task."
        ),
    ] = None,
    columns: Map = None,
    template: Annotated[str | None, typer.Option(help="Prompt template the items are asked with.")] = None,
    parser: Annotated[str | None, typer.Option(help="How an answer is read out of an output.")] = None,
    labels: Annotated[str | None, typer.Option(help="The only answers there are, with commas.")] = None,
    description: Annotated[str | None, typer.Option(help="A sentence about it.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Store the items of a file as a suite. The same items and settings again are the version there is.

    A row has `input` and a `label`, `labels` (multi-label) or `references`; or OpenAI's `messages`; or `input` and
    `output`. A text that is only scored (language modelling) is its `input`.

    Example: tunescope suites create intents test.csv --task classification --metrics accuracy,f1_macro
    --map text=input,category=label
    """
    with explained(console), Client(url, api_key) as client:
        suite = client.create_suite(
            name=name,
            task_type=task.value,
            items=suites.items(file, task_type=task.value, columns=_mapping(columns)),
            **_given(
                metrics=None if metrics is None else _listed(metrics),
                template=template,
                parser=parser,
                labels=labels and _listed(labels),
                description=description,
            ),
        )
    console.print(f"{_title(suite)}: {suite['n_items']:,} items, id {suite['id']}", soft_wrap=True)


@app.command(name="list")
def list_suites(
    name: Annotated[str | None, typer.Option(help="Only versions of this suite.")] = None,
    limit: Annotated[int, typer.Option(help="Suites to show.", min=1, max=1000)] = 100,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """The suites there are, newest first.

    Example: tunescope suites list
    """
    with explained(console), Client(url, api_key) as client:
        page = client.list_suites(name=name, limit=limit)
    # A name is what the other commands take: it is never cut.
    name_column = Column("suite", overflow="fold", min_width=16)
    table = Table(name_column, "version", "task", Column("items", justify="right"), "metrics", "created")
    for suite in page["items"]:
        created = datetime.fromtimestamp(suite["created_at"]).isoformat(" ", "minutes")
        metrics = ", ".join(suite["definition"]["metrics"])
        table.add_row(
            escape(suite["name"]), str(suite["version"]), suite["task_type"], f"{suite['n_items']:,}", metrics, created
        )
    console.print(table if page["items"] else "There is no suite yet: tunescope suites create NAME FILE")


@app.command()
def show(
    suite: Annotated[str, typer.Argument(help="Name (the newest version) or id of a suite.")],
    limit: Annotated[int, typer.Option(help="Items to show.", min=1, max=1000)] = 5,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """A suite, its first items, and what was scored on it.

    Example: tunescope suites show intents
    """
    with explained(console), Client(url, api_key) as client:
        found = _find(client, suite)
        items = client.suite_items(found["id"], limit=limit)["items"]
        evaluations = client.list_evaluations(suite_id=found["id"], limit=20)["items"]
    console.print(f"[bold]{_title(found)}[/]  {found['task_type']}, {found['n_items']:,} items, id {found['id']}")
    for key, value in found["definition"].items():
        if value is not None:
            shown = ", ".join(value) if isinstance(value, list) else str(value)
            console.print(f"[dim]{key}[/] {escape(shown)}")
    table = Table("id", "input", "expected")
    for item in items:
        table.add_row(escape(item["id"]), _cut(item["input"]), _cut(_expected(item)))
    console.print(table)
    for evaluation in evaluations:
        console.print(_scores(evaluation), soft_wrap=True)


@app.command()
def evaluate(
    suite: Annotated[str, typer.Argument(help="Name (the newest version) or id of a suite.")],
    file: Annotated[Path, typer.Argument(help="Predictions: .csv, .tsv, .json, .jsonl or .parquet.")],
    columns: Map = None,
    name: Annotated[str | None, typer.Option(help="What to call what was evaluated.")] = None,
    run: Annotated[str | None, typer.Option(help="Id of the run that made the model.")] = None,
    version: Annotated[str | None, typer.Option(help="Id of the model version.")] = None,
    step: Annotated[int | None, typer.Option(help="Training step of the checkpoint.", min=0)] = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Score the predictions of a file: the item's `id`, the `output`, and `parsed`, `probability` where it has them.

    Beside the output or instead of it: `label_scores` ({label: number}, for roc_auc, log_loss, …), `predicted_labels`
    (a list, for multi-label metrics), `nll`, `n_tokens`, `n_bytes` (perplexity, bits_per_byte), `n_samples`,
    `n_correct` (pass_at_k). In CSV, `label_scores` and `predicted_labels` are JSON.

    Example: tunescope suites evaluate intents answers.jsonl --name lora-r16 --map generated=output
    """
    with explained(console), Client(url, api_key) as client:
        found = _find(client, suite)
        evaluation = client.create_evaluation(
            suite_id=found["id"],
            predictions=suites.predictions(file, columns=_mapping(columns)),
            **_given(name=name, run_id=run, model_version_id=version, step=step),
        )
    console.print(_scores(evaluation), soft_wrap=True)
    unread = [(evaluation["n_missing"], "without an answer"), (evaluation["n_unparsed"], "without a readable answer")]
    for count, what in unread:
        if count:
            console.print(f"[yellow]{count:,} items {what}: they count as wrong (likelihoods: are left out).[/]")


def _expected(item: Json) -> str:
    if item["label"] is not None:
        return str(item["label"])
    return " | ".join(item["references"]) if item["labels"] is None else ", ".join(item["labels"])


def _find(client: Client, suite: str) -> Json:
    newest = client.list_suites(name=suite, limit=1)["items"]
    if newest:
        found: Json = newest[0]
        return found
    try:
        return client.get_suite(suite)
    except ApiError as error:
        if error.status != 404:
            raise
        raise TunescopeError(f"There is no suite '{suite}'. See: tunescope suites list") from None


def _mapping(columns: str | None) -> dict[str, str] | None:
    if columns is None:
        return None
    pairs = [pair.partition("=") for pair in columns.split(",")]
    if not all(name.strip() and field.strip() for name, _, field in pairs):
        raise TunescopeError(f"--map {columns}: write column=field, several with commas.")
    return {name.strip(): field.strip() for name, _, field in pairs}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _title(suite: Json) -> str:
    return f"{escape(suite['name'])} version {suite['version']}"


def _scores(evaluation: Json) -> str:
    """`lora-r16 on intents v1: accuracy 0.930 [0.919, 0.937], …`."""
    shown = []
    for score in evaluation["scores"]:
        bounds = score["interval"]
        interval = "" if bounds is None else f" \\[{bounds[0]:.3f}, {bounds[1]:.3f}]"
        shown.append(f"{score['name']} {'–' if score['value'] is None else format(score['value'], '.3f')}{interval}")
    suite = evaluation["suite"]
    who = escape(evaluation["name"] or evaluation["id"])
    return (
        f"[bold]{who}[/] on {escape(suite['name'])} v{suite['version']}, {evaluation['n']:,} items: {', '.join(shown)}"
    )


def _cut(text: str, width: int = 60) -> str:
    line = " ".join(text.split())
    return escape(line if len(line) <= width else line[: width - 1] + "…")
