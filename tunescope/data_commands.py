"""`tunescope data`: is a training set fit to train on, and a split of it into train, validation and test."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tunescope import _data_report, _items, _records
from tunescope._client import Client, Json
from tunescope._exceptions import TunescopeError
from tunescope.commands import ApiKey, Url, explained

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Check what a model is trained on, and split it. The service does the computing.",
    add_completion=False,
    epilog="Example: tunescope data check train.csv --test test.csv",
)
console = Console(highlight=False, emoji=False)
SHOWN = 5

File = Annotated[Path, typer.Argument(help="CSV, JSONL, JSON (a list of records) or Parquet.", show_default=False)]
TextColumn = Annotated[
    str | None, typer.Option(help="What the model is given.", show_default="text, input, prompt, question, …")
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="The label, or a list of labels.", show_default="label, category, intent, class, labels"),
]
AnswerColumn = Annotated[
    str | None, typer.Option(help="The text to answer with.", show_default="answer, output, completion, …")
]
Name = Annotated[str | None, typer.Option(help="Name of the data set in the service.", show_default="the file's")]
Threshold = Annotated[float, typer.Option(help="Least similarity of near-duplicates.", min=0.5, max=1.0)]


@app.command()
def check(
    train: File,
    test: Annotated[Path | None, typer.Option(help="A file of held-out rows: does training see them?")] = None,
    suite: Annotated[str | None, typer.Option(help="The same for a suite: its name (the newest version).")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    answer_column: AnswerColumn = None,
    group_column: Annotated[str | None, typer.Option(help="What rows belong to: a user, a document.")] = None,
    tags_column: Annotated[str | None, typer.Option(help="Tags, to see what is covered.")] = None,
    name: Name = None,
    threshold: Threshold = 0.8,
    report: Annotated[Path | None, typer.Option(help="Write all that was found to a .html or .json file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if anything is to be looked at.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Balance, lengths, duplicates, labels that are probably wrong; and what leaks into a test set.

    The rows are stored in the service as a data set: the dashboard's Data page shows the same.

    Example: tunescope data check train.csv --test test.csv --label-column category
    Example: tunescope data check train.jsonl --suite intents --report check.html
    """
    columns = _items.Columns(text_column, label_column, answer_column, group_column, tags_column)
    with explained(console), Client(url, api_key) as client:
        if report is not None and report.suffix.lower() not in (".html", ".json"):
            raise TunescopeError(f"{report}: a report is written as .html or .json.")
        if test is not None and suite is not None:
            raise TunescopeError("Say --test or --suite, not both.")
        stored = _store(client, train, columns, name)
        against = _against(client, test, suite, columns)
        found: Json = {
            "dataset": stored,
            "quality": client.dataset_quality(stored["id"], threshold),
            "label_noise": client.dataset_label_noise(stored["id"]),
            "leakage": None if against is None else client.leakage(stored["id"], against, threshold),
        }
        if report is not None:
            content = json.dumps(found, ensure_ascii=False, indent=1)
            report.write_text(content if report.suffix.lower() == ".json" else _data_report.page(found), "utf-8")
    warned = _say(found)
    if report is not None:
        console.print(f"Written to {report}", soft_wrap=True, markup=False)
    if strict and warned:
        raise typer.Exit(1)


def _store(client: Client, path: Path, columns: _items.Columns, name: str | None = None) -> Json:
    records = _records.read_records(path)
    return client.create_dataset(
        name or path.stem,
        _items.items(path, records, columns),
        source=path.name,
        data_hash=_records.fingerprint(records),
    )


def _against(client: Client, test: Path | None, suite: str | None, columns: _items.Columns) -> str | None:
    """The id of what is tested on."""
    if test is not None:
        return str(_store(client, test, columns)["id"])
    if suite is None:
        return None
    found = client.list_suites(name=suite, limit=1)["items"]
    if not found:
        names = sorted({one["name"] for one in client.list_suites(limit=1000)["items"]})
        raise TunescopeError(f"There is no suite '{suite}'." + (f" There are: {', '.join(names)}." if names else ""))
    return str(found[0]["id"])


def _say(found: Json) -> int:
    """Print what was found; answers how many warnings there are."""
    stored, quality, noise, leakage = (found[key] for key in ("dataset", "quality", "label_noise", "leakage"))
    labels = quality["balance"]
    console.print(f"[bold]{escape(stored['name'])}[/] v{stored['version']}: {stored['n_items']:,} items", end="")
    console.print(f", {labels['n_labels']:,} labels" if labels["n_labels"] else "")
    warnings = quality["warnings"] + (leakage["warnings"] if leakage else [])
    for warned in warnings:
        console.print(f"[yellow]![/] {escape(warned['message'])}", soft_wrap=True)
    if noise["n_candidates"]:
        share = f"{100 * noise['n_candidates'] / noise['judged']:.1f} %"
        right = f"it is right for {100 * noise['accuracy']:.0f} % of all"
        doubt = f"labels ({share}) are doubtful: a model that learns from the others would give another label ({right})"
        if noise["multi_label"]:
            doubt = (
                f"items ({share}) have doubtful labels: a model that learns from the others would change them ({right})"
            )
        console.print(f"[yellow]![/] {noise['n_candidates']:,} {doubt}.", soft_wrap=True)
    if not warnings and not noise["n_candidates"]:
        console.print("[green]✓[/] Nothing to look at.")
    if leakage and leakage["pairs"]:
        _pairs("In training and test", leakage["pairs"], "train", "test")
    if quality["near_duplicates"]["pairs"]:
        _pairs("Nearly the same", quality["near_duplicates"]["pairs"], "item", "item")
    if noise["candidates"]:
        table = Table("item", Column("text", ratio=1), "label", "the model says", title="Labels to look at")
        for one in noise["candidates"][:SHOWN]:
            likely = escape(_data_report.suggestion(one))
            table.add_row(escape(one["id"]), _short(one["input"]), escape(one["answer"] or ""), likely)
        console.print(table)
    return len(warnings) + int(noise["n_candidates"] > 0)


def _pairs(title: str, pairs: list[Json], one: str, other: str) -> None:
    table = Table("similarity", Column(one, ratio=1), Column(other, ratio=1), title=title)
    for pair in pairs[:SHOWN]:
        first, second = (
            f"{_short(item['input'])} [dim]{escape(item['id'])}[/]" for item in (pair["first"], pair["second"])
        )
        table.add_row(f"{pair['similarity']:.2f}", first, second)
    console.print(table)


def _short(text: str) -> str:
    return escape(" ".join(text.split())[:200])


@app.command()
def split(
    file: File,
    out: Annotated[Path, typer.Option(help="Folder to write the parts and manifest.json to.", show_default=False)],
    seed: Annotated[int, typer.Option(help="Another seed, another split.", min=0)] = 0,
    stratify: Annotated[
        str | None, typer.Option(help="Column of labels: every part gets each in the same share.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column of what stays together: a user, a document.")] = None,
    kfold: Annotated[int | None, typer.Option(help="So many folds instead of parts.", min=2, max=100)] = None,
    shares: Annotated[
        str | None,
        typer.Option(help="As 80/20 (train/test) or 70/15/15.", show_default="70/15/15, from 10,000 rows 80/10/10"),
    ] = None,
    near_duplicates: Annotated[
        float | None, typer.Option(help="Keep texts of at least this similarity together.", min=0.5, max=1.0)
    ] = None,
    text_column: TextColumn = None,
    name: Name = None,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Split a file into train, validation and test, or into folds.

    The same rows and seed give the same split, in whatever order the rows are; rows with the same text are never on two
    sides. Rows that are added later move only few of the others: each goes by a hash of its text and the seed, and the
    parts are cut where the shares are reached.

    Example: tunescope data split all.csv --out data --stratify label --seed 0
    Example: tunescope data split chats.jsonl --out folds --group user_id --kfold 5
    """
    with explained(console), Client(url, api_key) as client:
        records = _records.read_records(file)
        columns = _items.Columns(text=text_column, label=stratify, group=group)
        asked = {
            "seed": seed,
            "stratify": stratify is not None,
            "folds": kfold,
            "shares": shares,
            "near_duplicates": near_duplicates,
        }
        whole = _records.fingerprint(records)
        items = _items.items(file, records, columns)
        stored = client.create_dataset(name or file.stem, items, source=file.name, data_hash=whole)
        found = client.split_dataset(stored["id"], **asked)
        written = _write(out, file, records, found)
        manifest = {
            "source": file.name,
            "data_hash": whole,
            "dataset_id": stored["id"],
            **asked,
            "stratify": stratify,
            "group": group,
            "parts": written,
        }
        (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    for warned in found["warnings"]:
        console.print(f"[yellow]![/] {escape(warned['message'])}", soft_wrap=True)
    for part in written:
        share = 100 * part["rows"] / len(records)
        console.print(f"{part['file']}  {part['rows']:,} rows ({share:.1f} %)", markup=False)


def _write(out: Path, file: Path, records: list[_records.Record], found: Json) -> list[dict[str, Any]]:
    """A file a part, each put in place whole; of folds, each is the held-out part of one."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for number, part in enumerate(found["parts"]):
        rows = [record for record, own in zip(records, found["assignment"], strict=True) if own == number]
        path = out / f"{part['name']}{file.suffix.lower()}"
        beside = path.with_name(f".{path.name}")
        _records.write_records(beside, rows, like=file)
        beside.replace(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        hashes = {"sha256": sha256, "data_hash": _records.fingerprint(_records.read_records(path))}
        written.append({"name": part["name"], "file": path.name, "rows": len(rows), **hashes})
    return written
