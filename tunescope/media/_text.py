"""Text samples and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunescope._values import to_plain
from tunescope.media._media import JSON, Frozen, Media, MediaProblem, json_content, ready

__all__ = ["Table", "Text"]


class Text(Media):
    """A text: a prompt with its completion, a sample of what a model writes. Shown as it is, never as markup."""

    kind = "text"

    def __init__(self, text: str, caption: str | None = None) -> None:
        super().__init__(caption)
        self.text = text

    def freeze(self) -> Frozen:
        text = to_plain(str(self.text))
        return ready(self, text.encode(), "text/plain", {"characters": len(text)})


class Table(Media):
    """Rows of values: `Table(columns, rows)`, `Table(rows=[{"input": …, "output": …}, …])` or `Table(rows=frame)`.

    Rows are lists in the order of the columns, or dictionaries; a pandas DataFrame brings its own columns. Cells are
    anything that has a form in JSON; what has none is kept as its text.
    """

    kind = "table"

    def __init__(self, columns: Sequence[str] | None = None, rows: Any = (), caption: str | None = None) -> None:
        super().__init__(caption)
        self.columns = columns
        self.rows = rows

    def freeze(self) -> Frozen:
        columns, rows = self._cells()
        wrong = next((place for place, row in enumerate(rows) if len(row) != len(columns)), None)
        if wrong is not None:
            raise MediaProblem(f"row {wrong} has {len(rows[wrong])} cells, the table has {len(columns)} columns")
        plain = {"columns": [to_plain(str(name)) for name in columns], "rows": to_plain(rows)}
        return ready(self, json_content(plain), JSON, {"rows": len(rows), "columns": len(columns)})

    def _cells(self) -> tuple[list[Any], list[list[Any]]]:
        if hasattr(self.rows, "itertuples"):
            frame = self.rows if self.columns is None else self.rows[list(self.columns)]
            held = frame.astype(object).where(frame.notna(), None)  # what is missing is no text "NaN"
            return list(frame.columns), [list(row) for row in held.itertuples(index=False, name=None)]
        rows = list(self.rows)
        if rows and all(isinstance(row, Mapping) for row in rows):
            names = self.columns if self.columns is not None else dict.fromkeys(name for row in rows for name in row)
            return list(names), [[row.get(name) for name in names] for row in rows]
        if self.columns is None:
            raise MediaProblem("a table of lists needs the names of its columns")
        return list(self.columns), [list(row) for row in rows]
