"""What `tunescope data check` found, as one page of HTML that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]
ROWS = 50

STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 0.4rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; vertical-align: top; padding: 0.35rem 0.6rem; border-bottom: 1px solid #8884; }
td { overflow-wrap: anywhere; } .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.dim { opacity: 0.65; } li { margin: 0.2rem 0; }
.bar { background: #1f7fc4; height: 0.7rem; border-radius: 2px; min-width: 1px; }
"""


def page(found: Json) -> str:
    stored, quality, noise, leakage = (found[key] for key in ("dataset", "quality", "label_noise", "leakage"))
    warnings = quality["warnings"] + (leakage["warnings"] if leakage else [])
    said = "".join(f"<li>{html.escape(one['message'])}</li>" for one in warnings) or "<li>Nothing to look at.</li>"
    parts = [
        f"<h1>{html.escape(stored['name'])} v{stored['version']}</h1>",
        f'<p class="dim">{stored["n_items"]:,} items · {html.escape(stored["source"] or "")} · data hash '
        f"{html.escape(stored['data_hash'] or '')}</p><ul>{said}</ul>",
        _balance(quality["balance"]),
        _lengths(quality["input_lengths"]),
        _pairs("In training and in test", leakage["pairs"] if leakage else [], "Training", "Test"),
        _repeated(quality["duplicates"]),
        _pairs("Nearly the same", quality["near_duplicates"]["pairs"], "One", "Other"),
        _noise(noise),
    ]
    title = html.escape(f"Data check: {stored['name']}")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f"<!doctype html><html lang=en><head>{head}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> str:
    """Cells are HTML already."""
    if not rows:
        return ""
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[:ROWS])
    more = f'<p class="dim">The first {ROWS} of {total:,}.</p>' if total > ROWS else ""
    return f"<h2>{title}</h2><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>{more}"


def _balance(balance: Json) -> str:
    labels = balance["labels"]
    most = labels[0]["n"] if labels else 1
    rows = [
        [
            html.escape(one["label"]),
            f'<div class="n">{one["n"]:,}</div>',
            f'<div class="bar" style="width:{100 * one["n"] / most:.1f}%"></div>',
        ]
        for one in labels
    ]
    return _table("Labels", ["Label", "Items", ""], rows, balance["n_labels"])


def _lengths(lengths: Json | None) -> str:
    if lengths is None:
        return ""
    cells = [f'<div class="n">{value:,}</div>' for value in lengths["quantiles"].values()]
    return _table("Characters an input", list(lengths["quantiles"]), [cells], 1)


def _item(item: Json) -> str:
    answer = "" if item["answer"] is None else f" · {html.escape(item['answer'])}"
    return f'{html.escape(item["input"])}<br><span class="dim">{html.escape(item["id"])}{answer}</span>'


def _pairs(title: str, pairs: Sequence[Json], one: str, other: str) -> str:
    rows = [[f"{pair['similarity']:.2f}", _item(pair["first"]), _item(pair["second"])] for pair in pairs]
    return _table(title, ["Similarity", one, other], rows, len(pairs))


def _repeated(duplicates: Json) -> str:
    rows = [
        [
            f"{group['n']:,}",
            _item(group["items"][0]),
            "different answers" if group["conflicting"] else "",
            html.escape(", ".join(item["id"] for item in group["items"])),
        ]
        for group in duplicates["groups"]
    ]
    return _table("The same text", ["Times", "Text", "", "Items"], rows, duplicates["n_groups"])


def suggestion(one: Json) -> str:
    """What a model would label an item, and how likely that is; of several labels only what it would change."""
    said = one["suggested"]
    if one["doubts"]:
        said = ", ".join(f"{'without' if doubt['given'] else 'with'} {doubt['label']}" for doubt in one["doubts"])
    return f"{said} ({100 * one['probability']:.0f} %)"


def _noise(noise: Json) -> str:
    rows = [[_item(one), html.escape(suggestion(one))] for one in noise["candidates"]]
    return _table("Labels to look at", ["Item and its label", "The model says"], rows, noise["n_candidates"])
